//! Locks: one holder for each key over all processes, with a fencing token for each acquisition.
//!
//! A lock orders the waiters and keeps them out of each other's way in PostgreSQL. It is never what makes stock correct:
//! a holder may be paused and overtaken without noticing, so every write it makes carries its token, and PostgreSQL
//! refuses a token older than the newest it has seen (G6).
//!
//! Invariants of every backend: at most one guard for a key is held at a time, as far as the backend can tell; the token
//! of a later holder is greater than that of an earlier one; an acquisition that fails, times out or is dropped at any
//! point leaves nobody waiting for it; sets of keys that overlap cannot deadlock, whatever order they are named in.

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod metrics;
mod none;
mod zookeeper;

use metrics::METRICS;
pub use none::NoLock;
pub use zookeeper::{CacheOptions, ZooKeeperLock, ZooKeeperOptions};

/// A number that grows with every acquisition of a key. `epoch` is configured and grows when the backend loses its
/// memory (restored from a backup, replaced by another backend); `sequence` is the backend's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken {
    /// Configured generation of the backend.
    pub epoch: i32,
    /// ZooKeeper: the czxid of the lock node.
    pub sequence: i64,
}

/// Who acquires. Different owners exclude each other, also in one process; one owner shares its keys with itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockOwner(u64);

impl LockOwner {
    /// An owner that no other owner in this process equals.
    #[expect(clippy::new_without_default, reason = "each one is another one")]
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A key that somebody holds, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockedKey {
    /// The key.
    pub key: String,
    /// The process that holds it: host and process id.
    pub holder: String,
    /// When that process asked for it.
    pub since: Option<DateTime<Utc>>,
    /// How many others wait for it.
    pub waiting: usize,
}

/// Why a lock was not acquired. Nothing is held.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LockError {
    /// Others held it until the deadline.
    #[error("lock of {key:?} was not free within the deadline")]
    Timeout {
        /// The key that was waited for.
        key: String,
    },
    /// The backend cannot be asked, or cannot be trusted right now (connection lost, session suspect).
    #[error("lock backend is unavailable: {0}")]
    Unavailable(String),
    /// The manager is closing or closed.
    #[error("lock manager is closed")]
    Closed,
}

/// Acquires locks. One for each process.
#[async_trait]
pub trait LockManager: Send + Sync + fmt::Debug {
    /// Acquires every key of `keys` before `deadline`, or none. Duplicates count once; order does not matter.
    ///
    /// Reentrant: `owner` may acquire again what it holds. Only without waiting, though: a holder that waits for a key
    /// that it is to hand over to others waits for itself, until its deadline.
    ///
    /// May be dropped at any point: whatever was acquired is released.
    async fn acquire(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
    ) -> Result<LockGuard, LockError>;

    /// Acquires every key if all are free now or `owner`'s own, without waiting for anybody. Otherwise `None`, and nobody
    /// waits for what was tried. The deadline bounds how long the backend has to answer.
    async fn try_acquire(
        &self,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
    ) -> Result<Option<LockGuard>, LockError>;

    /// Every key that anybody holds, sorted by key, as it was at about one time.
    async fn list(&self) -> Result<Vec<LockedKey>, LockError>;

    /// Whether a lock could be acquired now: one round trip to the backend within `timeout`.
    async fn ping(&self, timeout: Duration) -> Result<(), LockError>;

    /// Releases everything and ends the session, awaited: other processes need not wait for a time-out.
    async fn close(&self);
}

/// Acquired keys. Dropping it releases them in the background; [`LockGuard::release`] does so awaited.
pub struct LockGuard {
    /// Sorted by key.
    tokens: Tokens,
    lost: OnceLock<Lost>,
    held: Option<Arc<dyn Held>>,
    since: Instant,
}

pub(crate) type Tokens = Vec<(Arc<str>, FencingToken)>;

/// Tells a guard that it lost its locks, for as long as somebody keeps it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost(Arc<CancellationToken>);

impl Lost {
    pub(crate) fn fire(&self) {
        self.0.cancel();
    }

    pub(crate) fn downgrade(&self) -> Weak<CancellationToken> {
        Arc::downgrade(&self.0)
    }
}

impl From<CancellationToken> for Lost {
    fn from(token: CancellationToken) -> Self {
        Self(Arc::new(token))
    }
}

/// What a backend keeps for the guards it hands out. Releasing must not block and must not need a runtime.
#[async_trait]
pub(crate) trait Held: Send + Sync {
    /// Called at most once for each guard, when somebody first asks.
    fn lost(&self, tokens: &Tokens) -> Lost;

    /// Called once for each guard.
    fn release(&self, tokens: &Tokens, fenced: bool);

    /// Waits until others could have what was released, or until that takes too long to wait for.
    async fn released(&self);
}

impl LockGuard {
    pub(crate) fn new(tokens: Tokens, held: Arc<dyn Held>, since: Instant) -> Self {
        Self { tokens, lost: OnceLock::new(), held: Some(held), since }
    }

    /// A guard of nothing.
    pub(crate) fn empty() -> Self {
        Self { tokens: Vec::new(), lost: OnceLock::from(Lost::default()), held: None, since: Instant::now() }
    }

    /// The token of `key`; `None` from a backend without fencing.
    pub fn token(&self, key: &str) -> Option<FencingToken> {
        let index = self.tokens.binary_search_by(|(name, _)| name.as_ref().cmp(key)).ok()?;
        Some(self.tokens[index].1)
    }

    /// Fires when the backend says that the locks may be gone. It can come late, and may never come: only the token is
    /// proof.
    pub fn lost(&self) -> &CancellationToken {
        let lost = || self.held.as_ref().map(|held| held.lost(&self.tokens)).unwrap_or_default();
        &self.lost.get_or_init(lost).0
    }

    /// Releases every key and waits until others can have them.
    pub async fn release(mut self) {
        if let Some(held) = self.end(false) {
            held.released().await;
        }
    }

    /// Releases every key because PostgreSQL refused a token: somebody newer held the key. Nothing of it is used again,
    /// so that the next acquisition gets newer tokens.
    pub fn fenced(mut self) {
        METRICS.fenced.increment(1);
        self.end(true);
    }

    fn end(&mut self, fenced: bool) -> Option<Arc<dyn Held>> {
        let held = self.held.take()?;
        METRICS.hold.record(self.since.elapsed());
        held.release(&self.tokens, fenced);
        Some(held)
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.end(false);
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}
