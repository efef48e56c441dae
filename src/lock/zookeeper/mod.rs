//! The backend `zookeeper`: locks as ephemeral sequential nodes, fair, with the creation's zxid as fencing token.
//!
//! - `session`: the session, when it is to be trusted, and its replacement. `claim`: the task behind one acquisition.
//!   `entry`: its nodes, and why claims cannot deadlock. `turn`: waiting for the nodes ahead. `path`: names.
//!
//! It must not use the client's own `lock()`, which leaves nodes behind when it is dropped and does not tell the zxid, nor
//! its persistent watches, which are dead after a reconnection.
//!
//! Invariants: a lock is granted only while the session is connected, and only by an answer that came over it; a guard's
//! `lost` fires when its session ends or one of its nodes is gone; the nodes of an acquisition that did not become a
//! guard are deleted by its own task, whatever happened to the caller.

use std::{
    collections::BTreeSet,
    fmt, process,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zookeeper_client::Acls;

use super::{LockError, LockGuard, LockManager, LockOwner, LockedKey, METRICS};

mod cache;
mod claim;
mod entry;
mod list;
mod path;
mod session;
mod turn;

use cache::Cache;
pub use cache::CacheOptions;
use claim::{Claim, Context};
use entry::Blueprint;
use session::{Session, Supervisor};

/// How to reach ZooKeeper and what to write there.
#[derive(Clone)]
pub struct ZooKeeperOptions {
    /// `host:port,host:port…`, with an optional `/chroot` at the end.
    pub servers: String,
    /// The node under which all locks live, e.g. `/holdfast/locks`. The same for every process.
    pub root: String,
    /// How long after its last sign of life a process loses its locks. More than `(syncLimit + 1) * tickTime` of the
    /// servers: below that, a server cut off from its quorum can tell a client that it still holds what another has.
    pub session_timeout: Duration,
    /// How long to wait for the answer to one request, and for a connection.
    pub request_timeout: Duration,
    /// User and password of the `digest` scheme. Only who has the same can see or touch the locks.
    pub auth: Option<(String, String)>,
    /// Without `auth`: whether anybody who reaches the servers may delete the locks. For development.
    pub allow_open_acl: bool,
    /// Grows when the servers lost their data. See [`super::FencingToken`].
    pub epoch: i32,
    /// Who holds a lock, for people who look at it.
    pub holder: String,
    /// How locks are kept after their use. `None`: each acquisition enters the queues by itself and leaves them when it is
    /// released.
    pub cache: Option<CacheOptions>,
}

impl fmt::Debug for ZooKeeperOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperOptions")
            .field("servers", &self.servers)
            .field("root", &self.root)
            .field("session_timeout", &self.session_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("user", &self.auth.as_ref().map(|(user, _)| user))
            .field("allow_open_acl", &self.allow_open_acl)
            .field("epoch", &self.epoch)
            .field("holder", &self.holder)
            .field("cache", &self.cache)
            .finish()
    }
}

/// What every node of this process is made of.
#[derive(Debug)]
struct Plan {
    servers: String,
    root: String,
    holder: String,
    acls: Acls<'static>,
}

impl Plan {
    fn blueprint(&self, keys: Arc<[Arc<str>]>, waiting_for: Arc<AtomicUsize>) -> Blueprint {
        let since = DateTime::<Utc>::from(SystemTime::now());
        let data = serde_json::json!({ "holder": self.holder, "pid": process::id(), "since": since });
        let data = data.to_string().into_bytes();
        Blueprint { keys, root: self.root.clone(), data, acls: self.acls, waiting_for }
    }
}

/// Locks in ZooKeeper. Dropping it is an unawaited [`LockManager::close`]: every guard loses its locks.
#[derive(Debug)]
pub struct ZooKeeperLock {
    plan: Arc<Plan>,
    context: Arc<Context>,
    /// If locks are kept after their use.
    cache: Option<Arc<Cache>>,
    /// Every task, all on the runtime that connected.
    tasks: TaskTracker,
    runtime: Handle,
}

impl ZooKeeperLock {
    /// Connects within `request_timeout`, or says which servers did not answer. Afterwards it reconnects by itself, for
    /// ever.
    pub async fn connect(options: ZooKeeperOptions) -> Result<Self, LockError> {
        if !options.root.starts_with('/') || options.root.ends_with('/') {
            return Err(LockError::Unavailable(format!(
                "{:?} is not an absolute path of a node",
                options.root
            )));
        }
        let acls = match (&options.auth, options.allow_open_acl) {
            (Some(_), _) => Acls::creator_all(),
            (None, true) => Acls::anyone_all(),
            (None, false) => {
                let reason = "ZooKeeper needs a user and a password, or the permission to leave the locks open to anybody";
                return Err(LockError::Unavailable(reason.to_owned()));
            }
        };
        let options = Arc::new(options);
        let first = Session::connect(&options, 1).await.map_err(LockError::Unavailable)?;
        let (sessions, receiver) = watch::channel(None);
        let closing = CancellationToken::new();
        let context = Arc::new(Context {
            epoch: options.epoch,
            request_timeout: options.request_timeout,
            sessions: receiver.clone(),
            closing: closing.clone(),
            holdings: Mutex::default(),
        });
        let plan = Arc::new(Plan {
            servers: options.servers.clone(),
            root: options.root.clone(),
            holder: options.holder.clone(),
            acls,
        });
        let tasks = TaskTracker::new();
        let cache = options.cache.clone().map(|cache| {
            Cache::start(cache, (plan.clone(), options.epoch), receiver, closing.clone(), tasks.clone())
        });
        tasks.spawn(Supervisor { options, sessions, closing }.run(first));
        Ok(Self { plan, context, cache, tasks, runtime: Handle::current() })
    }

