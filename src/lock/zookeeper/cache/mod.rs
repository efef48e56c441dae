//! Locks that are kept after their use: one node for each key and process, shared by everybody in the process.
//!
//! - `table`: who holds, pins and waits for what; `trust`: whether that may be believed. `request`: who gets what next. `hand_over`: what is given up, and when.
//!   `flight`: a claim on its way. `keeper`: what happens around a held node. `sentinel`: the session.
//!
//! An acquisition pins held keys. If all of them are held and free, that is all: no request, no await, about a microsecond.
//! The last unpin leaves the node where it is, for the next acquisition. So a process that alone sells a SKU asks ZooKeeper
//! once, and N local waiters are one node in the queue.
//!
//! # Why this neither deadlocks nor starves
//! 1. A claim enters all its queues by one `multi` and waits only for nodes ahead of its own (see `entry`): claims are
//!    totally ordered, by their zxid. A node lands in the table as soon as it is the first of its queue.
//! 2. **A waiter pins nothing.** What requests lack is claimed for all of them together, and lands free for anybody. If all
//!    keys of a request are there at the same time, it pins them all at once. What is there and not pinned is handed over
//!    like everything else: such claims keep nothing from anybody for longer than that.
//! 3. A request that once had all its claims on their way, and still missed a key, makes a **whole claim**: every key anew,
//!    at the tail, behind the own nodes, which get no more pins. What lands of it is not handed over before its request is
//!    served; in the process others may use it meanwhile. So of all claims only whole ones wait in one queue while they hold
//!    up another one, and they are entered at once, by one `multi`: waiting follows the order of zxids and has no cycle.
//! 4. **A holder never waits** for a lock, so a pinned node ahead goes away as soon as its holder is done; an unpinned one
//!    within [`CacheOptions::hand_over`]. So the oldest whole claim always lands, and its request is served at that moment.
//! 5. In the process, a request waits for every earlier one of another owner that wants one of its keys, and for no later
//!    one: that has no cycle. It makes a whole claim only when no such request is there any more, so no whole claim waits for
//!    anything but nodes. One owner's requests may overtake each other, since they share their pins. Whole claims that
//!    overlap are made one after the other, the oldest request first, so each request comes to its turn.
//!
//! # Bounded hand-over
//! From the moment a holder sees another node in its queue, a key that nobody here uses or wants is given up, at once or
//! after [`CacheOptions::linger`]; and in any case it gets no more pins after [`CacheOptions::hand_over`]. Whoever wants it
//! here then enters at the tail. So a process that floods a key delays another by `hand_over`, what its last holder takes,
//! and two writes.
//!
//! # Fencing
//! A key's token is its node's czxid for as long as the node is held. No other process holds the key in between, so
//! everything that is written with it lies between the writes of the holder before and of the holder after.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::{self, Instant},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Plan, entry::delete, session::Session};
use crate::lock::{Held, LockError, LockGuard, LockOwner, Lost, METRICS, Tokens};

mod flight;
mod hand_over;
mod keeper;
mod request;
mod sentinel;
mod table;
mod trust;

use table::{Effects, NEW, Table, Ticket};

/// How many nodes one request deletes.
const DELETE_MAX: usize = 256;

/// How locks are kept after their use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// How long a process may go on using a key that another one waits for.
    pub hand_over: Duration,
    /// How long it keeps such a key for the next user if there is none at the moment.
    pub linger: Duration,
    /// How long a key is kept that nobody uses.
    pub idle: Duration,
    /// How many keys are kept. All of them are unavailable to others for a session time-out if the process is killed.
    pub keys_max: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            hand_over: Duration::from_millis(25),
            linger: Duration::from_millis(2),
            idle: Duration::from_secs(30),
            keys_max: 4096,
        }
    }
}

/// The table, and the tasks that work for it.
#[derive(Debug)]
pub(super) struct Cache {
    table: Mutex<Table>,
    plan: Arc<Plan>,
    /// The session that the table knows.
    sessions: watch::Sender<Option<Arc<Session>>>,
    closing: CancellationToken,
    tasks: TaskTracker,
    runtime: Handle,
    /// How often to look for idle keys.
    tick: Duration,
    this: Weak<Self>,
}

