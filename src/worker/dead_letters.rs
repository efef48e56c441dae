//! Dead letters outside their consumers: stores in PostgreSQL what the broker gave up on, and sends to their consumers again what
//! is to be replayed.
//!
//! Any number of processes may do so at a time. What the broker gave up on was delivered again and again without being settled. If
//! handling it alone has begun and not ended, it is what killed the process that did. If not, it was only beside that, and is
//! sent once more by itself, to be handled alone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use metrics::{Unit, describe_gauge, gauge};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    CONSUMERS,
    bounded::{STEP, bounded},
    pause,
    runner::{bury, store_letter},
    subscriptions,
};
use crate::{
    app::App,
    bus::{BusError, DeadDelivery, EventBus, PublishOutcome, Settlement},
    domain::{dead_letter::DeadLetterReason, ids::EventId},
    store::{
        self,
        dead_letters::{
            self, NewDeadLetter,
            replays::{self, ClaimedReplay},
        },
        quarantine,
    },
};

/// Who asks for the replay of what was only beside what killed its process.
const BY: &str = "quarantine";

/// What the broker says of a message that came back too often.
const DELIVERY_LIMIT: &str = "delivery_limit";

/// How often to look for letters that are to be replayed.
const IDLE: Duration = Duration::from_secs(1);

/// How often to look shortly after some were sent, or took effect: the next one of an order waits for the one before.
const BUSY: Duration = Duration::from_millis(50);

/// For how long that is. One that takes longer waits in a retry queue.
const SHORTLY: Duration = Duration::from_secs(5);

/// How many letters are sent before it is looked again.
const BATCH: i64 = 64;

/// What is added to the text of a letter that cannot be replayed.
const NO_QUEUE: &str = "; it could not be sent again, because its consumer has no queue";

const WAITING: &str = "holdfast_dead_letters_waiting";

pub(super) async fn run(app: App, bus: Arc<dyn EventBus>, shutdown: CancellationToken) {
    describe_gauge!(WAITING, Unit::Count, "Dead letters that wait for an operator, by consumer and reason.");
    tokio::join!(store_given_up(&app, bus.as_ref(), &shutdown), replay(&app, bus.as_ref(), &shutdown));
}

async fn store_given_up(app: &App, bus: &dyn EventBus, shutdown: &CancellationToken) {
    let mut letters = bus.subscribe_dead().await;
    while let Some(Some(letter)) = shutdown.run_until_cancelled(letters.recv()).await {
        let settlement = store_one(app, &letter).await;
        if let Err(error) = letter.delivery.settle.settle(settlement).await {
            tracing::info!(%error, "a dead letter was not settled: it comes again");
        }
    }
}

async fn store_one(app: &App, letter: &DeadDelivery) -> Settlement {
    let delivery = &letter.delivery;
    let envelope = delivery.envelope.as_ref().ok();
    let (reason, text) = match (&delivery.envelope, letter.reason.as_str()) {
        (Err(error), _) => (DeadLetterReason::NotAnEvent, error.clone()),
        (Ok(_), why) => (DeadLetterReason::DeliveryLimit, format!("given up by the broker: {why}")),
    };
    let new = NewDeadLetter {
        consumer: &letter.consumer,
        envelope,
        body: &delivery.body,
        reason,
        text: &text,
        attempts: delivery.attempt,
        blocked_by: None,
    };
    match envelope.filter(|_| letter.reason == DELIVERY_LIMIT) {
        Some(envelope) => bury(app, &new, store_and_spare(app, &new, envelope.id)).await,
        None => bury(app, &new, store_letter(app, &new)).await,
    }
}

/// Stores a letter, and has it replayed if it was not replayed before and has killed nothing by itself. In one transaction: a later
/// event of its order that finds it waits for the replay, and would be a dead letter without one.
async fn store_and_spare(
    app: &App,
    letter: &NewDeadLetter<'_>,
    event_id: EventId,
) -> Result<(), store::Error> {
    let mut tx = app.store.begin("store_dead_letter").await?;
    // Before it is stored, which ends the count.
    let is_deadly = quarantine::contains(&mut tx, letter.consumer, event_id).await?;
    let stored = dead_letters::insert(&mut tx, letter).await?;
    let spared = match stored {
        Some((id, 0)) if !is_deadly => replays::mark_requested(&mut tx, &[id], BY).await?,
        _ => Vec::new(),
    };
    tx.commit().await?;
    if !spared.is_empty() {
        let consumer = letter.consumer;
        tracing::warn!(consumer, %event_id, "has killed nothing by itself: it is sent once more, to be handled alone");
    }
    Ok(())
}

