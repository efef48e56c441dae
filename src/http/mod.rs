//! The HTTP API: this file lists every route.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, middleware};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
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
mod purchase_limits;
mod rate_limit;
mod request_id;

pub use rate_limit::RateLimitOptions;

/// How often idle clients are forgotten, and which API keys were used is recorded (right to within a minute is promised).
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last such write may delay the end of the process.
const LAST_UPKEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// How the API is served.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// How long requests in flight have to finish once the process is to end.
    pub drain: Duration,
    /// How often may be asked.
    pub rate_limit: RateLimitOptions,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct ApiState {
    app: Arc<App>,
    access: Arc<openapi::AccessTable>,
    /// The OpenAPI document, rendered.
    document: Arc<str>,
    keys: Arc<key_cache::KeyCache>,
    limits: Arc<rate_limit::RateLimits>,
    /// Turns to look a key up.
    look_ups: Arc<Semaphore>,
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
        .routes(routes!(purchase_limits::list))
        .routes(routes!(purchase_limits::set, purchase_limits::read, purchase_limits::delete))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(openapi::read))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The whole API, and what its handlers share.
fn router(app: App, rate_limit: &RateLimitOptions) -> (Router, ApiState) {
    let (routes, document) = routes().split_for_parts();
    let state = ApiState {
        app: Arc::new(app),
        access: Arc::new(openapi::AccessTable::new(&document)),
        document: serde_json::to_string(&document).unwrap_or_default().into(),
        keys: Arc::default(),
        limits: Arc::new(rate_limit::RateLimits::new(rate_limit)),
        look_ups: Arc::new(Semaphore::new(auth::LOOK_UPS)),
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
            self.limits.forget_idle();
            self.keys.record_use(&self.app).await;
        }
    }
}

/// Serves the API until `shutdown` fires, then lets the requests in flight finish.
pub async fn serve(
    listener: TcpListener,
    app: App,
    options: ServeOptions,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let (router, state) = router(app, &options.rate_limit);
    let (graceful, drain) = (shutdown.clone().cancelled_owned(), options.drain);
    // The limits want to know who calls.
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, service).with_graceful_shutdown(graceful);
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