impl Cache {
    /// Starts the tasks, on the runtime of the caller.
    pub(super) fn start(
        options: CacheOptions,
        (plan, epoch): (Arc<Plan>, i32),
        sessions: watch::Receiver<Option<Arc<Session>>>,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let tick = (options.idle / 4).max(Duration::from_millis(5));
        let cache = Arc::new_cyclic(|this| Self {
            table: Mutex::new(Table::new(options, epoch)),
            plan,
            sessions: watch::Sender::new(None),
            closing,
            tasks,
            runtime: Handle::current(),
            tick,
            this: this.clone(),
        });
        cache.spawn(sentinel::watch(cache.clone(), sessions));
        cache
    }

    /// Acquires sorted, unique keys. `None` only if it is not to wait.
    pub(super) async fn acquire(
        self: &Arc<Self>,
        keys: &[String],
        owner: LockOwner,
        deadline: Instant,
        patient: bool,
    ) -> Result<Option<LockGuard>, LockError> {
        let now = Instant::now();
        let pinned = {
            let mut table = self.table();
            if table.closed {
                return Err(LockError::Closed);
            }
            table.pin(keys, owner, NEW, now)
        };
        if let Some(tokens) = pinned {
            METRICS.cache_hits.increment(1);
            return Ok(Some(LockGuard::new(tokens, self.clone(), now)));
        }
        let (reply, answer) = oneshot::channel();
        let keys = keys.iter().map(|key| Arc::from(key.as_str())).collect();
        let ticket = self.with(|table, now, fx| table.join((keys, owner, patient), reply, now, fx));
        let mut waiting = Waiting { cache: self, ticket, answer };
        let answer = time::timeout_at(deadline, &mut waiting.answer).await;
        METRICS.wait.record(now.elapsed());
        if let Ok(answer) = answer {
            // Without an answer the table is gone.
            return answer.unwrap_or(Err(LockError::Closed));
        }
        let obstacle = self.with(|table, now, _| table.obstacle(ticket, now));
        // It may just have come.
        if let Ok(answer) = waiting.answer.try_recv() {
            return answer;
        }
        Err(match obstacle {
            Some(key) => LockError::Timeout { key: key.to_string() },
            None => LockError::Unavailable(format!("no answer from ZooKeeper at {}", self.plan.servers)),
        })
    }

    /// Works on the table, and then does what that made necessary.
    fn with<T>(&self, work: impl FnOnce(&mut Table, Instant, &mut Effects) -> T) -> T {
        let (now, mut fx) = (Instant::now(), Effects::default());
        let mut table = self.table();
        let result = work(&mut table, now, &mut fx);
        table.work(now, &mut fx);
        drop(table);
        self.effect(fx, now);
        result
    }

    /// Outside the mutex: a reply that nobody receives drops a guard, which needs it.
    fn effect(&self, fx: Effects, now: Instant) {
        for lost in fx.lost {
            lost.cancel();
        }
        if let Some(session) = fx.releases.first().map(|node| node.session.clone()) {
            // Of one session: the table knows no other at a time.
            let paths = fx.releases.iter().map(|node| node.path.clone()).collect();
            self.spawn(delete_all(self.closing.clone(), session, paths));
        }
        if fx.replies.is_empty() && fx.starts.is_empty() && fx.keep.is_empty() {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        for (reply, answer) in fx.replies {
            let guard = |tokens| LockGuard::new(tokens, this.clone(), now);
            drop(reply.send(answer.map(|tokens| tokens.map(guard))));
        }
        for flight in fx.starts {
            self.spawn(flight::fly(this.clone(), flight));
        }
        for (node, view) in fx.keep {
            self.spawn(keeper::keep(this.clone(), node, view));
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Held for Cache {
    fn lost(&self, tokens: &Tokens) -> Lost {
        self.table().lost(tokens)
    }

    fn release(&self, tokens: &Tokens, fenced: bool) {
        self.with(|table, now, fx| table.unpin(tokens, fenced, now, fx));
    }

    /// Others get it when they ask for it.
    async fn released(&self) {}
}

/// A request in the table. Dropping it takes it out.
struct Waiting<'a> {
    cache: &'a Cache,
    ticket: Ticket,
    answer: oneshot::Receiver<Result<Option<LockGuard>, LockError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.cache.with(|table, _, fx| table.remove(self.ticket, fx));
    }
}

/// Deletes nodes, many with one request. When closing, the end of the session does.
async fn delete_all(closing: CancellationToken, session: Arc<Session>, paths: Vec<String>) {
    for paths in paths.chunks(DELETE_MAX) {
        tokio::select! {
            biased;
            () = closing.cancelled() => return,
            () = session.ended().cancelled() => return,
            () = delete(&session, paths) => {}
        }
    }
}
