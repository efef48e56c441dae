//! How answers are sent that may be stored ones. What their headers say follows from the body, so a repetition of the request
//! gets the headers that the first one got.

use std::borrow::Cow;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{if_match::etag, metrics, problem};
use crate::app::Answer;

/// What an answer tells of the thing that it is about.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    version: Option<i64>,
}

/// A stored or new answer, as it is sent.
pub(super) fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    let is_problem = status.is_client_error() || status.is_server_error();
    let content_type = if is_problem { problem::CONTENT_TYPE } else { "application/json" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if answer.replayed {
        metrics::replayed();
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// The same, with the entity tag of the order that it is.
pub(super) fn respond_with_order(answer: Answer) -> Response {
    let tag = told(&answer).and_then(|told| told.version).map(etag);
    (tag, respond(answer)).into_response()
}

/// The same, with the place of the order too.
pub(super) fn respond_with_new_order(answer: Answer) -> Response {
    let told = told(&answer);
    let place = told.as_ref().and_then(|told| location_of(&told.id, "/v1/orders"));
    let tag = told.and_then(|told| told.version).map(etag);
    (place, tag, respond(answer)).into_response()
}

/// The same, with the place of the thing in `collection` that it is.
pub(super) fn respond_with_new(answer: Answer, collection: &str) -> Response {
    let place = location(&answer, collection);
    (place, respond(answer)).into_response()
}

/// Where the thing is that was made, if one was.
pub(super) fn location(answer: &Answer, collection: &str) -> Option<[(HeaderName, HeaderValue); 1]> {
    location_of(&told(answer)?.id, collection)
}

/// Where the thing with this id is.
pub(super) fn location_of(id: &str, collection: &str) -> Option<[(HeaderName, HeaderValue); 1]> {
    let place = HeaderValue::from_str(&format!("{collection}/{id}")).ok()?;
    Some([(header::LOCATION, place)])
}

/// A refusal tells of nothing.
fn told(answer: &Answer) -> Option<Told<'_>> {
    if answer.status >= 300 {
        return None;
    }
    serde_json::from_str(&answer.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: u16, body: &str) -> (Option<String>, Option<String>) {
        let answer = Answer { status, body: body.to_owned(), replayed: true };
        let response = respond_with_new_order(answer);
        assert_eq!(response.headers()["idempotent-replayed"], "true");
        let text = |name| {
            response.headers().get(name).map(|value: &HeaderValue| value.to_str().expect("ASCII").to_owned())
        };
        (text(header::LOCATION), text(header::ETAG))
    }

    #[test]
    fn place_and_version_are_those_of_the_body() {
        let order = r#"{"id":"ord_1","lines":[{"id":"line_1"}],"version":7}"#;
        assert_eq!(headers(201, order), (Some("/v1/orders/ord_1".into()), Some("\"7\"".into())));
        assert_eq!(headers(201, r#"{"id":"ord_1"}"#), (Some("/v1/orders/ord_1".into()), None));
        assert_eq!(headers(409, order), (None, None));
    }
}
