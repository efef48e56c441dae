//! How every consumer runs: take a delivery, handle it, settle it by what came of it. The settling table is here and
//! nowhere else.
//!
//! Invariants: an event is acknowledged only after its effect, and its mark in the inbox, are committed. What cannot be
//! handled, data that does not fit its type included, is stored as a dead letter before it is acknowledged. A stopping process takes nothing new, finishes what it
//! has, and keeps its channel open until then.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{App, Cause, Error, Handling, Progress},
    bus::{Delivery, EventBus, RetryTier, Settlement, Subscription},
    domain::{
        event::{Envelope, Event},
        validation::FieldError,
    },
    planted::{self, Fault},
    store::{self, dead_letters, inbox},
};

/// Why an event is not handled that is older than what is known of events: it may have taken effect.
const TOO_OLD: &str = "too_old";

/// Half of the shortest time that events are kept, so that clocks may differ.
const YOUNG: TimeDelta = TimeDelta::hours(12);

/// A consumer of events.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Its name and the events it wants.
    fn subscription(&self) -> Subscription;

    /// Handles one event. The effect must be committed together with the mark of `handling` in the inbox.
    async fn handle(&self, app: &App, handling: &Handling, event: &Event) -> Result<Progress, Error>;
}

/// Handles a consumer's events, `concurrency` at a time, until `shutdown` fires and what is in flight is done, or
/// `drain` has passed.
pub(super) async fn run(
    consumer: &'static dyn Consumer,
    app: App,
    bus: Arc<dyn EventBus>,
    concurrency: u16,
    shutdown: CancellationToken,
    drain: Duration,
) {
    // The broker keeps at most as many deliveries unsettled as may run at a time, so tasks need no bound of their own.
    let mut deliveries = bus.subscribe(&consumer.subscription(), concurrency).await;
    let tasks = TaskTracker::new();
    loop {
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            delivery = deliveries.recv() => delivery,
        };
        let Some(delivery) = delivery else { break };
        let app = app.clone();
        tasks.spawn(async move { process(consumer, &app, delivery).await });
    }
    tasks.close();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        let consumer = consumer.subscription().consumer;
        tracing::warn!(
            consumer,
            in_flight = tasks.len(),
            "still busy at the end of the drain time; will come again"
        );
    }
}

async fn process(consumer: &'static dyn Consumer, app: &App, delivery: Delivery) {
    let name = consumer.subscription().consumer;
    let Delivery { envelope, body, attempt, settle } = delivery;
    if planted::is_on(Fault::AckBeforeCommit) {
        let _ = settle.settle(Settlement::Ack).await;
        if let Ok(envelope) = &envelope {
            handle(consumer, app, envelope, attempt, &body).await;
        }
        return;
    }
    let settlement = match &envelope {
        Ok(envelope) => handle(consumer, app, envelope, attempt, &body).await,
        Err(reason) => bury(app, name, None, &body, reason, attempt).await,
    };
    if let Err(error) = settle.settle(settlement).await {
        tracing::info!(consumer = name, %error, "a delivery was not settled: it comes again");
    }
}

async fn handle(
    consumer: &'static dyn Consumer,
    app: &App,
    envelope: &Envelope,
    attempt: u32,
    body: &[u8],
) -> Settlement {
    let name = consumer.subscription().consumer;
    let handling = Handling {
        consumer: name,
        event_id: envelope.id,
        cause: Cause { correlation_id: envelope.correlation_id.clone(), causation_id: Some(envelope.id) },
    };
    let event_type = envelope.event_type.as_str();
    match is_kept(app, envelope).await {
        Ok(true) => {}
        Ok(false) => return bury(app, name, Some(envelope), body, TOO_OLD, attempt).await,
        Err(error) => {
            tracing::warn!(consumer = name, event_id = %envelope.id, %error, "will try again");
            return Settlement::Retry(tier(attempt));
        }
    }
    let event = match Event::read(envelope.event_type, &envelope.data) {
        Ok(event) => event,
        Err(FieldError { pointer, detail }) => {
            let reason = format!("schema_violation at {pointer:?}: {detail}");
            return bury(app, name, Some(envelope), body, &reason, attempt).await;
        }
    };
    match consumer.handle(app, &handling, &event).await {
        Ok(Progress::Done) => {
            tracing::debug!(consumer = name, event_id = %envelope.id, event_type, "handled");
            Settlement::Ack
        }
        Ok(Progress::Waiting) => Settlement::Retry(tier(attempt)),
        Err(error) if error.is_transient() => {
            let (event_id, retry_in) = (envelope.id, tier(attempt).delay().as_secs());
            tracing::warn!(consumer = name, %event_id, event_type, attempt, retry_in, %error, "will try again");
            Settlement::Retry(tier(attempt))
        }
        // Its day was dropped while it was handled.
        Err(Error::Store(error)) if error.constraint() == Some(inbox::KEPT) => {
            bury(app, name, Some(envelope), body, TOO_OLD, attempt).await
        }
        Err(error) => bury(app, name, Some(envelope), body, &error.to_string(), attempt).await,
    }
}

/// Whether it is known if the event has taken effect. What is younger than any day that may be dropped is not asked for.
async fn is_kept(app: &App, envelope: &Envelope) -> Result<bool, store::Error> {
    if DateTime::<Utc>::from(SystemTime::now()) - envelope.time < YOUNG {
        return Ok(true);
    }
    inbox::is_kept(&mut *app.store.conn().await?, envelope.id).await
}

/// The longer it has not worked, the longer the wait.
fn tier(attempt: u32) -> RetryTier {
    match attempt {
        0..=2 => RetryTier::Second,
        3..=6 => RetryTier::FiveSeconds,
        7..=12 => RetryTier::HalfMinute,
        _ => RetryTier::FiveMinutes,
    }
}

/// Stores a delivery that trying again cannot help.
pub(super) async fn bury(
    app: &App,
    consumer: &str,
    envelope: Option<&Envelope>,
    body: &[u8],
    reason: &str,
    attempts: u32,
) -> Settlement {
    let event_id = envelope.map(|envelope| envelope.id);
    tracing::error!(consumer, ?event_id, reason, attempts, "dead letter");
    let letter = dead_letters::NewDeadLetter { consumer, envelope, body, reason, attempts };
    let stored: Result<(), store::Error> =
        async { dead_letters::insert(&mut *app.store.conn().await?, &letter).await }.await;
    match stored {
        Ok(()) => Settlement::Ack,
        Err(error) => {
            tracing::error!(consumer, %error, "a dead letter could not be stored, trying again");
            Settlement::Retry(tier(attempts))
        }
    }
}