async fn replay(app: &App, bus: &dyn EventBus, shutdown: &CancellationToken) {
    let (mut seen, mut moved, mut measured) = (HashSet::new(), None, None);
    loop {
        match bounded(STEP, send_requested(app, bus, shutdown)).await {
            Ok(true) => moved = Some(Instant::now()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "dead letters cannot be replayed now, trying again");
                moved = None;
            }
        }
        if is_over(measured, IDLE) {
            if let Err(error) = bounded(STEP, measure(app, &mut seen)).await {
                tracing::debug!(%error, "dead letters were not counted");
            }
            measured = Some(Instant::now());
        }
        let rest = if is_over(moved, SHORTLY) { IDLE } else { BUSY };
        if pause(rest, shutdown).await {
            return;
        }
    }
}

fn is_over(since: Option<Instant>, time: Duration) -> bool {
    since.is_none_or(|since| since.elapsed() >= time)
}

/// Sends the letters whose turn it is. Gives whether any was sent or has taken effect. Where the broker does not take one it takes no
/// other either: the rest is free again for a later look, or for another process.
async fn send_requested(
    app: &App,
    bus: &dyn EventBus,
    shutdown: &CancellationToken,
) -> Result<bool, store::Error> {
    let mut conn = app.store.conn().await?;
    // First: the next one of an order waits for it.
    let effective = replays::delete_effective(&mut conn).await?;
    if effective > 0 {
        tracing::info!(letters = effective, "dead letters have taken effect");
    }
    let claimed = replays::claim(&mut conn, BATCH).await?;
    // Nobody is to wait for a broker with a connection of the pool.
    drop(conn);
    let (mut sent, mut is_refused) = (0, false);
    for replay in claimed {
        if is_refused || shutdown.is_cancelled() {
            replays::mark_unclaimed(&mut *app.store.conn().await?, replay.id, replay.claimed_at).await?;
        } else {
            match send(app, bus, &replay).await? {
                Ok(PublishOutcome::Confirmed) => sent += 1,
                // Which says nothing of the others.
                Ok(PublishOutcome::Returned(_)) => {}
                _ => is_refused = true,
            }
        }
    }
    Ok(effective > 0 || sent > 0)
}

/// Gives what became of it.
async fn send(
    app: &App,
    bus: &dyn EventBus,
    replay: &ClaimedReplay,
) -> Result<Result<PublishOutcome, BusError>, store::Error> {
    let (id, consumer, event_id) = (replay.id, replay.consumer.as_str(), replay.envelope.id);
    let is_isolated = replay.reason == DeadLetterReason::DeliveryLimit;
    let mut outcome = bus.redeliver(consumer, &replay.envelope, is_isolated).await;
    if matches!(outcome, Ok(PublishOutcome::Returned(_))) && bus.declare(&subscriptions()).await.is_ok() {
        // Somebody had deleted the queue of a consumer that there is.
        outcome = bus.redeliver(consumer, &replay.envelope, is_isolated).await;
    }
    let mut conn = app.store.conn().await?;
    match &outcome {
        Ok(PublishOutcome::Confirmed) => {
            tracing::info!(letter = id, consumer, %event_id, "a dead letter was sent again");
            replays::mark_sent(&mut conn, id, replay.claimed_at).await?;
        }
        // An operator may ask again, or drop it: tried for ever it would be in the way of others.
        Ok(PublishOutcome::Returned(_)) => {
            tracing::error!(letter = id, consumer, %event_id, "a dead letter cannot be sent: its consumer has no queue");
            replays::mark_refused(&mut conn, id, replay.claimed_at, NO_QUEUE).await?;
        }
        outcome => {
            tracing::warn!(letter = id, consumer, %event_id, ?outcome, "a dead letter cannot be sent, trying again");
            replays::mark_unclaimed(&mut conn, id, replay.claimed_at).await?;
        }
    }
    Ok(outcome)
}

/// Tells monitoring how many letters wait. What was told once is told again when there is none any more.
async fn measure(app: &App, seen: &mut HashSet<(String, DeadLetterReason)>) -> Result<(), store::Error> {
    let waiting = dead_letters::count_waiting(&mut *app.store.conn().await?).await?;
    // A letter of a consumer that is none of ours, any more, has a label of its own: the set is closed.
    let label = |name: &str| {
        let mut names = CONSUMERS.iter().map(|consumer| consumer.subscription().consumer);
        names.find(|known| *known == name).unwrap_or("other").to_owned()
    };
    let mut counts = HashMap::new();
    for (consumer, reason, count) in waiting {
        *counts.entry((label(&consumer), reason)).or_insert(0) += count;
    }
    seen.extend(counts.keys().cloned());
    for key in seen.iter() {
        let count = u32::try_from(counts.get(key).copied().unwrap_or(0)).unwrap_or(u32::MAX);
        gauge!(WAITING, "consumer" => key.0.clone(), "reason" => key.1.as_str()).set(count);
    }
    Ok(())
}
