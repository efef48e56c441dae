//! Problem documents (RFC 9457): the only table from errors to status codes.
//!
//! `code` is stable and is what programs act on. A 5xx never carries its cause: that is logged, once, here.

use std::{any::Any, fmt::Display};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{body::BodyFailure, metrics, problem_codes::ProblemCode, server::Refusal};
use crate::{
    app::{Conflict, Error, WebhookError},
    domain::validation::{FieldError, Invalid},
};

/// The media type of a problem document.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error as the client sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Where the code is explained.
    #[serde(rename = "type")]
    type_uri: String,
    /// The name of the status.
    title: &'static str,
    /// The status.
    status: u16,
    /// What went wrong: stable, for programs.
    code: &'static str,
    /// What went wrong, for people.
    detail: String,
    /// Whether the same request may succeed later without anybody changing it.
    retryable: bool,
    /// The wrong fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(flatten)]
    #[schema(ignore)]
    conflict: Option<Conflict>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
    /// Whether the connection ends with this answer, because the rest of the request is not read.
    #[serde(skip)]
    closes: bool,
}

impl Problem {
    /// A problem that the client has to mend.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("/problems/{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            retryable: false,
            errors: Vec::new(),
            conflict: None,
            retry_after_seconds: None,
            closes: false,
        }
    }

    /// Names the wrong fields.
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Says that the same request may succeed later.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retryable = true;
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Says that the connection ends with this answer.
    fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Names one wrong field.
    pub fn field(status: StatusCode, code: &'static str, pointer: &str, detail: impl Into<String>) -> Self {
        let error = FieldError { pointer: pointer.to_owned(), detail: detail.into() };
        Self::new(status, code, format!("{pointer} {}", error.detail)).with_errors(vec![error])
    }

    /// The request is understood and asks for something that cannot be.
    pub fn invalid(invalid: Invalid) -> Self {
        let Invalid { rule, errors } = invalid;
        let detail = errors.first().map_or_else(String::new, ToString::to_string);
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, rule.code(), detail).with_errors(errors)
    }

    /// There is no such thing.
    pub fn not_found(kind: &'static str, id: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no {kind} {id}"))
    }

    /// Nothing was begun: the same request may be sent again.
    fn request_timeout(detail: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail);
        problem.retryable = true;
        problem
    }

    /// Whether asking again can never help: see [`Conflict::is_final`].
    pub(super) fn is_final(&self) -> bool {
        self.conflict.as_ref().is_some_and(Conflict::is_final)
    }

    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "an unexpected error occurred; it was logged",
        )
    }
}

impl IntoResponse for Problem {
    /// An empty answer that carries the problem; `render` writes the body once the request id is known.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.closes {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem document (RFC 9457). The facts of a conflict stand beside these fields; the code says which.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Document<'a> {
    #[serde(flatten)]
    problem: &'a Problem,
    /// The path of the request.
    instance: &'a str,
    /// The id of the request, also in the logs.
    request_id: &'a str,
}