    fn unreachable(&self, reason: impl fmt::Display) -> LockError {
        LockError::Unavailable(format!("ZooKeeper at {}: {reason}", self.plan.servers))
    }

    /// The session, once it is not suspect.
    async fn session(&self) -> Result<Arc<Session>, LockError> {
        let mut sessions = self.context.sessions.clone();
        let session = sessions.wait_for(Option::is_some).await.map_err(|_| LockError::Closed)?.clone();
        let session = session.ok_or(LockError::Closed)?;
        session.connected().await.map_err(|fault| self.unreachable(fault))?;
        Ok(session)
    }

    /// One round trip that the leader takes part in: a server that lost its quorum does not answer it.
    async fn round_trip(&self) -> Result<(), LockError> {
        let session = self.session().await?;
        let request = session.client().sync("/");
        session.call(request).await.map_err(|fault| self.unreachable(fault))
    }

    /// `None` only if it is not to wait.
    async fn obtain(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
        patient: bool,
    ) -> Result<Option<LockGuard>, LockError> {
        let sorted: Vec<String>;
        let keys = if keys.is_sorted_by(|a, b| a < b) {
            keys
        } else {
            sorted = keys.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
            &sorted
        };
        let Some(first) = keys.first() else {
            let closed = self.context.closing.is_cancelled();
            return if closed { Err(LockError::Closed) } else { Ok(Some(LockGuard::empty())) };
        };
        if deadline <= Instant::now() {
            return Err(LockError::Timeout { key: first.clone() });
        }
        let acquired = match &self.cache {
            Some(cache) => cache.acquire(keys, owner, deadline, patient).await?,
            None => self.claim(keys, owner, deadline, patient).await?,
        };
        if acquired.is_some() {
            METRICS.acquisitions.increment(1);
        }
        Ok(acquired)
    }

    /// An acquisition with a task and nodes of its own.
    async fn claim(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
        patient: bool,
    ) -> Result<Option<LockGuard>, LockError> {
        if self.context.closing.is_cancelled() {
            return Err(LockError::Closed);
        }
        if let Some(guard) = self.context.share(keys, owner) {
            return Ok(Some(guard));
        }
        let keys = keys.iter().map(|key| Arc::from(key.as_str())).collect();
        let blueprint = self.plan.blueprint(keys, Arc::default());
        let started = Instant::now();
        let (reply, answer) = oneshot::channel();
        let (context, plan) = (self.context.clone(), self.plan.clone());
        let claim = Claim { context, plan, blueprint, owner, deadline, patient };
        self.tasks.spawn_on(claim.run(reply), &self.runtime);
        // The task answers unless its runtime is gone.
        let answer = answer.await.unwrap_or(Err(LockError::Closed));
        METRICS.wait.record(started.elapsed());
        answer
    }
}

#[async_trait]
impl LockManager for ZooKeeperLock {
    async fn acquire(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
    ) -> Result<LockGuard, LockError> {
        // A patient claim is granted or fails.
        self.obtain(keys, owner, deadline, true).await?.ok_or(LockError::Closed)
    }

    async fn try_acquire(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
    ) -> Result<Option<LockGuard>, LockError> {
        self.obtain(keys, owner, deadline, false).await
    }

    async fn list(&self) -> Result<Vec<LockedKey>, LockError> {
        if self.context.closing.is_cancelled() {
            return Err(LockError::Closed);
        }
        let session = time::timeout(self.context.request_timeout, self.session()).await;
        let session = session.map_err(|_| self.unreachable("not connected"))??;
        list::locked_keys(&session, &self.plan.root).await.map_err(|fault| self.unreachable(fault))
    }

    async fn ping(&self, timeout: Duration) -> Result<(), LockError> {
        if self.context.closing.is_cancelled() {
            return Err(LockError::Closed);
        }
        match time::timeout(timeout, self.round_trip()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.unreachable(format_args!("no answer within {timeout:?}"))),
        }
    }

    /// The end of the session deletes all nodes at once; what it does not reach within `request_timeout`, the servers'
    /// session time-out does.
    async fn close(&self) {
        self.context.closing.cancel();
        self.tasks.close();
        if time::timeout(self.context.request_timeout, self.tasks.wait()).await.is_err() {
            tracing::warn!(servers = self.plan.servers, "lock session not closed in time, it will expire");
        }
    }
}

impl Drop for ZooKeeperLock {
    fn drop(&mut self) {
        self.context.closing.cancel();
    }
}
