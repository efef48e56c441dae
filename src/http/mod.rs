//! The HTTP API: this file is the whole route table.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{get, post, put},
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{app::App, config::Http};

mod auth;
mod body;
mod extract;
mod health;
mod inventory;
mod metrics;
mod orders;
mod payments;
pub mod problem;
mod request_id;
mod server;

use body::BodyLimits;
pub use server::{Server, TlsError};

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    keys: Arc<auth::KeyCache>,
}

/// The API, ready to listen.
pub fn server(app: App, settings: &Http) -> Result<Server, TlsError> {
    Server::new(router(app, BodyLimits::new(settings)), settings)
}

/// Every route.
fn router(app: App, limits: BodyLimits) -> Router {
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
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::require_key));
    let routes = Router::new()
        .nest("/v1", api)
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics));
    with_contract(routes, limits).with_state(state)
}

/// What holds for every route and for what is none: limits, an id for each request, errors as problem documents.
fn with_contract<S: Clone + Send + Sync + 'static>(routes: Router<S>, limits: BodyLimits) -> Router<S> {
    routes
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(middleware::from_fn_with_state(limits, request_id::identify))
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
