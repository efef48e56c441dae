//! Events that go through a broker while a test breaks it, and the account of them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use holdfast::{
    bus::{BusError, EventBus, PublishOutcome, Settlement, Subscription},
    domain::{
        event::{Envelope, EventType},
        ids::EventId,
    },
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{PATIENCE, broker::events, eventually};

/// A consumer of one type of events.
pub(crate) const MAIL: Subscription = Subscription { consumer: "mail", events: &[EventType::OrderCreated] };

const WINDOW: i64 = 20;

/// What was published.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) confirmed: Vec<EventId>,
    /// Windows that were not confirmed as a whole.
    pub(crate) failures: usize,
    /// The longest time in which nothing was confirmed.
    pub(crate) longest_gap: Duration,
}

/// Publishes all the time as the outbox relay does: what is not confirmed is published again under its id.
pub(crate) struct Publishing {
    confirmed: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Published>,
}

impl Publishing {
    /// Begins, and waits until the first events are confirmed.
    pub(crate) async fn begin(bus: Arc<dyn EventBus>) -> Self {
        let confirmed = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(publish(bus, Arc::clone(&confirmed), stopped));
        let publishing = Self { confirmed, stop, task };
        publishing.wait_for_more(200).await;
        publishing
    }

    /// Waits until so many more are confirmed.
    pub(crate) async fn wait_for_more(&self, events: usize) {
        let until = self.confirmed.load(Ordering::Relaxed) + events;
        let is_there = async || self.confirmed.load(Ordering::Relaxed) >= until;
        eventually("more events are confirmed", PATIENCE * 2, is_there).await;
    }

    /// How many are confirmed so far.
    pub(crate) fn confirmed(&self) -> usize {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Ends once what is on its way is confirmed.
    pub(crate) async fn end(self) -> Published {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.expect("the last window is confirmed").expect("it publishes")
    }
}

async fn publish(
    bus: Arc<dyn EventBus>,
    count: Arc<AtomicUsize>,
    mut stopped: oneshot::Receiver<()>,
) -> Published {
    let mut published = Published::default();
    let mut last: Option<Instant> = None;
    while stopped.try_recv().is_err() {
        let window = events(EventType::OrderCreated, WINDOW);
        let (confirmed, longest_gap) = (&mut published.confirmed, &mut published.longest_gap);
        published.failures += publish_until_confirmed(bus.as_ref(), window, |ids| {
            let gap = last.replace(Instant::now()).map_or(Duration::ZERO, |last| last.elapsed());
            *longest_gap = gap.max(*longest_gap);
            count.fetch_add(ids.len(), Ordering::Relaxed);
            confirmed.extend_from_slice(ids);
        })
        .await;
        sleep(Duration::from_millis(5)).await;
    }
    published
}

/// Publishes a window again and again until all of it is confirmed; tells of each part that is. Gives how often it was not all.
pub(crate) async fn publish_until_confirmed(
    bus: &dyn EventBus,
    mut window: Vec<Envelope>,
    mut tell: impl FnMut(&[EventId]),
) -> usize {
    let mut failures = 0;
    loop {
        match bus.publish(&window).await {
            Ok(outcomes) => {
                let (done, rest): (Vec<_>, Vec<_>) = window
                    .into_iter()
                    .zip(outcomes)
                    .partition(|(_, outcome)| *outcome == PublishOutcome::Confirmed);
                if !done.is_empty() {
                    tell(&done.iter().map(|(event, _)| event.id).collect::<Vec<_>>());
                }
                window = rest.into_iter().map(|(event, _)| event).collect();
            }
            Err(BusError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
        if window.is_empty() {
            return failures;
        }
        failures += 1;
        sleep(Duration::from_millis(20)).await;
    }
}

/// Publishes so many events, and gives their ids once all are confirmed.
pub(crate) async fn publish_all(bus: &dyn EventBus, count: i64) -> Vec<EventId> {
    let mut confirmed = Vec::new();
    let window = events(EventType::OrderCreated, count);
    publish_until_confirmed(bus, window, |ids| confirmed.extend_from_slice(ids)).await;
    confirmed
}

/// Takes deliveries until each of these events has come. Gives how many came again.
pub(crate) async fn collect(bus: &dyn EventBus, expected: &[EventId]) -> usize {
    let mut missing: HashSet<EventId> = expected.iter().copied().collect();
    let mut deliveries = bus.subscribe(&MAIL, 100).await;
    let (mut seen, mut again) = (HashSet::new(), 0);
    while !missing.is_empty() {
        let Ok(delivery) = timeout(PATIENCE, deliveries.recv()).await else {
            panic!("{} of {} confirmed events are lost", missing.len(), expected.len());
        };
        let delivery = delivery.expect("the subscription goes on");
        let id = delivery.envelope.as_ref().expect("an event").id;
        missing.remove(&id);
        again += usize::from(!seen.insert(id));
        let _ = delivery.settle.settle(Settlement::Ack).await;
    }
    again
}
