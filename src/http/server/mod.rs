//! The HTTP server: connections, how many and for how long. What a request means is the router's.
//!
//! HTTP/1.1 and 1.0 by hyper, over TLS where it is configured. A client can hold a connection, which costs memory, but not
//! for ever and not too many of them: everything that a client may let wait has a time (see [`progress`]), and the number
//! of connections has a limit. Before hyper, the [`gate`] checks each head and lets one request through at a time; so no
//! answer is hyper's own, and every refusal is a problem document. The body's limits are its route's: see `http::body`.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use metrics::Gauge;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::metrics::{CONNECTIONS, cut};
use crate::config::Http;

mod connection;
mod gate;
mod head;
mod progress;
mod refusal;
mod service;
mod tls;

use connection::Connection;
use progress::Times;
pub(super) use refusal::Refusal;
use tls::Tls;
pub use tls::TlsError;

/// How many connections beyond the limit are told so. More are closed without a word: telling costs a connection too.
const TOLD: usize = 256;

/// Descriptors for everything but clients: PostgreSQL, ZooKeeper, files.
const OTHER_DESCRIPTORS: u64 = 512;

/// How long to wait when the kernel has no descriptor or no memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that does not listen yet.
pub(super) struct Server {
    router: Router,
    tls: Option<Tls>,
    times: Times,
    header_limit: usize,
    connections_max: usize,
    drain: Duration,
    shutdown: CancellationToken,
}

impl Server {
    /// Fails where the certificate or its key cannot be used.
    pub(super) fn new(
        router: Router,
        settings: &Http,
        shutdown: CancellationToken,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            router,
            tls: Tls::load(&settings.tls)?,
            times: Times::new(settings),
            header_limit: settings.max_header_bytes,
            connections_max: settings.max_connections,
            drain: settings.drain(),
            shutdown,
        })
    }

    /// Serves until the process stops. Then nothing is accepted, idle connections are closed, requests in flight are
    /// answered with `Connection: close`, and what is not done after the drain time is cut.
    pub(super) async fn serve(self, listener: TcpListener) {
        let connections_max = connections_that_fit(self.connections_max);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // First: connections that ended make room.
                biased;
                () = self.shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, &mut connections, connections_max),
                    Err(error) => pause(&error).await,
                },
            }
        }
        drop(listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if timeout(self.drain, all_ended).await.is_err() {
            let (open, seconds) = (connections.len(), self.drain.as_secs());
            tracing::warn!("{open} connections were still in use after {seconds} s: they are cut");
            connections.shutdown().await;
        }
    }

    /// Past the limit, a connection is accepted and its request answered with 503. Left in the queue of the kernel it
    /// would hang, with health checks and balancers that wait for it; told at once, the client can go to another process.
    /// Those that are connected are not disturbed either way.
    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        connections: &mut JoinSet<()>,
        connections_max: usize,
    ) {
        let admitted = connections.len() < connections_max;
        if !admitted {
            CONNECTIONS.refused.increment(1);
            if connections.len() >= connections_max + TOLD {
                return;
            }
        }
        // Fails when the client has already gone.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            router: self.router.clone(),
            peer,
            times: self.times,
            header_limit: self.header_limit,
            admitted,
            stopping: self.shutdown.clone(),
        };
        let tls = self.tls.clone();
        connections.spawn(async move {
            let _open = OpenConnection::count();
            let ended = match tls {
                Some(tls) => serve_tls(connection, &tls, stream).await,
                None => connection.serve(stream).await,
            };
            if let Some(why) = ended {
                cut(why);
            }
        });
    }
}

async fn serve_tls(connection: Connection, tls: &Tls, stream: TcpStream) -> Option<&'static str> {
    let handshake = timeout(connection.times.header, tls.accept(stream));
    let handshake = tokio::select! {
        handshake = handshake => handshake,
        () = connection.stopping.cancelled() => return None,
    };
    match handshake {
        Ok(Ok(stream)) => connection.serve(stream).await,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS handshake");
            None
        }
        Err(_) => Some("handshake"),
    }
}

/// A connection in the gauge, also when its task panics or is cut.
struct OpenConnection(&'static Gauge);

impl OpenConnection {
    fn count() -> Self {
        CONNECTIONS.open.increment(1);
        Self(&CONNECTIONS.open)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Raises the number of files that this process may open, and gives how many connections then fit. Without room for them,
/// clients could take the descriptors that the database needs.
fn connections_that_fit(wanted: usize) -> usize {
    let needed = (wanted + TOLD) as u64 + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= needed {
        return wanted;
    }
    let possible = needed.min(limit.maximum.unwrap_or(u64::MAX)).max(current);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), ..limit });
    let files = if raised.is_ok() { possible } else { current };
    if files >= needed {
        return wanted;
    }
    let fit = files.saturating_sub(OTHER_DESCRIPTORS + TOLD as u64).max(1);
    let fit = usize::try_from(fit).unwrap_or(wanted).min(wanted);
    tracing::warn!("http.max_connections is {wanted}, but with {files} open files there is room for {fit}");
    fit
}

/// A client that has gone before it was accepted is none of our business; a lack of descriptors or memory passes.
async fn pause(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "cannot accept connections");
    sleep(ACCEPT_PAUSE).await;
}
