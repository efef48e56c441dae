//! What a process that serves no API shows of itself: `/livez`, `/readyz`, `/metrics`, by the same server and under the same
//! limits as the API.

use std::sync::Arc;

use axum::{Router, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    body::BodyLimits,
    health::{self, Dependency},
    server::{Server, TlsError},
    with_contract,
};
use crate::config::{Http, Tls};

/// Whoever looks at a process is one of few.
const CONNECTIONS_MAX: usize = 64;

/// The endpoint, ready to listen.
pub struct OperationEndpoint(Server);

impl OperationEndpoint {
    /// The endpoint of a process that needs these. It serves plain HTTP, within the limits of `settings`, until `stopping` fires.
    pub fn new(
        needed: Vec<Dependency>,
        settings: &Http,
        stopping: CancellationToken,
    ) -> Result<Self, TlsError> {
        let needed: Arc<[Dependency]> = needed.into();
        let routes = Router::new()
            .route("/livez", get(health::livez))
            .route("/readyz", get(health::readyz_of_worker))
            .route("/metrics", get(health::metrics));
        let router = with_contract(routes, BodyLimits::new(settings)).with_state(needed);
        let tls = Tls { certificate_file: String::new(), private_key_file: String::new() };
        let settings = Http { tls, max_connections: CONNECTIONS_MAX, ..settings.clone() };
        Ok(Self(Server::new(router, &settings, stopping)?))
    }

    /// Serves, until the process stops.
    pub async fn serve(self, listener: TcpListener) {
        self.0.serve(listener).await;
    }
}
