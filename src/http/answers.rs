//! The answers of the OpenAPI document that no handler has to name: the problems of each status, with an example of each code,
//! and the headers. Answers that are the same everywhere are written once, under the components, and referred to.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::json;
use utoipa::openapi::{
    Content, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Responses,
    schema::{ObjectBuilder, SchemaType, Type},
};

use super::{
    problem,
    problem_codes::{self, ProblemCode},
};

/// What may become of any request: what the server refuses before it knows the operation, and bugs.
pub(super) const OF_EVERY_OPERATION: [&str; 6] = [
    "malformed_request",
    "request_timeout",
    "uri_too_long",
    "headers_too_large",
    "internal_error",
    "too_many_connections",
];

/// The codes whose answer is written once, and its name. The last two are of requests that no operation takes.
const SHARED: [(&str, &str); 4] = [
    ("uri_too_long", "UriTooLong"),
    ("headers_too_large", "HeadersTooLarge"),
    ("unknown_route", "UnknownRoute"),
    ("method_not_allowed", "MethodNotAllowed"),
];

/// Adds the answers that operations refer to, and those to requests that no operation takes.
pub(super) fn add_shared(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (code, name) in SHARED {
        let Some(code) = problem_codes::find(code) else { continue };
        let mut response = problem_response(&[code]);
        add_request_id(&mut response);
        if code.status == StatusCode::METHOD_NOT_ALLOWED.as_u16() {
            add_header(&mut response, "Allow", "The methods that the path takes.");
        }
        components.responses.insert(name.to_owned(), RefOr::T(response));
    }
}

/// Adds the problems with these codes.
pub(super) fn add_problems(responses: &mut Responses, codes: &[&str]) {
    for (status, codes) in by_status(codes) {
        // No other code has the status of one that is shared with operations.
        let shared = SHARED.iter().find(|(code, _)| codes.iter().any(|one| one.code == *code));
        let response = shared.map_or_else(
            || RefOr::T(problem_response(&codes)),
            |(_, name)| RefOr::Ref(Ref::from_response_name(*name)),
        );
        responses.responses.insert(status, response);
    }
}

/// Says of the answers that are stored that they may be those to an earlier request: what took effect, and refusals for good.
pub(super) fn add_replayed(responses: &mut Responses) {
    let is_stored = |status: &str| status.starts_with('2') || ["402", "409"].contains(&status);
    for (_, response) in own(responses).filter(|(status, _)| is_stored(status)) {
        let replayed = "`true`: the answer that the same request got before.";
        add_header(response, "Idempotent-Replayed", replayed);
    }
}

/// Adds what all answers have: a description and headers.
pub(super) fn complete(responses: &mut Responses, needs_key: bool) {
    for (status, response) in own(responses) {
        describe(status, response);
        add_request_id(response);
        let trace = "`00-trace_id-span_id-flags`: the trace that the request belongs to.";
        add_header(response, "traceresponse", trace);
        // Who has no valid key has no allowance.
        if needs_key && *status != StatusCode::UNAUTHORIZED.as_u16().to_string() {
            let left = "`\"default\";r=…;t=…`: how many requests the client may send now, and in how many seconds as many \
                        as ever. Not sent where the deployment sets no limit.";
            add_header(response, "RateLimit", left);
            let policy = "`\"default\";q=…;w=…`: how many requests it may send at once, and in how many seconds they come \
                          back. Not sent where the deployment sets no limit.";
            add_header(response, "RateLimit-Policy", policy);
        }
    }
}

/// The answers that are no references.
fn own(responses: &mut Responses) -> impl Iterator<Item = (&String, &mut Response)> {
    responses.responses.iter_mut().filter_map(|(status, response)| match response {
        RefOr::T(response) => Some((status, response)),
        RefOr::Ref(_) => None,
    })
}

fn by_status(codes: &[&str]) -> BTreeMap<String, Vec<&'static ProblemCode>> {
    let mut by_status = BTreeMap::<String, Vec<&'static ProblemCode>>::new();
    for code in codes.iter().filter_map(|code| problem_codes::find(code)) {
        let codes = by_status.entry(code.status.to_string()).or_default();
        if !codes.iter().any(|known| known.code == code.code) {
            codes.push(code);
        }
    }
    by_status
}

fn problem_response(codes: &[&'static ProblemCode]) -> Response {
    let lines: Vec<String> =
        codes.iter().map(|code| format!("- `{}`: {}", code.code, code.meaning)).collect();
    let mut content = Content::new(Some(Ref::from_schema_name("Problem")));
    let example = |code: &ProblemCode| json!({ "summary": code.code, "value": problem::example(code) });
    content.examples = codes
        .iter()
        .filter_map(|code| Some((code.code.to_owned(), serde_json::from_value(example(code)).ok()?)))
        .collect();
    let response =
        ResponseBuilder::new().description(lines.join("\n")).content(problem::CONTENT_TYPE, content);
    let retryable = codes.iter().any(|code| code.retryable);
    let retry_after = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(SchemaType::Type(Type::Integer)).build()))
        .description(Some("Seconds to wait before asking again."))
        .build();
    if retryable { response.header("Retry-After", retry_after).build() } else { response.build() }
}

/// An answer that a handler says nothing of has the name of its status.
fn describe(status: &str, response: &mut Response) {
    if response.description.is_empty() {
        let name = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        name.unwrap_or_default().clone_into(&mut response.description);
    }
}

fn add_request_id(response: &mut Response) {
    add_header(response, "X-Request-Id", "The id of the request: the client's own where it sent one.");
}

fn add_header(response: &mut Response, name: &str, description: &str) {
    let header = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build()))
        .description(Some(description))
        .build();
    response.headers.insert(name.to_owned(), header.into());
}
