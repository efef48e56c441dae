//! The HTTP API: this file lists every route.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::sync::Arc;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::app::App;

mod auth;
mod extract;
mod health;
mod idempotency;
mod inventory;
mod openapi;
mod orders;
mod payments;
pub mod problem;
mod refunds;
mod request_id;
mod shipments;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    access: Arc<openapi::AccessTable>,
    keys: Arc<auth::KeyCache>,
    in_progress: Arc<idempotency::InProgress>,
}

/// Every route: the operations of one path together. Path, scope and answers of an operation stand at its handler.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(openapi::document())
        .routes(routes!(orders::place, orders::list))
        .routes(routes!(orders::read))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::extend))
        .routes(routes!(payments::start, payments::list_of_order))
        .routes(routes!(payments::list))
        .routes(routes!(payments::read))
        .routes(routes!(payments::capture))
        .routes(routes!(payments::void))
        .routes(routes!(refunds::create, refunds::list_of_payment))
        .routes(routes!(shipments::create, shipments::list_of_order))
        .routes(routes!(shipments::list))
        .routes(routes!(shipments::read))
        .routes(routes!(shipments::pack))
        .routes(routes!(shipments::ship))
        .routes(routes!(shipments::deliver))
        .routes(routes!(shipments::cancel))
        .routes(routes!(shipments::give_back))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::set, inventory::read))
        .routes(routes!(inventory::adjust))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The whole API.
pub fn router(app: App) -> Router {
    let (routes, document) = routes().split_for_parts();
    let state = ApiState {
        app: Arc::new(app),
        access: Arc::new(openapi::AccessTable::new(&document)),
        keys: Arc::default(),
        in_progress: Arc::default(),
    };
    routes
        .route_layer(middleware::from_fn_with_state(state.clone(), idempotency::count_once))
        .route_layer(middleware::from_fn_with_state(state.clone(), auth::authorize))
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
    let graceful = shutdown.clone().cancelled_owned();
    let server = axum::serve(listener, router(app)).with_graceful_shutdown(graceful);
    tokio::select! {
        served = std::future::IntoFuture::into_future(server) => served,
        () = async { shutdown.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!("connections were still open after {} s", drain.as_secs());
            Ok(())
        }
    }
}
