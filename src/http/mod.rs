//! The HTTP API: this file lists every route.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Router, middleware};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

mod api_keys;
mod auth;
mod extract;
mod health;
mod idempotency;
mod inventory;
mod key_cache;
mod openapi;
mod orders;
mod payments;
pub mod problem;
mod request_id;

/// How often is written down which API keys were used: `last_used_at` is right to within a minute.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last such write may delay the end of the process.
const LAST_UPKEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    access: Arc<openapi::AccessTable>,
    keys: Arc<key_cache::KeyCache>,
    in_progress: Arc<idempotency::InProgress>,
}

/// Every route: the operations of one path together. Path, scope and answers of an operation stand at its handler.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(orders::place, orders::list))
        .routes(routes!(orders::read))
        .routes(routes!(orders::cancel))
        .routes(routes!(payments::start, payments::list_of_order))
        .routes(routes!(payments::read))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::set, inventory::read))
        .routes(routes!(inventory::adjust))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The whole API, and what its handlers share.
fn router(app: App) -> (Router, ApiState) {
    let (routes, document) = routes().split_for_parts();
    let state = ApiState {
        app: Arc::new(app),
        access: Arc::new(openapi::AccessTable::new(&document)),
        keys: Arc::default(),
        in_progress: Arc::default(),
    };
    let router = routes
        .route_layer(middleware::from_fn_with_state(state.clone(), idempotency::count_once))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::authorize))
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(state.clone());
    (router, state)
}

impl ApiState {
    /// What is done beside the requests, for as long as there may be any.
    async fn upkeep(&self) -> Infallible {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.keys.record_use(&self.app).await;
        }
    }
}

/// Serves the API until `shutdown` fires, then lets the requests in flight finish, for `drain` at most.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: CancellationToken,
    drain: Duration,
) -> std::io::Result<()> {
    let (router, state) = router(app);
    let graceful = shutdown.clone().cancelled_owned();
    let server = axum::serve(listener, router).with_graceful_shutdown(graceful);
    let served = tokio::select! {
        served = std::future::IntoFuture::into_future(server) => served,
        () = async { shutdown.cancelled().await; sleep(drain).await } => {
            tracing::warn!("connections were still open after {} s", drain.as_secs());
            Ok(())
        }
        never = state.upkeep() => match never {},
    };
    if timeout(LAST_UPKEEP_TIMEOUT, state.keys.record_use(&state.app)).await.is_err() {
        tracing::warn!("the last use of API keys was not recorded");
    }
    served
}
