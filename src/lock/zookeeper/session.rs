//! One ZooKeeper session, and the supervisor that replaces it when it ends.
//!
//! Owns the connection, its state and the time-out of every request. Knows nothing of locks.
//!
//! - Disconnected is *suspect*: the server may already have given the locks to others, long before it says `Expired`.
//!   [`Session::connected`] is what a claim must pass before it sends a request or calls anything held.
//! - A session that ended never comes back. [`Session::ended`] fires, then the supervisor publishes a new one with the
//!   next generation; nothing is carried over.
//! - The client sends requests in the order of the calls, over one connection, and queues them while disconnected. So an
//!   answer to a later request proves that an earlier one without answer was executed or never will be.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{Client, Error, SessionState, StateWatcher};

use super::ZooKeeperOptions;

/// First and longest pause between attempts to connect. Jittered, so that a fleet does not come back as one.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Why a request did not succeed, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The session is over, and every node of it is gone or about to be.
    #[error("the session ended")]
    Ended,
    /// No answer: it may have been executed, may still be, or may not.
    #[error("no answer: {0}")]
    Unanswered(String),
    /// The node, or the parent of a node to create, does not exist. Nothing was changed.
    #[error("the node does not exist")]
    NoNode,
    /// Refused, and would be again. Nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::SessionExpired | Error::ClientClosed | Error::AuthFailed | Error::NoHosts => Self::Ended,
            Error::NoNode => Self::NoNode,
            Error::NoAuth
            | Error::InvalidAcl
            | Error::BadArguments(_)
            | Error::QuotaExceeded
            | Error::NoChildrenForEphemerals
            | Error::MarshallingError
            | Error::Unimplemented => Self::Refused(error.to_string()),
            // An error that nobody foresaw is not proof that nothing happened.
            _ => Self::Unanswered(error.to_string()),
        }
    }
}

/// A session, alive or ended.
#[derive(Debug)]
pub(super) struct Session {
    generation: u64,
    client: Client,
    request_timeout: Duration,
    ended: CancellationToken,
}

impl Session {
    /// Connects once. The error names the servers.
    pub(super) async fn connect(options: &ZooKeeperOptions, generation: u64) -> Result<Self, String> {
        let mut connector = Client::connector().with_session_timeout(options.session_timeout);
        if let Some((user, password)) = &options.auth {
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        let servers = &options.servers;
        let client = time::timeout(options.request_timeout, connector.connect(servers))
            .await
            .map_err(|_| {
                format!("no answer from ZooKeeper at {servers} within {:?}", options.request_timeout)
            })?
            .map_err(|error| format!("cannot connect to ZooKeeper at {servers}: {error}"))?;
        tracing::info!(
            generation,
            session = %client.session_id(),
            timeout = ?client.session_timeout(),
            "lock session established"
        );
        let (request_timeout, ended) = (options.request_timeout, CancellationToken::new());
        Ok(Self { generation, client, request_timeout, ended })
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// Fires when the session is over.
    pub(super) const fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// How long the process may have been stopped without the session being suspect for it.
    pub(super) fn longest_pause(&self) -> Duration {
        self.client.session_timeout() / 3
    }

    pub(super) fn is_connected(&self) -> bool {
        self.client.state() == SessionState::SyncConnected
    }

    /// Waits for an answer, for a bounded time. The request itself is sent by the call that made the future, and is not
    /// taken back by the time-out.
    pub(super) async fn call<T, E: Into<Error>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Fault> {
        match time::timeout(self.request_timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Fault::from(error.into())),
            Err(_) => Err(Fault::Unanswered(format!("none within {:?}", self.request_timeout))),
        }
    }

    /// Waits until the session is not suspect. [`Fault::Ended`] if it never will be.
    pub(super) async fn connected(&self) -> Result<(), Fault> {
        let mut states = self.client.state_watcher();
        let mut state = states.peek_state();
        loop {
            match state {
                SessionState::SyncConnected => return Ok(()),
                state if state.is_terminated() => return Err(Fault::Ended),
                _ => state = states.changed().await,
            }
        }
    }

    /// Returns when the connection was re-established or the session ended, seen from now on.
    pub(super) fn reconnected(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut states = self.client.state_watcher();
        async move {
            loop {
                let state = states.changed().await;
                if state == SessionState::SyncConnected || state.is_terminated() {
                    return;
                }
            }
        }
    }
}

/// Keeps one session alive for as long as the manager lives.
pub(super) struct Supervisor {
    pub(super) options: Arc<ZooKeeperOptions>,
    pub(super) sessions: watch::Sender<Option<Arc<Session>>>,
    pub(super) closing: CancellationToken,
}

impl Supervisor {
    /// Publishes `first`, then one session after the other until closing; then ends the last one and waits for that.
    pub(super) async fn run(self, first: Session) {
        let mut generation = first.generation;
        let mut next = Some(first);
        while let Some(session) = next {
            let mut states = session.client.state_watcher();
            let session = Arc::new(session);
            self.sessions.send_replace(Some(session.clone()));
            let over = tokio::select! {
                biased;
                () = self.closing.cancelled() => false,
                () = watch_over(&session, &mut states) => true,
            };
            self.sessions.send_replace(None);
            session.ended.cancel();
            // The session closes when its last user drops it.
            drop(session);
            if !over {
                return ended(&mut states).await;
            }
            generation += 1;
            next = self.reconnect(generation).await;
        }
    }

    /// Tries for ever. `None` when closing.
    async fn reconnect(&self, generation: u64) -> Option<Session> {
        let mut backoff = BACKOFF_MIN;
        loop {
            let pause = rand::random_range(backoff / 2..=backoff);
            let attempt = async {
                time::sleep(pause).await;
                Session::connect(&self.options, generation).await
            };
            let attempt = tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                attempt = attempt => attempt,
            };
            match attempt {
                Ok(session) => return Some(session),
                Err(error) => {
                    tracing::warn!(generation, error, "lock session cannot be established, trying again");
                }
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }
}

/// Logs the states of a session until it ends.
async fn watch_over(session: &Session, states: &mut StateWatcher) {
    let generation = session.generation;
    let mut suspect = false;
    let mut state = states.peek_state();
    loop {
        if state.is_terminated() {
            tracing::warn!(generation, %state, "lock session ended, its locks are lost");
            return;
        }
        if state != SessionState::SyncConnected {
            suspect = true;
            tracing::warn!(generation, %state, "lock session suspect, no lock is granted");
        } else if suspect {
            suspect = false;
            tracing::info!(generation, "lock session connected again");
        }
        state = states.changed().await;
    }
}

async fn ended(states: &mut StateWatcher) {
    let mut state = states.peek_state();
    while !state.is_terminated() {
        state = states.changed().await;
    }
}
