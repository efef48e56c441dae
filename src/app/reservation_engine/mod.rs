//! The reservation engine: places orders in batches, one transaction for each.
//!
//! Load makes the batches, no timer does: when a batch is through, the next one takes every order in the queue that shares nothing
//! with a batch in flight ([`queue`]). At low load a batch is one order, and nobody waits. While batches are slow there are several
//! at a time, in lanes ([`lanes`]).
//!
//! It must not acquire locks: an order comes with the guard of its SKUs, and the guard is dropped when its batch is
//! through. It keeps no stock: what a level has left is decided in the database ([`batch`]). Where a line names no location
//! it is written at the one that it is expected to be taken from ([`candidates`]); the database has the last word there too.
//!
//! Invariants: an order that was accepted is answered, whatever becomes of its batch or of the client that sent it; the
//! orders under way are bounded, those that wait for their locks included; a lane that ends takes its SKUs out of flight.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{Answer, Cause, Error, answer};
use crate::{
    domain::{
        allocation::Allocation, new_order::OrderDraft, open_orders::OpenOrderCaps, reservation::Shortage,
    },
    lock::{LockGuard, LockOwner},
    store::{Store, idempotency::IdempotentRequest},
};

mod batch;
mod bounds;
mod candidates;
mod database_clock;
mod lanes;
mod levels_seen;
mod limits_seen;
mod metrics;
mod placing;
mod queue;
mod recent;
mod rendered;

use bounds::Bounds;
use candidates::CandidatesSeen;
use database_clock::DatabaseClock;
use lanes::Lanes;
use levels_seen::LevelsSeen;
use limits_seen::LimitsSeen;
use metrics::METRICS;
use queue::{Batch, Limits, Queue, Wants};
use rendered::Rendered;

/// How many orders that cannot be placed look at a time whether they were before, and for how long in all: a flood that is
/// refused leaves the database to those that are not, and is refused soon.
const LOOK_UPS: usize = 2;
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(1);

/// How orders are batched.
#[derive(Debug, Clone, Copy)]
pub struct ReservationOptions {
    /// How many batches are in flight at a time while they are slow, each with a connection.
    pub lanes: usize,
    /// How many orders may be under way: waiting for their locks, waiting for a lane, being written. One more is refused.
    pub queue: usize,
    /// The most orders of a batch.
    pub batch_orders: usize,
    /// The most lines of a batch of several orders.
    pub batch_lines: usize,
    /// Whether all orders of this process are one owner, which shares its locks with itself. Only for locks that are handed
    /// over within bounds however they are shared: others would be kept from other processes for as long as orders come.
    pub share_locks: bool,
    /// How many unpaid orders a customer and a client may have.
    pub caps: OpenOrderCaps,
}

/// An order that is to be placed.
#[derive(Debug)]
pub(super) struct Placement {
    pub(super) draft: OrderDraft,
    pub(super) request: IdempotentRequest,
    pub(super) cause: Cause,
}

/// What one try came to.
#[derive(Debug)]
pub(super) enum Placed {
    Answer(Answer),
    /// A newer holder of a lock has been here: take the locks again.
    StaleFence,
    Short(Vec<Shortage>),
}

/// Room for one order, until it is answered.
pub(super) type Admission = Arc<Room>;

pub(super) struct Room {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        METRICS.under_way.decrement(1);
    }
}

/// A placement in the queue, under the locks of its SKUs.
struct Ticket {
    placement: Arc<Placement>,
    guard: LockGuard,
    /// See [`Engine::expect_allocations`].
    expected: Option<Vec<Allocation>>,
    /// Its client may go away before it is placed; the room that it takes is free when it is.
    _admission: Admission,
    /// The order as it will be if it is placed at once; `None` if it has to be decided. Made by whoever brings it: the lanes
    /// are what is scarce.
    rendered: Option<Rendered>,
    reply: oneshot::Sender<Result<Placed, Error>>,
}

/// See the module. Clones share one queue.
#[derive(Clone)]
pub struct ReservationEngine(Arc<Engine>);

