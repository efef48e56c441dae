//! The life of one acquisition, as one task: obtain, hold, leave.
//!
//! The task owns the nodes from before they are created until they are deleted, and nothing else ever touches them. The
//! caller's future only waits for the task's answer, and the guard only keeps a channel to it. So either may be dropped
//! at any point and from any thread: the task notices and cleans up.

use std::{
    collections::{HashMap, hash_map},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{self, Instant},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Plan,
    entry::{Blueprint, Entry},
    session::{Fault, Session},
};
use crate::lock::{FencingToken, Held, LockError, LockGuard, LockOwner, Lost, METRICS, Tokens};

/// How long a claim is held before its nodes are watched. Most are released sooner, and to watch costs the servers about
/// as much as to lock.
const WATCH_AFTER: Duration = Duration::from_millis(50);

/// What every claim of a manager shares.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) epoch: i32,
    /// How long an awaited release waits, too. The deletion itself goes on for as long as the session lives.
    pub(super) request_timeout: Duration,
    pub(super) sessions: watch::Receiver<Option<Arc<Session>>>,
    pub(super) closing: CancellationToken,
    /// What each owner holds, so that it may acquire it again.
    pub(super) holdings: Mutex<HashMap<LockOwner, Vec<Arc<Holding>>>>,
}

/// Somebody wants these keys.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) context: Arc<Context>,
    pub(super) plan: Arc<Plan>,
    pub(super) blueprint: Blueprint,
    pub(super) owner: LockOwner,
    pub(super) deadline: Instant,
    /// Whether to wait for those ahead.
    pub(super) patient: bool,
}

/// Where the task sends what the caller gets.
pub(super) type Reply = oneshot::Sender<Result<Option<LockGuard>, LockError>>;

impl Claim {
    pub(super) async fn run(self, mut reply: Reply) {
        let closing = &self.context.closing;
        let mut entry = None;
        let outcome = tokio::select! {
            biased;
            () = closing.cancelled() => Err(LockError::Closed),
            // Nobody waits for the answer any more.
            () = reply.closed() => Err(LockError::Closed),
            () = time::sleep_until(self.deadline) => Err(self.too_late(entry.as_ref())),
            outcome = self.obtain(&mut entry) => outcome,
        };
        let mut done = None;
        match (outcome, &entry) {
            (Ok(Some(czxid)), Some(entry)) => done = self.hold(entry, czxid, reply).await,
            // Nothing is obtained without an entry.
            (Ok(_), _) => drop(reply.send(Ok(None))),
            // The caller learns it at its deadline; the nodes are deleted after that.
            (Err(error), _) => drop(reply.send(Err(error))),
        }
        if let Some(mut entry) = entry {
            tokio::select! {
                biased;
                // The end of the session deletes the nodes of every claim at once.
                () = closing.cancelled() => {}
                () = entry.leave() => {}
            }
        }
        drop(done);
    }

