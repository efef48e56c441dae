//! One connection from its first byte to its end: hyper, and the time it may take.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    gate::Gate,
    progress::{Due, Progress, Times},
    service::Service,
};

/// When to look again at a connection whose request is bounded by its handler.
const MUCH_LATER: Duration = Duration::from_hours(1);

/// A connection and the terms on which it is served.
pub(super) struct Connection {
    pub(super) router: Router,
    /// Who is at the other end.
    pub(super) peer: SocketAddr,
    pub(super) times: Times,
    pub(super) header_limit: usize,
    /// Whether there is room for it; if not, its first request is refused.
    pub(super) admitted: bool,
    /// After this it ends as soon as no request is under way.
    pub(super) stopping: CancellationToken,
}

impl Connection {
    /// Serves it until it ends. Gives why it was cut, if it was.
    pub(super) async fn serve<S>(self, stream: S) -> Option<&'static str>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let progress = Progress::new(self.times);
        let service = Service::new(self.router, self.peer, Arc::clone(&progress));
        let gate = Gate::new(stream, Arc::clone(&progress), self.header_limit, self.admitted);
        // The gate bounds the head, in bytes and in time: hyper sees it when it is whole.
        let mut http = http1::Builder::new();
        http.header_read_timeout(None).max_buf_size(self.header_limit);
        let mut connection = pin!(http.serve_connection(TokioIo::new(gate), service));
        let mut timer = pin!(sleep_until(progress.deadline().unwrap_or_else(Instant::now)));
        let mut stop = pin!(self.stopping.cancelled());
        let mut stopped = false;
        poll_fn(|cx| {
            loop {
                // What ended badly is the client's doing: there is nobody to tell.
                if connection.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if !stopped && stop.as_mut().poll(cx).is_ready() {
                    stopped = true;
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                // A deadline that moved back is seen when the timer fires: most requests leave the timer alone.
                if let Some(deadline) = progress.deadline().filter(|deadline| *deadline < timer.deadline()) {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(cx));
                let now = Instant::now();
                if let Due::Cut(why) = progress.due(now) {
                    return Poll::Ready(Some(why));
                }
                timer.as_mut().reset(progress.deadline().unwrap_or(now + MUCH_LATER));
            }
        })
        .await
    }
}
