//! Every request has an id: the client's `X-Request-Id` where it is usable, a new one where not. It is in the answer, in
//! problem documents, in the logs, and as correlation id in the events that follow.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use tracing::{Instrument as _, field::Empty};
use uuid::Uuid;

use super::{
    body::BodyLimits,
    metrics::{self, Observed},
    problem::{self, Problem},
    server::Refusal,
    trace_context::{self, TraceContext},
};
use crate::{app::Cause, domain::trace_parent::TraceParent, telemetry::spans};

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of the request being answered.
#[derive(Debug, Clone)]
pub(super) struct RequestId {
    pub(super) id: Arc<str>,
    trace_parent: Option<TraceParent>,
}

impl RequestId {
    /// What the changes of this request follow from.
    pub(super) fn cause(&self) -> Cause {
        Cause {
            correlation_id: Some(self.id.to_string()),
            causation_id: None,
            trace_parent: self.trace_parent,
        }
    }
}

/// What every request is given: its id, its place in a trace, and the limits of its body, which its route may widen. A handler
/// that panics ends its request only.
pub(super) async fn identify(State(limits): State<BodyLimits>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
    // What a client sends goes into logs and events: nothing that is long or could pass for something else.
    let usable = given.filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()));
    let id: Arc<str> = usable.map_or_else(|| new_id().into(), Arc::from);
    let observed = Observed::begin(&request);
    let uri = request.uri().clone();
    let (method, route) = (observed.method(), observed.route());
    let traced = spans::Request { method, route, path: uri.path(), id: &id };
    let trace = TraceContext::begin(request.headers(), &traced);
    let trace_id = trace.trace_id();
    let span = tracing::info_span!(
        "request", method = %request.method(), path = uri.path(), request_id = &*id, %trace_id, order_id = Empty
    );
    request.extensions_mut().insert(RequestId { id: id.clone(), trace_parent: trace.for_changes() });
    request.extensions_mut().insert(limits);
    let answered = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind();
    let answered = if trace.span.is_recorded() {
        // Boxed, so that requests that are not recorded carry nothing of it.
        Box::pin(trace.span.within(answered)).await
    } else {
        answered.await
    };
    let response = answered.unwrap_or_else(problem::panicked);
    let status = response.status();
    trace.span.answered(status.as_u16(), status.is_server_error());
    observed.end(status);
    let mut response = finish(response, &id, uri.path());
    if let Some(value) = trace.header_value() {
        response.headers_mut().insert(trace_context::RESPONSE_HEADER, value);
    }
    response
}

/// The answer to a request whose head was refused: of that, nothing is taken over.
pub(super) fn refuse(refusal: Refusal) -> Response {
    let response = Problem::from(refusal).into_response();
    metrics::refused(response.status());
    finish(response, &new_id(), "/")
}

fn new_id() -> String {
    format!("req_{}", Uuid::now_v7().simple())
}

fn finish(response: Response, id: &str, path: &str) -> Response {
    let mut response = problem::render(response, id, path);
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}