/// The document of a problem with this code, as an example.
pub(super) fn example(code: &ProblemCode) -> impl Serialize {
    let status = StatusCode::from_u16(code.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem { retryable: code.retryable, ..Problem::new(status, code.code, code.meaning) };
    let document = Document {
        problem: &problem,
        instance: "/v1/orders",
        request_id: "req_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c",
    };
    serde_json::to_value(document).unwrap_or_default()
}

/// Writes the body of an answer that carries a problem.
pub(super) fn render(mut response: Response, request_id: &str, instance: &str) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    metrics::problem(problem.code);
    let document = Document { problem: &problem, instance, request_id };
    let mut rendered = (response.status(), Json(document)).into_response();
    for (name, value) in response.headers() {
        if name != header::CONTENT_LENGTH {
            rendered.headers_mut().insert(name, value.clone());
        }
    }
    rendered.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    rendered
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        match error {
            Error::Invalid(invalid) => Self::invalid(invalid),
            Error::NotFound { kind, id } => Self::not_found(kind, id),
            Error::Conflict(conflict) => conflict.into(),
            Error::IdempotencyKeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", error.to_string())
            }
            Error::Webhook(WebhookError::Signature(_)) => {
                tracing::warn!(%error, "a webhook was refused");
                Self::new(StatusCode::BAD_REQUEST, "webhook_signature_invalid", error.to_string())
            }
            Error::Webhook(WebhookError::Unreadable(_)) => {
                tracing::warn!(%error, "a webhook was refused");
                Self::new(StatusCode::BAD_REQUEST, "malformed_json", error.to_string())
            }
            Error::Overloaded { .. } => {
                let detail = "too many orders are waiting; nothing was changed";
                Self::new(unavailable, "overloaded", detail).retry_after(1)
            }
            Error::EventsDelayed { .. } => {
                let detail = "events wait too long, or too many do; nothing was changed";
                Self::new(unavailable, "events_delayed", detail).retry_after(5)
            }
            Error::Lock(error) => {
                tracing::warn!(%error, "locks unavailable");
                Self::new(
                    unavailable,
                    "lock_unavailable",
                    "the SKUs' locks were not to be had; nothing was changed",
                )
                .retry_after(1)
            }
            Error::Store(error) if error.is_transient() => {
                tracing::warn!(%error, "database unavailable");
                Self::new(
                    unavailable,
                    "database_unavailable",
                    "the database is unavailable; nothing was changed",
                )
                .retry_after(1)
            }
            Error::Unknown(error) => {
                tracing::error!(%error, "outcome unknown");
                let detail = "it may have taken effect or not: to find out, send it again with the same Idempotency-Key, or \
                              read what it was to change where it has none";
                Self::new(unavailable, "outcome_unknown", detail).retry_after(1)
            }
            Error::Store(error) => {
                tracing::error!(%error, "internal error");
                Self::internal()
            }
            Error::Provider(error) => {
                tracing::error!(%error, "internal error");
                Self::internal()
            }
        }
    }
}

impl From<Conflict> for Problem {
    fn from(conflict: Conflict) -> Self {
        let status = match conflict {
            Conflict::PaymentDeclined { .. } => StatusCode::PAYMENT_REQUIRED,
            // What was asked for is too much, whatever the state of the order.
            Conflict::PurchaseLimitExceeded { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Conflict::VersionConflict { .. } => StatusCode::PRECONDITION_FAILED,
            Conflict::EventsNoLongerKept { .. } => StatusCode::GONE,
            _ => StatusCode::CONFLICT,
        };
        let mut problem = Self::new(status, conflict.code(), conflict.to_string());
        problem.conflict = Some(conflict);
        problem
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let problem = match refusal {
            Refusal::Malformed(detail) => Self::new(StatusCode::BAD_REQUEST, "malformed_request", detail),
            Refusal::HeadTooLarge => {
                Self::new(too_large, "headers_too_large", "the request line and the headers are too long")
            }
            Refusal::TooManyHeaders => {
                Self::new(too_large, "headers_too_large", "a request must have at most 100 headers")
            }
            Refusal::TargetTooLong => {
                Self::new(StatusCode::URI_TOO_LONG, "uri_too_long", "the path and the query are too long")
            }
            Refusal::HeadTooSlow => Self::request_timeout("the headers did not come in time"),
            Refusal::TooManyConnections => {
                let detail = "too many connections are open; nothing was changed";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", detail).retry_after(1)
            }
        };
        problem.closing()
    }
}

impl From<BodyFailure> for Problem {
    fn from(failure: BodyFailure) -> Self {
        let problem = match failure {
            BodyFailure::TooLarge { most } => {
                let detail = format!("the body must be at most {most} bytes");
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
            }
            BodyFailure::TooSlow => Self::request_timeout("the body did not come in time"),
            BodyFailure::Broken => {
                let detail = "the body ended early, or its chunks are malformed";
                Self::new(StatusCode::BAD_REQUEST, "malformed_request", detail)
            }
        };
        problem.closing()
    }
}

impl From<crate::store::Error> for Problem {
    fn from(error: crate::store::Error) -> Self {
        Error::from(error).into()
    }
}

pub(super) async fn unknown_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_route", "there is nothing at this path")
}

/// A page, or what is answered where there is none: whoever serves pages has no problem documents.
pub(super) async fn page_or_unknown(page: Response) -> Response {
    if page.status().is_client_error() { unknown_route().await.into_response() } else { page }
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}

/// A handler panicked: a bug. The client learns only that.
#[expect(clippy::needless_pass_by_value, reason = "a caught panic hands its cause over")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let cause =
        cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = cause.unwrap_or("unknown"), "a handler panicked");
    Problem::internal().into_response()
}
