//! Gathers jobs of a kind while one batch of them is carried out.
//!
//! Invariants: a job that was taken in is answered, whatever becomes of its batch or of who asked for it; of one subject no two jobs
//! are in the same batch, and they are carried out in the order in which they came.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{super::Error, Subject};
use crate::{
    store::{self, Store},
    telemetry::spans,
};

/// The most jobs of a batch: so it takes milliseconds, and the rows that it locks are free again soon.
const ROOM: usize = 128;

/// How long the next batch gathers after one of several jobs: they come in numbers then, and a batch costs about as much for twice as
/// many. A job that comes alone, and not right after others, waits for nobody.
const LINGER: Duration = Duration::from_millis(5);

/// Something that can be done together with others of its kind.
pub(super) trait Job: Send + Sync + Sized + 'static {
    /// What who asked for it is told.
    type Outcome: Send + 'static;

    /// The name of a batch in logs.
    const NAME: &'static str;

    /// What no two jobs of a batch share.
    fn subject(&self) -> Subject;

    /// Carries jobs out in one transaction. `None` for each that is left out, of which nothing has happened then.
    fn carry_out(
        store: &Store,
        jobs: &[Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Outcome>>, Error>> + Send;
}

/// See the module. Clones share one queue.
pub(super) struct Group<J: Job>(Arc<Inner<J>>);

struct Inner<J: Job> {
    store: Store,
    state: Mutex<State<J>>,
}

struct State<J: Job> {
    waiting: VecDeque<Ticket<J>>,
    is_busy: bool,
}

struct Ticket<J: Job> {
    job: J,
    reply: oneshot::Sender<Option<J::Outcome>>,
}

impl<J: Job> Clone for Group<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J: Job> fmt::Debug for Group<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &J::NAME).finish_non_exhaustive()
    }
}

impl<J: Job> Group<J> {
    pub(super) fn new(store: &Store) -> Self {
        let state = Mutex::new(State { waiting: VecDeque::new(), is_busy: false });
        Self(Arc::new(Inner { store: store.clone(), state }))
    }

    /// Has a job carried out with the next batch. `None` if it was left out, or its batch failed.
    pub(super) async fn join(&self, job: J) -> Option<J::Outcome> {
        // The wait for the batch, and the batch: its transaction is of many traces.
        let _span = spans::step(J::NAME);
        let (reply, outcome) = oneshot::channel();
        {
            let mut state = self.0.lock();
            state.waiting.push_back(Ticket { job, reply });
            if !state.is_busy {
                state.is_busy = true;
                tokio::spawn(Arc::clone(&self.0).run());
            }
        }
        outcome.await.ok().flatten()
    }
}

impl<J: Job> Inner<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out one batch after the other until nothing waits.
    async fn run(self: Arc<Self>) {
        while let Some(batch) = self.next() {
            let is_gathering = batch.len() > 1;
            let (jobs, replies): (Vec<J>, Vec<_>) =
                batch.into_iter().map(|ticket| (ticket.job, ticket.reply)).unzip();
            let carried = timeout(self.store.patience(), J::carry_out(&self.store, &jobs));
            let outcomes = match AssertUnwindSafe(carried).catch_unwind().await {
                Ok(Ok(outcomes)) => outcomes,
                Ok(Err(_)) => Err(store::Error::Unavailable("PostgreSQL is silent".into()).into()),
                Err(_) => Err(store::Error::Inconsistent("a batch panicked".into()).into()),
            };
            match outcomes {
                Ok(outcomes) => replies.into_iter().zip(outcomes).for_each(|(reply, outcome)| {
                    // Who asked may have gone.
                    let _ = reply.send(outcome);
                }),
                // Each is done by whoever asked for it: the replies are dropped.
                Err(error) => {
                    tracing::warn!(batch = J::NAME, jobs = jobs.len(), %error, "a batch failed: its jobs are done one by one");
                }
            }
            if is_gathering {
                sleep(LINGER).await;
            }
        }
    }

    /// Takes what waits, but of one subject only the first.
    fn next(&self) -> Option<Vec<Ticket<J>>> {
        let mut state = self.lock();
        let (mut batch, mut passed, mut subjects) = (Vec::new(), VecDeque::new(), HashSet::new());
        while batch.len() < ROOM
            && let Some(ticket) = state.waiting.pop_front()
        {
            if subjects.insert(ticket.job.subject()) { batch.push(ticket) } else { passed.push_back(ticket) }
        }
        passed.append(&mut state.waiting);
        state.waiting = passed;
        state.is_busy = !batch.is_empty();
        state.is_busy.then_some(batch)
    }
}