    /// Leaves in `entry` what has to be deleted, at every await.
    async fn obtain<'a>(&'a self, entry: &mut Option<Entry<'a>>) -> Result<Option<i64>, LockError> {
        let mut sessions = self.context.sessions.clone();
        loop {
            let session = sessions.wait_for(Option::is_some).await.map_err(|_| LockError::Closed)?.clone();
            let Some(session) = session else { continue };
            let entry = entry.insert(Entry::new(session, &self.blueprint));
            match entry.obtain(self.patient).await {
                Ok(czxid) => return Ok(czxid),
                // Until the supervisor knows it too.
                Err(Fault::Ended) => entry.session.ended().cancelled().await,
                Err(fault) => return Err(LockError::Unavailable(fault.to_string())),
            }
        }
    }

    /// What the caller gets at its deadline.
    fn too_late(&self, entry: Option<&Entry<'_>>) -> LockError {
        match entry.and_then(Entry::waiting_for) {
            Some(key) => LockError::Timeout { key: key.to_owned() },
            None => LockError::Unavailable(format!("no answer from ZooKeeper at {}", self.plan.servers)),
        }
    }

    /// Hands the guard out and waits until it is released. Returns whom to tell that the nodes are deleted.
    async fn hold(&self, entry: &Entry<'_>, czxid: i64, reply: Reply) -> Option<DropGuard> {
        let token = FencingToken { epoch: self.context.epoch, sequence: czxid };
        let tokens: Tokens = self.blueprint.keys.iter().map(|key| (key.clone(), token)).collect();
        let lost = entry.session.ended().child_token();
        let holding = Arc::new(Holding {
            context: self.context.clone(),
            owner: self.owner,
            tokens: tokens.clone(),
            guards: AtomicUsize::new(1),
            lost: lost.clone(),
            released: CancellationToken::new(),
            deleted: CancellationToken::new(),
        });
        self.context.holdings().entry(self.owner).or_default().push(holding.clone());
        // A caller that went away drops the guard, which releases it.
        let _ = reply.send(Ok(Some(LockGuard::new(tokens, holding.clone(), Instant::now()))));
        let mut broken = pin!(async {
            time::sleep(WATCH_AFTER).await;
            entry.broken().await;
        });
        loop {
            tokio::select! {
                biased;
                () = holding.released.cancelled() => return Some(holding.deleted.clone().drop_guard()),
                () = self.context.closing.cancelled() => {
                    lost.cancel();
                    holding.deleted.cancel();
                    return None;
                }
                () = &mut broken, if !lost.is_cancelled() => {
                    tracing::warn!(keys = ?self.blueprint.keys, "locks lost while held");
                    METRICS.lost.increment(self.blueprint.keys.len() as u64);
                    lost.cancel();
                }
            }
        }
    }
}

/// What the task and the guards of one owner share.
#[derive(Debug)]
pub(super) struct Holding {
    context: Arc<Context>,
    owner: LockOwner,
    tokens: Tokens,
    /// How many there are. Nobody joins once there are none.
    guards: AtomicUsize,
    lost: CancellationToken,
    released: CancellationToken,
    deleted: CancellationToken,
}

impl Context {
    /// Another guard for an owner that holds all of `keys` by one claim.
    pub(super) fn share(&self, keys: &[String], owner: LockOwner) -> Option<LockGuard> {
        let holdings = self.holdings();
        let holds = |holding: &&Arc<Holding>| {
            !holding.lost.is_cancelled()
                && keys
                    .iter()
                    .all(|key| holding.tokens.binary_search_by(|(name, _)| name.as_ref().cmp(key)).is_ok())
        };
        let holding = holdings.get(&owner)?.iter().find(holds)?.clone();
        // Under the mutex: the last guard takes the holding out before it releases it.
        holding.guards.fetch_add(1, Ordering::Relaxed);
        drop(holdings);
        let tokens = holding.tokens.iter().filter(|(name, _)| keys.iter().any(|key| **key == **name));
        Some(LockGuard::new(tokens.cloned().collect(), holding.clone(), Instant::now()))
    }

    fn holdings(&self) -> MutexGuard<'_, HashMap<LockOwner, Vec<Arc<Holding>>>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Held for Holding {
    fn lost(&self, _tokens: &Tokens) -> Lost {
        Lost::from(self.lost.clone())
    }

    fn release(&self, _tokens: &Tokens, _fenced: bool) {
        let mut holdings = self.context.holdings();
        if self.guards.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        if let hash_map::Entry::Occupied(mut own) = holdings.entry(self.owner) {
            own.get_mut().retain(|holding| !std::ptr::eq(holding.as_ref(), self));
            if own.get().is_empty() {
                own.remove();
            }
        }
        drop(holdings);
        self.released.cancel();
    }

    async fn released(&self) {
        if !self.released.is_cancelled() {
            // Another guard of this owner still holds it.
            return;
        }
        if time::timeout(self.context.request_timeout, self.deleted.cancelled()).await.is_err() {
            tracing::debug!("a released lock is not deleted yet, going on in the background");
        }
    }
}
