//! The HTTP API: this file is the whole route table.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post, put},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;

mod auth;
mod extract;
mod health;
mod inventory;
mod orders;
mod payments;
mod prefer;
pub mod problem;
mod provider_webhooks;
mod request_id;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    keys: Arc<auth::KeyCache>,
}

/// Every route.
pub fn router(app: App) -> Router {
    let state = ApiState { app: Arc::new(app), keys: Arc::default() };
    let api = Router::new()
        .route("/orders", post(orders::place).get(orders::list))
        .route("/orders/{id}", get(orders::read))
        .route("/orders/{id}/cancel", post(orders::cancel))
        .route("/orders/{id}/payments", post(payments::start).get(payments::list))
        .route("/payments/{id}", get(payments::read))
        .route("/inventory", get(inventory::list))
        .route("/inventory/{sku}/{location}", put(inventory::set).get(inventory::read))
        .route("/inventory/adjustments", post(inventory::adjust))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require_key))
        // Below the layer: providers have no key, and sign what they send.
        .route("/provider-webhooks/{provider}", post(provider_webhooks::receive));
    Router::new()
        .nest("/v1", api)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn(request_id::identify))
        .with_state(state)
}

/// Serves the API until `shutdown` fires, then lets the requests in flight finish, for `drain` at most.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: CancellationToken,
    drain: std::time::Duration,
) -> std::io::Result<()> {
    let (stopping, awaited) = (shutdown.clone(), app.awaited.clone());
    let graceful = async move {
        stopping.cancelled().await;
        awaited.close();
    };
    let server = axum::serve(listener, router(app)).with_graceful_shutdown(graceful);
    tokio::select! {
        served = std::future::IntoFuture::into_future(server) => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!("connections were still open after {} s", drain.as_secs());
            Ok(())
        }
    }
}
