//! The HTTP API: this file lists every route.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::sync::Arc;

use axum::{Extension, Router, middleware};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{app::App, config::Http};

mod access;
mod auth;
mod body;
mod events;
mod extract;
mod health;
mod idempotency;
mod inventory;
mod metrics;
mod openapi;
mod orders;
mod payments;
mod prefer;
pub mod problem;
mod problem_codes;
mod provider_webhooks;
mod request_id;
mod server;

use body::BodyLimits;
pub use server::{Server, TlsError};

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    access: Arc<access::AccessTable>,
    keys: Arc<auth::KeyCache>,
    in_progress: Arc<idempotency::InProgress>,
    streams: Arc<Semaphore>,
    /// Fires when the process stops: whoever waits is answered with what there is.
    stopping: CancellationToken,
}

/// The API, ready to listen, until `stopping` fires.
pub fn server(app: App, settings: &Http, stopping: CancellationToken) -> Result<Server, TlsError> {
    let router = router(app, settings, stopping.clone());
    Server::new(router, settings, stopping)
}

/// Every route: the operations of one path together. Path, scope and answers of an operation stand at its handler.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(orders::place, orders::list))
        .routes(routes!(orders::read))
        .routes(routes!(orders::cancel))
        .routes(routes!(payments::start, payments::list_of_order))
        .routes(routes!(events::list_of_order))
        .routes(routes!(events::list))
        .routes(routes!(payments::read))
        .routes(routes!(provider_webhooks::receive))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::set, inventory::read))
        .routes(routes!(inventory::adjust))
        .routes(routes!(openapi::read))
        .routes(routes!(problem_codes::list))
        .routes(routes!(problem_codes::read))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

fn router(app: App, settings: &Http, stopping: CancellationToken) -> Router {
    let limits = BodyLimits::new(settings);
    let (routes, mut document) = routes().split_for_parts();
    let text = openapi::complete(&mut document);
    let state = ApiState {
        app: Arc::new(app),
        access: Arc::new(access::AccessTable::new(&document)),
        keys: Arc::default(),
        in_progress: Arc::default(),
        streams: Arc::new(Semaphore::new(settings.max_streams)),
        stopping,
    };
    let routes = routes
        .route_layer(middleware::from_fn_with_state(state.clone(), idempotency::count_once))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::authorize))
        .merge(SwaggerUi::new("/docs").config(Config::from("/openapi.json").persist_authorization(false)))
        .layer(Extension(text));
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
