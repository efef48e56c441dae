//! Problem documents (RFC 9457): the only table from errors to status codes.
//!
//! `code` is stable and is what programs act on. A 5xx never carries its cause: that is logged, once, here.

use std::any::Any;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    app::{Conflict, Error},
    domain::validation::FieldError,
};

/// The media type of a problem document.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error as the client sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    type_uri: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
    /// Whether the same request may succeed later without anybody changing it.
    retryable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(flatten)]
    conflict: Option<Conflict>,
    #[serde(skip)]
    retry_after_seconds: Option<u32>,
}

impl Problem {
    /// A problem that the client has to mend.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            type_uri: format!("urn:holdfast:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            retryable: false,
            errors: Vec::new(),
            conflict: None,
            retry_after_seconds: None,
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

    /// Names one wrong field.
    pub fn field(status: StatusCode, code: &'static str, pointer: &str, detail: impl Into<String>) -> Self {
        let error = FieldError { pointer: pointer.to_owned(), detail: detail.into() };
        Self::new(status, code, format!("{pointer} {}", error.detail)).with_errors(vec![error])
    }

    /// The request is understood and asks for something that is not allowed.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or_else(String::new, |e| format!("{} {}", e.pointer, e.detail));
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail).with_errors(errors)
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
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of an answer that carries a problem.
pub(super) fn render(mut response: Response, request_id: &str, instance: &str) -> Response {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(flatten)]
        problem: &'a Problem,
        instance: &'a str,
        request_id: &'a str,
    }
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
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
            Error::Invalid(errors) => Self::invalid(errors),
            Error::UnknownSku(errors) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unknown_sku",
                "the request names SKUs that are not known",
            )
            .with_errors(errors),
            Error::AmountExceedsAuthorized { capturable } => Self::field(
                StatusCode::UNPROCESSABLE_ENTITY,
                "amount_exceeds_authorized",
                "/amount",
                format!("must be 1 to {capturable}, which is authorized and due"),
            ),
            Error::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "not_found", error.to_string()),
            Error::Conflict(conflict) => {
                let mut problem = Self::new(StatusCode::CONFLICT, conflict.code(), conflict.to_string());
                problem.conflict = Some(conflict);
                problem
            }
            Error::IdempotencyKeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", error.to_string())
            }
            Error::Overloaded { .. } => {
                let detail = "too many orders are waiting; nothing was changed";
                Self::new(unavailable, "overloaded", detail).retry_after(1)
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
                let detail = "it may have taken effect or not; send it again with the same Idempotency-Key to find out";
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

impl From<crate::store::Error> for Problem {
    fn from(error: crate::store::Error) -> Self {
        Error::from(error).into()
    }
}

pub(super) async fn unknown_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_route", "there is nothing at this path")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take this method")
}

/// A handler panicked: a bug. The client learns only that.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the cause over")]
pub(super) fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let cause =
        cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    tracing::error!(cause = cause.unwrap_or("unknown"), "a handler panicked");
    Problem::internal().into_response()
}
