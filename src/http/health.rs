//! `/livez`: the process runs. `/readyz`: it can do its work, or which dependency it lacks. `/metrics`: what it counted.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use serde_json::{Map, json};

use super::{ApiState, problem::Problem};
use crate::telemetry;

/// How long a dependency has to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a dependency answers: why it cannot be used, if it cannot.
type Answering = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// What a process needs to do its work.
pub struct Dependency {
    name: &'static str,
    ask: Box<dyn Fn(Duration) -> Answering + Send + Sync>,
}

impl Dependency {
    /// One of this name that is asked in this way, and has so long to answer.
    pub fn new(name: &'static str, ask: impl Fn(Duration) -> Answering + Send + Sync + 'static) -> Self {
        Self { name, ask: Box::new(ask) }
    }

    async fn answer(&self) -> (&'static str, Result<(), String>) {
        let answer = tokio::time::timeout(TIMEOUT, (self.ask)(TIMEOUT)).await;
        (self.name, answer.unwrap_or_else(|_| Err("no answer".to_owned())))
    }
}

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
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::metrics::render())
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
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    };
    let lock = lock.map_err(|error| error.to_string());
    not_ready(&[("database", database), ("lock", lock)]).unwrap_or_else(|| {
        let (status, events) =
            if state.app.backlog.is_delayed() { ("degraded", "delayed") } else { ("ok", "ok") };
        Json(json!({ "status": status, "database": "ok", "lock": "ok", "events": events })).into_response()
    })
}

/// Whether a process that serves no API has what it needs.
pub(super) async fn readyz_of_worker(State(needed): State<Arc<[Dependency]>>) -> Response {
    let answers = join_all(needed.iter().map(Dependency::answer)).await;
    not_ready(&answers).unwrap_or_else(|| {
        let names = std::iter::once("status").chain(answers.iter().map(|(name, _)| *name));
        Json(names.map(|name| (name.to_owned(), "ok".into())).collect::<Map<_, _>>()).into_response()
    })
}

/// Names what is missing, if anything is. Why stands in the log.
fn not_ready(answers: &[(&'static str, Result<(), String>)]) -> Option<Response> {
    let mut named = Vec::new();
    for (name, answer) in answers {
        let Err(error) = answer else { continue };
        tracing::warn!(dependency = name, error, "not ready");
        named.push(format!("{name}: unavailable"));
    }
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", named.join("; "));
    (!named.is_empty()).then(|| problem.retry_after(1).into_response())
}
