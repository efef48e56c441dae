//! `/livez`: the process runs. `/readyz`: it can take orders, or which dependency it lacks. `/metrics`: what it counted.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{ApiState, problem::Problem};
use crate::telemetry;

/// How long a dependency has to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the process runs.
#[utoipa::path(
    get, operation_id = "livez", path = "/livez", tag = "operation", security(()), responses((status = 200))
)]
pub(super) async fn livez() -> impl IntoResponse {
    Json(json!({ "status": "ok" }))
}

/// What the process counted, for Prometheus.
#[utoipa::path(
    get, operation_id = "metrics", path = "/metrics", tag = "operation", security(()),
    responses((status = 200))
)]
pub(super) async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::metrics())
}

/// Whether orders can be taken.
///
/// An order needs PostgreSQL and the locks. Events wait in the outbox while RabbitMQ is away, so it is not asked here: where
/// they wait for longer than usual, `status` is `degraded` and `events` is `delayed`, and orders are taken on. Who asks needs
/// no key: the answer names what is missing, and why that is stands in the log.
#[utoipa::path(
    get, operation_id = "readyz", path = "/readyz", tag = "operation", security(()),
    responses((status = 200)), extensions(("x-problems" = json!(["not_ready"])))
)]
pub(super) async fn readyz(State(state): State<ApiState>) -> Response {
    let database = tokio::time::timeout(TIMEOUT, state.app.store.ping());
    let (database, lock) = tokio::join!(database, state.app.locks.ping(TIMEOUT));
    let database = match database {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("no answer".to_owned()),
    };
    let lock = lock.err().map(|error| error.to_string());
    if database.is_none() && lock.is_none() {
        let (status, events) =
            if state.app.backlog.is_delayed() { ("degraded", "delayed") } else { ("ok", "ok") };
        return Json(json!({ "status": status, "database": "ok", "lock": "ok", "events": events }))
            .into_response();
    }
    let mut named = Vec::new();
    for (name, error) in [("database", database), ("lock", lock)] {
        let Some(error) = error else { continue };
        tracing::warn!(dependency = name, error, "not ready");
        named.push(format!("{name}: unavailable"));
    }
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", named.join("; "))
        .retry_after(1)
        .into_response()
}
