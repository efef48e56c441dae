//! How every consumer runs: take deliveries in hand, begin as many as may be handled at a time, settle each by what came of it.
//!
//! [`delivery`] is one of them from its message to its settlement; [`settling`] is the table of what becomes of it; [`hand`]
//! says which is next; [`prefetch`] how many the broker may have out; [`blocks`] which of them build on a dead letter.
//!
//! Invariants: of one order one event is handled at a time. An event that was there when processes died is handled while
//! nothing else is in hand: whatever it does, it does to itself. A stopping process takes nothing new, gives back what it has
//! not begun, finishes the rest, and keeps its channel open until then.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

mod blocks;
mod delivery;
mod hand;
mod metrics;
mod prefetch;
mod settling;
mod span;

pub(super) use delivery::{bury, store_letter};

use self::{
    blocks::Blocks,
    delivery::Handler,
    hand::{Hand, Key},
    metrics::Outcome,
    prefetch::Prefetch,
};
use crate::{
    app::{App, Error, Handling, Progress},
    bus::{Deliveries, Delivery, EventBus, Next, Settlement, Subscription},
    domain::event::Event,
};

/// How often an event may have come back from processes that did not settle it before it is handled alone.
const SUSPECT: u32 = 2;

/// How long the end may wait for the broker to say that it hands out nothing more.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A consumer of events.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Its name and the events it wants.
    fn subscription(&self) -> Subscription;

    /// Whether an event of an order is not to be handled while an earlier one of the order is a dead letter of this consumer.
    fn builds_on_earlier_events(&self) -> bool;

    /// Handles one event. The effect must be committed together with the mark of `handling` in the inbox.
    async fn handle(&self, app: &App, handling: &Handling, event: &Event) -> Result<Progress, Error>;
}

/// How a consumer runs.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerOptions {
    /// How many events it handles at a time.
    pub concurrency: u16,
    /// The most deliveries that it has in hand.
    pub max_prefetch: u16,
    /// How long what is in flight may take once it is to stop.
    pub drain: Duration,
}

/// Handles a consumer's events until `shutdown` fires and what is in flight is done, or the drain time has passed.
pub async fn run_consumer(
    consumer: &'static dyn Consumer,
    app: App,
    bus: Arc<dyn EventBus>,
    options: ConsumerOptions,
    shutdown: CancellationToken,
) {
    let subscription = consumer.subscription();
    let prefetch = Prefetch::new(options.concurrency, options.max_prefetch);
    metrics::describe();
    metrics::prefetch(subscription.consumer, prefetch.current());
    let deliveries = bus.subscribe(&subscription, prefetch.current()).await;
    let handler = Handler { consumer, name: subscription.consumer, app, blocks: Blocks::default() };
    let runner = Runner {
        handler: Arc::new(handler),
        slots: usize::from(options.concurrency.max(1)),
        deliveries,
        prefetch,
        hand: Hand::default(),
        running: JoinSet::new(),
        keys: HashMap::new(),
        suspects: Vec::new(),
        intake: Intake::Open,
        is_draining: false,
    };
    runner.run(options.drain, shutdown).await;
}

/// Whether deliveries come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    Open,
    /// No more were asked for; some may be on their way.
    Stopping,
    Stopped,
    Closed,
}

struct Runner {
    handler: Arc<Handler>,
    slots: usize,
    deliveries: Deliveries,
    prefetch: Prefetch,
    hand: Hand<Delivery>,
    running: JoinSet<Duration>,
    /// Of what runs, what belongs together.
    keys: HashMap<task::Id, Option<Key>>,
    /// To be handled alone, once nothing else is in hand, and whether that has begun before and not ended.
    suspects: Vec<(bool, Delivery)>,
    intake: Intake,
    is_draining: bool,
}

