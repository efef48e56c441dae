//! One AMQP connection that is made when it is needed and made again when it broke.
//!
//! Owns the addresses, their rotation, the back-off and the time limit of every single request. Must not declare or
//! publish anything. Invariants: an attempt follows a failed one only after the back-off; nothing here waits without
//! a limit, because a connection that the broker blocks hangs in every request, `close` included; no text that leaves
//! this module holds a password. The library's own recovery is not used: it does not heal channels and gives up.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError, Weak},
    time::Duration,
};

use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, uri::AMQPUri};
use tokio::{
    runtime::Handle,
    sync::Mutex,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::monitor::Monitor;
use crate::bus::BusError;

/// How long opening a channel, a declare or an acknowledgement may take. A busy broker needs seconds to make a queue.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connect may take. Short, because the next address may be a healthy one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing may take. A blocked connection never answers, and it is dropped anyhow.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// So that a broker that answers again is in use within seconds.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The wait between attempts: doubles from 100 ms to 1 s, with jitter so that processes do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(BACKOFF_MIN)
    }
}

impl Backoff {
    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(rand::random_range(0.5..1.0));
        self.0 = (self.0 * 2).min(BACKOFF_MAX);
        wait
    }
}

/// A connection and where it goes.
#[derive(Debug)]
pub(super) struct Connected {
    connection: Connection,
    /// `host:port`.
    pub(super) host: String,
}

impl Connected {
    /// Whether it can be used at all.
    pub(super) fn is_alive(&self) -> bool {
        self.connection.status().connected()
    }

    /// Whether the broker blocks it: whatever is written to it waits for the alarm to end.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Refuses a connection that the broker blocks.
    pub(super) fn ensure_unblocked(&self) -> Result<(), BusError> {
        if self.is_blocked() {
            return Err(BusError::Unavailable(format!(
                "RabbitMQ at {} takes no messages: it is low on memory or disk",
                self.host
            )));
        }
        Ok(())
    }

    /// A new channel.
    pub(super) async fn open_channel(&self) -> Result<Channel, BusError> {
        request("open a channel", self.connection.create_channel()).await
    }

    /// Closes it as well as it can be closed in a second.
    pub(super) async fn close(&self) {
        // A failure means that it is closed already, or that the broker will find out by itself.
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close(200, "closing".into())).await;
    }
}

/// Waits for the answer to one request, within [`REQUEST_TIMEOUT`].
pub(super) async fn request<T>(
    what: &str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BusError> {
    match timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(BusError::Unavailable(format!("cannot {what}: {}", describe(&error)))),
        Err(_) => Err(BusError::Unavailable(format!("cannot {what}: no answer in {REQUEST_TIMEOUT:?}"))),
    }
}

/// What the broker or the system said, without the library's wrapping.
pub(super) fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// Closes the channel in the background when it goes out of scope, however the scope is left.
pub(super) struct Closing(pub(super) Channel);

