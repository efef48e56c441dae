//! What the API says of itself: OpenAPI 3.1, made from the handlers. It is also the only place that says which scope an
//! operation asks for, and that is what `auth` enforces ([`access`]).
//!
//! A handler says what is its own: path, scope, body, answers, and by `x-problems` the codes of its refusals. What all
//! operations of a kind have in common is added here ([`complete`]).

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::json;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Content, HeaderBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{HttpMethod, Operation, Parameter, ParameterBuilder, ParameterIn},
        schema::{ObjectBuilder, Schema, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    ApiState,
    access::{self, Access},
    idempotency,
    if_match::EntityTags,
    inventory::LevelCursor,
    links, problem,
    problem_codes::{self, ProblemCode},
};
use crate::domain::{
    bounds::{EventPlace, HoldSeconds, PageSize, RowNumber},
    new_order::OrderLimits,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "Order processing that does not oversell, does not charge twice and does not lose an event.\n\n\
            Amounts are integers in the minor unit of their currency; no integer is written with a fraction. Every POST takes an `Idempotency-Key` and takes \
            effect once. Every error is a problem document (RFC 9457) whose `code` is stable: see `/problems`. A request may carry \
            `X-Request-Id` and `traceparent` (W3C Trace Context).",
        license(name = "MIT", identifier = "MIT")
    ),
    servers((url = "/")),
    tags(
        (name = "orders", description = "Placing, changing and canceling orders"),
        (name = "payments", description = "Paying orders, and sending money back"),
        (name = "shipments", description = "What leaves for the customer, and comes back"),
        (name = "events", description = "What happened: pages, or a stream (Server-Sent Events)"),
        (name = "inventory", description = "Stock: levels, changes, history"),
        (name = "purchase limits", description = "How many units of a SKU one customer may buy over all its orders"),
        (name = "API keys", description = "Who may call, and what"),
        (name = "contract", description = "What the API says of itself"),
        (name = "operation", description = "For those who run it"),
    ),
    components(schemas(problem::Document, ProblemCode, EntityTags, EventPlace, LevelCursor, PageSize, RowNumber)),
    modifiers(&Bearer)
)]
struct Description;

/// The API keys.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let description = "An API key: `Authorization: Bearer hf_…`";
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme(access::API_KEY, SecurityScheme::Http(scheme));
    }
}

/// The document without operations.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

/// The document as text, made once.
#[derive(Debug, Clone)]
pub(super) struct Text(Arc<str>);

/// Every operation with its method.
pub(super) fn operations(
    document: &mut utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    document.paths.paths.values_mut().flat_map(|item| {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Delete, &mut item.delete),
        ];
        operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
    })
}

/// Adds to each operation what all of its kind have in common, and to the schemas what the deployment decides.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi, limits: &OrderLimits) -> Text {
    for (method, operation) in operations(document) {
        complete_operation(&method, operation);
    }
    links::add(document);
    let hold = document.components.as_mut().and_then(|all| all.schemas.get_mut(HoldSeconds::name().as_ref()));
    if let Some(RefOr::T(Schema::Object(hold))) = hold {
        hold.maximum = Some(limits.max_ttl_seconds.into());
    }
    // Invariant: the document is made of what serializes.
    Text(document.to_json().unwrap_or_default().into())
}

fn complete_operation(method: &HttpMethod, operation: &mut Operation) {
    let needs_key = matches!(access::of(operation), Some(Access::Key(_)));
    let mut codes: Vec<&str> = vec!["internal_error"];
    let own = operation.extensions.as_mut().and_then(|extensions| extensions.remove("x-problems"));
    let own: Vec<String> = own.and_then(|codes| serde_json::from_value(codes).ok()).unwrap_or_default();
    codes.extend(own.iter().map(String::as_str));
    if needs_key {
        codes.extend(["unauthenticated", "insufficient_scope", "rate_limited", "database_unavailable"]);
    }
    if needs_key && *method != HttpMethod::Get {
        codes.push("outcome_unknown");
    }
    if operation.request_body.is_some() {
        codes.extend([
            "malformed_request",
            "request_timeout",
            "malformed_json",
            "body_too_large",
            "unsupported_media_type",
            "validation_failed",
        ]);
    }
    let parameters = operation.parameters.get_or_insert_default();
    if needs_key && *method == HttpMethod::Post {
        codes.extend(["idempotency_key_missing", "idempotency_key_invalid", "idempotency_key_in_use"]);
        codes.push("idempotency_key_reused");
        parameters.push(RefOr::T(idempotency_key()));
        let replayed = "`true`: the answer that the same request got before.";
        for response in operation.responses.responses.values_mut() {
            add_header(response, "Idempotent-Replayed", replayed);
        }
    }
    if parameters.iter().any(is_query) {
        codes.push("validation_failed");
    }
    for parameter in parameters {
        if let RefOr::T(parameter) = parameter {
            parameter.schema = parameter.schema.take().map(without_null);
        }
    }
    for (status, codes) in by_status(&codes) {
        operation.responses.responses.insert(status, RefOr::T(problem_response(&codes)));
    }
    for (status, response) in &mut operation.responses.responses {
        describe(status, response);
        add_header(response, "X-Request-Id", "The id of the request: the client's own where it sent one.");
        let trace = "`00-trace_id-span_id-flags`: the trace that the request belongs to.";
        add_header(response, "traceresponse", trace);
    }
}

/// A parameter may be absent. It is never null, as what is optional in a body may be.
fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let is_null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    match schema {
        RefOr::T(Schema::OneOf(mut choice)) => {
            choice.items.retain(|item| !is_null(item));
            match choice.items.pop() {
                Some(only) if choice.items.is_empty() => only,
                last => {
                    choice.items.extend(last);
                    RefOr::T(Schema::OneOf(choice))
                }
            }
        }
        RefOr::T(Schema::Object(mut object)) => {
            if let SchemaType::Array(mut types) = object.schema_type.clone() {
                types.retain(|one| *one != Type::Null);
                if let [only] = types.as_slice() {
                    object.schema_type = SchemaType::Type(only.clone());
                }
            }
            RefOr::T(Schema::Object(object))
        }
        other => other,
    }
}

fn is_query(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query)
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
fn describe(status: &str, response: &mut RefOr<Response>) {
    if let RefOr::T(response) = response
        && response.description.is_empty()
    {
        let name = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        name.unwrap_or_default().clone_into(&mut response.description);
    }
}

fn add_header(response: &mut RefOr<Response>, name: &str, description: &str) {
    if let RefOr::T(response) = response {
        let header = HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build()))
            .description(Some(description))
            .build();
        response.headers.insert(name.to_owned(), header.into());
    }
}

fn idempotency_key() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(idempotency::KEY_PATTERN))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some("New for each new request. The same key and body again get the same answer."))
        .schema(Some(schema))
        .build()
}

/// This document.
#[utoipa::path(
    get, operation_id = "read_openapi", path = "/openapi.json", tag = "contract", security(()),
    responses((status = 200, body = serde_json::Value))
)]
pub(super) async fn read(State(state): State<ApiState>) -> impl IntoResponse {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], state.openapi.0.to_string())
}