impl Runner {
    async fn run(mut self, drain: Duration, shutdown: CancellationToken) {
        let mut deadline = None;
        loop {
            self.begin();
            metrics::in_flight(self.handler.name, self.running.len());
            if self.is_draining && self.running.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if !self.is_draining => {
                    deadline = Some(Instant::now() + drain);
                    self.stop().await;
                }
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => self.ended(ended),
                next = next(&mut self.deliveries, self.intake) => self.take(next).await,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    let (consumer, in_flight) = (self.handler.name, self.running.len());
                    tracing::warn!(consumer, in_flight, "still busy at the end of the drain time; will come again");
                    return;
                }
            }
        }
        let rest = async {
            while self.intake == Intake::Stopping {
                let next = next(&mut self.deliveries, self.intake).await;
                self.take(next).await;
            }
        };
        // If it says nothing, the end of the channel gives back what is left.
        let _ = timeout(STOP_TIMEOUT, rest).await;
    }

    /// Begins what may be begun.
    fn begin(&mut self) {
        if self.is_draining {
            return;
        }
        if !self.suspects.is_empty() && self.intake == Intake::Open {
            let consumer = self.handler.name;
            tracing::warn!(
                consumer,
                "an event was there when processes died: it is handled alone, after all others in hand"
            );
            self.set_prefetch(0);
        }
        while self.running.len() < self.slots
            && let Some((key, delivery)) = self.hand.next()
        {
            self.spawn(Some(key), delivery);
        }
        let is_alone = self.running.is_empty() && self.hand.is_empty();
        if is_alone && matches!(self.intake, Intake::Stopped | Intake::Closed) {
            if self.suspects.is_empty() {
                if self.intake == Intake::Stopped {
                    self.set_prefetch(self.prefetch.current());
                }
            } else {
                // Those first that have ended no process yet, and any of them: if one of them does, the others are not always
                // behind it.
                let unproven: Vec<usize> =
                    (0..self.suspects.len()).filter(|&index| !self.suspects[index].0).collect();
                let index = unproven.get(rand::random_range(0..unproven.len().max(1))).copied().unwrap_or(0);
                let (_, suspect) = self.suspects.swap_remove(index);
                self.spawn(None, suspect);
            }
        }
    }

    /// Without a key it is alone.
    fn spawn(&mut self, key: Option<Key>, delivery: Delivery) {
        let (handler, alone) = (Arc::clone(&self.handler), key.is_none());
        let task = self.running.spawn(async move { handler.process(delivery, alone).await });
        self.keys.insert(task.id(), key);
    }

    fn ended(&mut self, ended: Result<(task::Id, Duration), task::JoinError>) {
        let (id, time) = match ended {
            Ok((id, time)) => (id, Some(time)),
            // Its delivery was dropped, and comes again.
            Err(error) => {
                tracing::error!(consumer = self.handler.name, %error, "a delivery was not handled to its end");
                (error.id(), None)
            }
        };
        if let Some(Some(key)) = self.keys.remove(&id) {
            self.hand.done(&key);
        }
        if let Some(prefetch) = time.and_then(|time| self.prefetch.handled(time))
            && self.intake == Intake::Open
        {
            self.set_prefetch(prefetch);
        }
    }

    async fn take(&mut self, next: Next<Delivery>) {
        match next {
            Next::Delivery(delivery) if self.is_draining => self.release(vec![delivery]).await,
            Next::Delivery(delivery) => {
                self.prefetch.arrived(Instant::now());
                if delivery.is_isolated || delivery.redeliveries >= SUSPECT {
                    let was_begun = self.handler.was_begun_alone(&delivery).await;
                    self.suspects.push((was_begun, delivery));
                } else {
                    let place = delivery.envelope.as_ref().ok();
                    let place =
                        place.map(|envelope| (envelope.partition_key().to_owned(), envelope.sequence));
                    self.hand.put(place.as_ref().map(|(key, sequence)| (key.as_str(), *sequence)), delivery);
                }
            }
            Next::Stopped => self.intake = Intake::Stopped,
            Next::Closed => {
                self.intake = Intake::Closed;
                self.is_draining = true;
            }
        }
    }

    /// Takes nothing more, and gives back what was not begun, so that others can begin it now.
    async fn stop(&mut self) {
        self.is_draining = true;
        self.set_prefetch(0);
        let mut rest = self.hand.take_all();
        rest.extend(self.suspects.drain(..).map(|(_, delivery)| delivery));
        self.release(rest).await;
    }

    async fn release(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            // Where it does not work, it comes again anyhow.
            if delivery.settle.settle(Settlement::Release).await.is_ok() {
                metrics::settled(self.handler.name, Outcome::Released);
            }
        }
    }

    fn set_prefetch(&mut self, prefetch: u16) {
        self.intake = match (self.intake, prefetch) {
            (Intake::Closed, _) => Intake::Closed,
            (Intake::Stopped, 0) => Intake::Stopped,
            (_, 0) => Intake::Stopping,
            _ => Intake::Open,
        };
        self.deliveries.set_prefetch(prefetch);
        metrics::prefetch(self.handler.name, prefetch);
    }
}

/// What comes of the queue.
async fn next(deliveries: &mut Deliveries, intake: Intake) -> Next<Delivery> {
    match intake {
        Intake::Open => deliveries.recv().await.map_or(Next::Closed, Next::Delivery),
        Intake::Stopping => deliveries.next_until_stopped().await,
        Intake::Stopped | Intake::Closed => std::future::pending().await,
    }
}