struct Engine {
    store: Store,
    options: ReservationOptions,
    owner: LockOwner,
    room: Arc<Semaphore>,
    look_ups: Semaphore,
    state: Mutex<State>,
    hashes: RandomState,
    clock: DatabaseClock,
    seen: LevelsSeen,
    candidates: CandidatesSeen,
    limits_seen: LimitsSeen,
}

struct State {
    queue: Queue<Ticket>,
    lanes: Lanes,
    /// Whether somebody looks whether another lane opens.
    is_watched: bool,
}

impl ReservationEngine {
    /// An engine with an empty queue. It runs on whatever runtime places an order.
    pub fn new(store: Store, options: ReservationOptions) -> Self {
        let limits = Limits { orders: options.batch_orders, lines: options.batch_lines };
        Self(Arc::new(Engine {
            store,
            options,
            owner: LockOwner::new(),
            room: Arc::new(Semaphore::new(options.queue)),
            look_ups: Semaphore::new(LOOK_UPS),
            state: Mutex::new(State {
                queue: Queue::new(limits),
                lanes: Lanes::new(options.lanes),
                is_watched: false,
            }),
            hashes: RandomState::new(),
            clock: DatabaseClock::default(),
            seen: LevelsSeen::default(),
            candidates: CandidatesSeen::default(),
            limits_seen: LimitsSeen::default(),
        }))
    }

    /// The owner of the next order's locks. Orders that share a lock are kept apart by the engine.
    pub(super) fn lock_owner(&self) -> LockOwner {
        if self.0.options.share_locks { self.0.owner } else { LockOwner::new() }
    }

    /// Makes room for an order, before its locks are taken.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is none.
    pub(super) fn admit(&self) -> Result<Admission, Error> {
        let permit = self.0.room.clone().try_acquire_owned().map_err(|_| {
            METRICS.overloaded.increment(1);
            Error::Overloaded { waiting: self.0.options.queue }
        })?;
        METRICS.under_way.increment(1);
        Ok(Arc::new(Room { _permit: permit }))
    }

    /// What a request that cannot be placed now was answered before, if it was.
    pub(super) async fn find_answer(&self, request: &IdempotentRequest) -> Result<Option<Answer>, Error> {
        let look_up = async {
            let Ok(_turn) = self.0.look_ups.acquire().await else { return Ok(None) };
            answer::find(&mut *self.0.store.conn_by_key().await?, request).await
        };
        timeout(LOOK_UP_PATIENCE, look_up).await.unwrap_or(Ok(None))
    }

    /// Places an order whose SKUs `guard` holds. Once it is queued, it is carried out even if nobody waits for the answer.
    pub(super) async fn place(
        &self,
        placement: Arc<Placement>,
        guard: LockGuard,
        admission: Admission,
    ) -> Result<Placed, Error> {
        let (reply, placed) = oneshot::channel();
        // Under the locks of its SKUs, which it may have waited for: those before it have changed what is expected.
        let expected = self.0.expect_allocations(&placement.draft.lines).await?;
        let render =
            |(now, allocations): (_, &Vec<Allocation>)| Rendered::new(&placement.draft, allocations, now);
        let rendered = self.0.clock.now().zip(expected.as_ref()).map(render).transpose()?;
        self.0.submit(Ticket { placement, guard, expected, _admission: admission, rendered, reply });
        placed.await.unwrap_or_else(|_| Err(Error::Unknown("its batch ended without an answer".into())))
    }
}

impl std::fmt::Debug for ReservationEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.lock();
        f.debug_struct("ReservationEngine")
            .field("waiting", &state.queue.len())
            .field("lanes_busy", &state.lanes.busy())
            .finish_non_exhaustive()
    }
}