impl Drop for Closing {
    fn drop(&mut self) {
        let channel = self.0.clone();
        // Without a runtime the process is ending, and the broker sees that.
        if let (true, Ok(runtime)) = (channel.status().connected(), Handle::try_current()) {
            runtime.spawn(async move {
                // A failure means that it is closed already.
                let _ = timeout(CLOSE_TIMEOUT, channel.close(200, "no longer used".into())).await;
            });
        }
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub(super) struct LinkOptions {
    pub(super) urls: Vec<String>,
    pub(super) heartbeat_seconds: u16,
    /// `publish` or `consume`.
    pub(super) role: &'static str,
    /// Shown in the broker's list of connections.
    pub(super) name: String,
}

/// One connection of the process, for publishing or for consuming.
#[derive(Debug)]
pub(super) struct Link {
    options: LinkOptions,
    state: Mutex<State>,
    /// Read while an attempt holds the state.
    last_error: SyncMutex<Option<String>>,
    monitor: Monitor,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Arc<Connected>>,
    next_host: usize,
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Link {
    pub(super) fn new(options: LinkOptions, closed: CancellationToken) -> Arc<Self> {
        Arc::new_cyclic(|link: &Weak<Self>| {
            let monitor = Monitor::new(options.role, Weak::clone(link), closed.clone());
            Self { options, state: Mutex::default(), last_error: SyncMutex::default(), monitor, closed }
        })
    }

    /// The connection, made now if there is none. After a failure the next call waits for the back-off first.
    pub(super) async fn get(&self) -> Result<Arc<Connected>, BusError> {
        self.monitor.start();
        let mut state = self.state.lock().await;
        if self.closed.is_cancelled() {
            return Err(BusError::Unavailable("it is closed".into()));
        }
        if let Some(current) = state.current.take_if(|current| !current.is_alive()) {
            tracing::warn!(host = current.host, name = self.options.name, "the connection to RabbitMQ broke");
        }
        if let Some(current) = &state.current {
            return Ok(Arc::clone(current));
        }
        if let Some(instant) = state.not_before {
            tokio::select! {
                () = sleep_until(instant) => {}
                () = self.closed.cancelled() => return Err(BusError::Unavailable("it is closed".into())),
            }
        }
        // Set before the attempt, so that one which the caller abandons counts as failed.
        state.not_before = Some(Instant::now() + state.backoff.next());
        let connected = self.connect_any(&mut state).await.inspect_err(|error| {
            *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        })?;
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        (state.backoff, state.not_before) = (Backoff::default(), None);
        let connected = Arc::new(connected);
        self.monitor.watch(&connected);
        state.current = Some(Arc::clone(&connected));
        Ok(connected)
    }

    /// Never hands this connection out again, and closes it in the background.
    pub(super) async fn discard(&self, broken: &Arc<Connected>) {
        self.state.lock().await.current.take_if(|current| Arc::ptr_eq(current, broken));
        let broken = Arc::clone(broken);
        tokio::spawn(async move { broken.close().await });
    }

    /// Closes the connection, within [`CLOSE_TIMEOUT`].
    pub(super) async fn close(&self) {
        if let Ok(mut state) = timeout(CLOSE_TIMEOUT, self.state.lock()).await
            && let Some(current) = state.current.take()
        {
            current.close().await;
        }
    }

    /// Where this link connects to, and why the last attempt failed.
    pub(super) fn describe(&self) -> String {
        let hosts: Vec<String> = (0..self.options.urls.len())
            .map(|index| self.uri(index).map_or_else(|e| e, |uri| host(&uri)))
            .collect();
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = last.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        format!("{}{reason}", hosts.join(", "))
    }

    /// Tries every address once, beginning after the one that was used last.
    async fn connect_any(&self, state: &mut State) -> Result<Connected, BusError> {
        let mut reasons = Vec::new();
        for _ in 0..self.options.urls.len() {
            let index = state.next_host % self.options.urls.len();
            state.next_host = index + 1;
            let error = match self.uri(index) {
                Ok(uri) => match self.connect(uri).await {
                    Ok(connected) => return Ok(connected),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::debug!(name = self.options.name, error, "RabbitMQ cannot be reached");
            reasons.push(error);
        }
        Err(BusError::Unavailable(format!(
            "{}; start RabbitMQ or correct its address",
            if reasons.is_empty() { "no address is configured".to_owned() } else { reasons.join("; ") }
        )))
    }

    async fn connect(&self, uri: AMQPUri) -> Result<Connected, String> {
        let host = host(&uri);
        let properties =
            ConnectionProperties::default().with_connection_name(self.options.name.as_str().into());
        match timeout(CONNECT_TIMEOUT, Connection::connect_uri(uri, properties)).await {
            Ok(Ok(connection)) => {
                tracing::info!(host, name = self.options.name, "connected to RabbitMQ");
                Ok(Connected { connection, host })
            }
            Ok(Err(error)) => Err(format!("cannot connect to RabbitMQ at {host}: {}", describe(&error))),
            Err(_) => Err(format!("cannot connect to RabbitMQ at {host}: no answer in {CONNECT_TIMEOUT:?}")),
        }
    }

    fn uri(&self, index: usize) -> Result<AMQPUri, String> {
        // The parser's own message may repeat the URL, which holds a password.
        let mut uri: AMQPUri = self.options.urls[index].parse().map_err(|_| {
            format!("address {} is not of the form amqp://user:password@host:port/vhost", index + 1)
        })?;
        uri.query.heartbeat.get_or_insert(self.options.heartbeat_seconds);
        Ok(uri)
    }
}

fn host(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(urls: &[&str]) -> Arc<Link> {
        let urls = urls.iter().map(ToString::to_string).collect();
        let options = LinkOptions { urls, heartbeat_seconds: 10, role: "publish", name: "test".into() };
        Link::new(options, CancellationToken::new())
    }

    #[test]
    fn the_backoff_grows_to_its_limit() {
        let mut backoff = Backoff::default();
        assert!(backoff.next() <= BACKOFF_MIN);
        for _ in 0..10 {
            backoff.next();
        }
        assert!((BACKOFF_MAX / 2..=BACKOFF_MAX).contains(&backoff.next()));
    }

    #[tokio::test]
    async fn no_error_repeats_a_password() {
        for url in [
            "amqp://user:secret@127.0.0.1:1/%2f",
            "amqp:user:secret",
            "127.0.0.1:secret",
            "amqps://:secret@/",
        ] {
            let link = link(&[url]);
            let error = link.get().await.expect_err("nobody listens there").to_string();
            let all = format!("{error} {} ", link.describe());
            assert!(!all.contains("secret"), "{all}");
        }
    }

    #[tokio::test]
    async fn every_address_is_tried_and_named() {
        let link = link(&["amqp://127.0.0.1:1", "nonsense", "amqp://127.0.0.1:2"]);
        let error = link.get().await.expect_err("nobody listens there").to_string();
        assert!(
            error.contains("127.0.0.1:1") && error.contains("address 2") && error.contains("127.0.0.1:2")
        );
    }
}
