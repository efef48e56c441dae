//! The HTTP API: this file lists every route.
//!
//! A handler parses and answers; it decides nothing. Writes go through `app`, reads may go to `store` directly. Every
//! error is a problem document (RFC 9457) made in [`problem`].

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{Extension, Router, middleware};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt as _},
    routes,
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{app::App, config::Http};

mod access;
mod answers;
mod api_keys;
mod auth;
mod body;
mod distinct;
mod event_documents;
mod events;
mod extract;
mod health;
mod idempotency;
mod if_match;
mod imports;
mod inventory;
mod key_cache;
mod links;
mod locations;
mod metrics;
mod openapi;
mod operation;
mod orders;
mod payments;
mod prefer;
pub mod problem;
mod problem_codes;
mod provider_webhooks;
mod purchase_limits;
mod rate_limit;
mod refunds;
mod request_id;
mod respond;
mod server;
mod shipments;
mod stock_file;
mod trace_context;
mod walk;
mod webhook_deliveries;
mod webhook_endpoints;

use body::BodyLimits;
pub use health::Dependency;
pub use operation::OperationEndpoint;
use server::Server;
pub use server::TlsError;

/// How often idle clients are forgotten, and which API keys were used is recorded (right to within a minute is promised).
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last such write may delay the end of the process.
const LAST_UPKEEP_TIMEOUT: Duration = Duration::from_secs(1);

/// What the handlers share, in one allocation: every layer of every request has a handle to it.
pub(crate) type ApiState = Arc<Shared>;

/// See [`ApiState`].
pub(crate) struct Shared {
    app: App,
    access: access::AccessTable,
    keys: key_cache::KeyCache,
    limits: rate_limit::RateLimits,
    /// Turns to look a key up.
    look_ups: Semaphore,
    in_progress: Arc<idempotency::InProgress>,
    streams: Arc<Semaphore>,
    /// Turns to walk through a table.
    walks: Semaphore,
    /// The OpenAPI document.
    openapi: openapi::Text,
    /// The AsyncAPI document.
    asyncapi: String,
    /// Fires when the process stops: whoever waits is answered with what there is.
    stopping: CancellationToken,
}

/// The API, ready to listen.
pub struct Api {
    server: Server,
    state: ApiState,
}

/// The API. It serves until `stopping` fires. `asyncapi` is the document of the broker, of which the API knows nothing.
pub fn api(
    app: App,
    settings: &Http,
    asyncapi: String,
    stopping: CancellationToken,
) -> Result<Api, TlsError> {
    let (router, state) = router(app, settings, asyncapi, stopping.clone());
    Ok(Api { server: Server::new(router, settings, stopping)?, state })
}

impl Api {
    /// Serves, and lets the requests in flight finish when the process stops.
    pub async fn serve(self, listener: TcpListener) {
        let Self { server, state } = self;
        tokio::select! {
            () = server.serve(listener) => {}
            never = state.upkeep() => match never {},
            never = state.app.backlog.watch(&state.app.store) => match never {},
        }
        if timeout(LAST_UPKEEP_TIMEOUT, state.keys.record_use(&state.app)).await.is_err() {
            tracing::warn!("the last use of API keys was not recorded");
        }
    }
}

impl Shared {
    /// What is done beside the requests, for as long as there may be any.
    async fn upkeep(&self) -> Infallible {
        loop {
            sleep(UPKEEP_INTERVAL).await;
            self.limits.forget_idle();
            self.keys.record_use(&self.app).await;
        }
    }
}

/// Every route: the operations of one path together. Path, scope and answers of an operation stand at its handler.
fn routes(bodies: BodyLimits) -> OpenApiRouter<ApiState> {
    let files = Extension(stock_file::file_limits(bodies));
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
        .routes(routes!(refunds::list))
        .routes(routes!(refunds::read))
        .routes(routes!(shipments::create, shipments::list_of_order))
        .routes(routes!(shipments::list))
        .routes(routes!(shipments::read))
        .routes(routes!(shipments::pack))
        .routes(routes!(shipments::ship))
        .routes(routes!(shipments::deliver))
        .routes(routes!(shipments::cancel))
        .routes(routes!(shipments::give_back))
        .routes(routes!(events::list_of_order))
        .routes(routes!(events::list))
        .routes(routes!(event_documents::read_schema))
        .routes(routes!(event_documents::read_asyncapi))
        .routes(routes!(provider_webhooks::receive))
        .routes(routes!(inventory::list))
        .routes(routes!(inventory::set, inventory::read))
        .routes(routes!(inventory::adjust))
        .routes(routes!(inventory::transfer))
        .routes(routes!(inventory::list_movements))
        .routes(routes!(imports::create, imports::list).layer(files))
        .routes(routes!(imports::read))
        .routes(routes!(imports::list_rows))
        .routes(routes!(imports::cancel))
        .routes(routes!(locations::list))
        .routes(routes!(locations::set, locations::read))
        .routes(routes!(purchase_limits::list))
        .routes(routes!(purchase_limits::set, purchase_limits::read, purchase_limits::delete))
        .routes(routes!(api_keys::create, api_keys::list))
        .routes(routes!(api_keys::read))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(api_keys::revoke))
        .routes(routes!(webhook_endpoints::create, webhook_endpoints::list))
        .routes(routes!(webhook_endpoints::set, webhook_endpoints::read, webhook_endpoints::delete))
        .routes(routes!(webhook_endpoints::rotate_secret))
        .routes(routes!(webhook_endpoints::enable))
        .routes(routes!(webhook_endpoints::disable))
        .routes(routes!(webhook_endpoints::test))
        .routes(routes!(webhook_deliveries::list))
        .routes(routes!(webhook_deliveries::read))
        .routes(routes!(webhook_deliveries::redeliver))
        .routes(routes!(openapi::read))
        .routes(routes!(problem_codes::list))
        .routes(routes!(problem_codes::read))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// The whole API, and what its handlers share.
fn router(app: App, settings: &Http, asyncapi: String, stopping: CancellationToken) -> (Router, ApiState) {
    let limits = BodyLimits::new(settings);
    let (routes, mut document) = routes(limits).split_for_parts();
    let text = openapi::complete(&mut document, &app.settings.limits);
    let state = Arc::new(Shared {
        app,
        access: access::AccessTable::new(&document),
        keys: key_cache::KeyCache::default(),
        look_ups: Semaphore::new(auth::LOOK_UPS),
        limits: rate_limit::RateLimits::new(settings.rate_limit),
        in_progress: Arc::default(),
        streams: Arc::new(Semaphore::new(settings.max_streams)),
        walks: Semaphore::new(walk::WALKS),
        openapi: text,
        asyncapi,
        stopping,
    });
    let routes =
        routes.route_layer(middleware::from_fn_with_state(state.clone(), auth::authorize)).merge(pages());
    (with_contract(routes, limits).with_state(state.clone()), state)
}

/// The page to try the API with. What it has no file for is at no route, like any other path.
fn pages<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let pages = SwaggerUi::new("/docs").config(Config::from("/openapi.json").persist_authorization(false));
    Router::from(pages).layer(middleware::map_response(problem::page_or_unknown))
}

/// What holds for every route and for what is none: limits, an id for each request, errors as problem documents.
///
/// All of it is one layer, as what a key has to do with is another: axum copies a route with every layer in it for each
/// layer that a request passes, so six layers cost an order 20 copies where two cost three.
fn with_contract<S: Clone + Send + Sync + 'static>(routes: Router<S>, limits: BodyLimits) -> Router<S> {
    routes
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(limits, request_id::identify))
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