impl Engine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(self: &Arc<Self>, ticket: Ticket) {
        let wants = self.wants(&ticket.placement);
        let mut state = self.lock();
        let waits = !state.lanes.is_open(Instant::now()) || state.queue.has_to_wait(&wants);
        state.queue.push(wants, ticket);
        if !waits {
            self.start_lane(&mut state);
        }
        self.watch(&mut state);
        METRICS.queued.set(waiting(&state));
    }

    fn wants(&self, placement: &Placement) -> Wants {
        let hash = |kind: u8, value: &dyn Fn(&mut std::hash::DefaultHasher)| {
            let mut hasher = self.hashes.build_hasher();
            kind.hash(&mut hasher);
            value(&mut hasher);
            std::hash::Hasher::finish(&hasher)
        };
        let key = hash(0, &|hasher| placement.request.key.digest().hash(hasher));
        let reference = placement.draft.client_reference.as_ref();
        Wants {
            skus: placement.draft.lines.iter().map(|line| hash(1, &|hasher| line.sku.hash(hasher))).collect(),
            identity: std::iter::once(key)
                .chain(reference.map(|reference| hash(2, &|hasher| reference.hash(hasher))))
                .collect(),
            lines: placement.draft.lines.len(),
        }
    }

    /// Begins a batch in another lane, if that is open and there is one.
    fn start_lane(self: &Arc<Self>, state: &mut State) {
        if let Some((batch, begun)) = begin_batch(state) {
            METRICS.lanes_busy.increment(1);
            tokio::spawn(self.clone().run_lane(batch, begun));
        }
    }

    /// Sees to it that another lane begins once it opens, as long as orders wait.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if state.is_watched || state.queue.is_empty() {
            return;
        }
        let Some(mut opens_at) = state.lanes.opens_at() else { return };
        state.is_watched = true;
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                sleep_until(opens_at).await;
                match engine.look_again() {
                    Some(next) => opens_at = next,
                    None => return,
                }
            }
        });
    }

    /// Begins a batch in the lane that has opened, and says when to look again. `None`: nobody looks any more, because nothing waits, or
    /// what waits shares something with what is in flight and begins when that ends.
    fn look_again(self: &Arc<Self>) -> Option<Instant> {
        let mut state = self.lock();
        self.start_lane(&mut state);
        METRICS.queued.set(waiting(&state));
        let opens_at = state.lanes.opens_at().filter(|_| !state.queue.is_empty());
        let opens_at = opens_at.filter(|opens_at| *opens_at > Instant::now());
        state.is_watched = opens_at.is_some();
        opens_at
    }

    /// Places one batch after the other until there is none.
    async fn run_lane(self: Arc<Self>, mut batch: Batch<Ticket>, mut begun: Instant) {
        loop {
            let placing = AssertUnwindSafe(self.place_batch(batch.items)).catch_unwind();
            let answers = placing.await.unwrap_or_else(|_| {
                // Whoever waits for an order of it learns that its outcome is unknown.
                tracing::error!("a batch of orders panicked");
                Vec::new()
            });
            let Some((next, then)) = self.next(&batch.wanted, begun) else {
                return batch::answer_all(answers);
            };
            // PostgreSQL works on the next batch while the clients of this one get their answers.
            tokio::spawn(async { batch::answer_all(answers) });
            (batch, begun) = (next, then);
        }
    }

    /// The batch of a lane is through. Gives its next one, which somebody else takes if a lane that is not slow is in use.
    fn next(self: &Arc<Self>, done: &HashSet<u64>, begun: Instant) -> Option<(Batch<Ticket>, Instant)> {
        let mut state = self.lock();
        state.queue.finish(done);
        state.lanes.end(begun);
        let batch = begin_batch(&mut state);
        if batch.is_none() {
            METRICS.lanes_busy.decrement(1);
        }
        self.watch(&mut state);
        METRICS.queued.set(waiting(&state));
        batch
    }
}

/// What begins now, if a lane is open and an order can be placed.
fn begin_batch(state: &mut State) -> Option<(Batch<Ticket>, Instant)> {
    let now = Instant::now();
    if !state.lanes.is_open(now) {
        return None;
    }
    let batch = state.queue.take()?;
    state.lanes.begin(now);
    Some((batch, now))
}

/// How many orders wait for a batch.
fn waiting(state: &State) -> f64 {
    f64::from(u32::try_from(state.queue.len()).unwrap_or(u32::MAX))
}
