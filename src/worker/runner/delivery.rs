//! One delivery, from its message to its settlement.
//!
//! Invariants: an event is acknowledged only after its effect, and its mark in the inbox, are committed; what cannot be handled is
//! stored as a dead letter before it is acknowledged; a panic ends nothing but the handling of its event; what is silent holds
//! up an event for a time, and for ever nothing.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{
    Consumer,
    blocks::Blocks,
    metrics::{self, Outcome},
    settling::{Ended, Verdict, tier, verdict},
    span,
};
use crate::{
    app::{App, Cause, Error, Handling, Progress},
    bus::{Delivery, Settlement},
    domain::event::{Envelope, Event},
    planted::{self, Fault},
    store::{
        self,
        dead_letters::{self, NewDeadLetter},
        inbox, quarantine,
    },
    telemetry::spans,
    worker::bounded::{STEP, bounded},
};

/// Half of the shortest time that events are kept, so that clocks may differ.
const YOUNG: TimeDelta = TimeDelta::hours(12);

/// How often handling an event alone may begin without an end before it is taken to be what kills the process.
const DEADLY: i32 = 3;

/// What handling a delivery needs.
pub(super) struct Handler {
    pub(super) consumer: &'static dyn Consumer,
    pub(super) name: &'static str,
    pub(super) app: App,
    pub(super) blocks: Blocks,
}

impl Handler {
    /// Handles a delivery and settles it. Gives how long that took. `alone`: nothing else is handled at the time.
    pub(super) async fn process(&self, delivery: Delivery, alone: bool) -> Duration {
        let began = Instant::now();
        let Delivery { envelope, body, attempt, redeliveries, settle, .. } = delivery;
        if planted::is_on(Fault::AckBeforeCommit) {
            let _ = settle.settle(Settlement::Ack).await;
            if let Ok(envelope) = &envelope {
                self.handle(envelope, false).await;
            }
            return began.elapsed();
        }
        let ended = match &envelope {
            Err(reason) => Ended::NotAnEvent(reason.clone()),
            Ok(envelope) => {
                let handled = async {
                    let ended = async {
                        Ok::<_, Error>(if alone {
                            self.handle_alone(envelope, attempt).await
                        } else {
                            self.handle(envelope, attempt > 1 || redeliveries > 0).await
                        })
                    };
                    let ended = bounded(STEP, ended).await.unwrap_or_else(Ended::Failed);
                    self.tell(envelope, &ended, attempt);
                    ended
                };
                span::within(self.name, envelope, attempt, handled).await
            }
        };
        let outcome = if matches!(ended, Ended::Duplicate) { Outcome::Duplicate } else { Outcome::Acked };
        let (outcome, settlement) = match verdict(ended, attempt) {
            Verdict::Ack => (outcome, Settlement::Ack),
            Verdict::Retry(tier) => (Outcome::Retried, Settlement::Retry(tier)),
            Verdict::Bury { reason, text, blocked_by } => {
                let letter = NewDeadLetter {
                    consumer: self.name,
                    envelope: envelope.as_ref().ok(),
                    body: &body,
                    reason,
                    text: &text,
                    attempts: attempt,
                    blocked_by,
                };
                self.bury(&letter).await
            }
        };
        if let Err(error) = settle.settle(settlement).await {
            metrics::ack_lost(self.name);
            tracing::info!(consumer = self.name, %error, "a delivery was not settled: it comes again");
        }
        metrics::settled(self.name, outcome);
        metrics::handled(self.name, began.elapsed());
        began.elapsed()
    }

    /// Whether handling an event alone has begun before and not ended. Where that cannot be read, it has not: nobody waits for a
    /// silent database here, where nothing else is looked at.
    pub(super) async fn was_begun_alone(&self, delivery: &Delivery) -> bool {
        let Ok(envelope) = &delivery.envelope else { return false };
        let begun = async {
            quarantine::contains(&mut *self.app.store.conn_by_key().await?, self.name, envelope.id).await
        };
        matches!(bounded::<_, store::Error>(self.app.store.patience(), begun).await, Ok(true))
    }

    /// Handles an event that was there when processes died. How often that begins is written down first, and that it has
    /// ended once it has: what is begun again and again and never ends is what kills them.
    async fn handle_alone(&self, envelope: &Envelope, attempt: u32) -> Ended {
        let begun = async {
            quarantine::insert(&mut *self.app.store.conn_by_key().await?, self.name, envelope.id).await
        };
        match begun.await {
            // Burying it ends the count.
            Ok(begun) if begun > DEADLY => return Ended::Deadly(begun - 1),
            Ok(begun) => {
                tracing::warn!(consumer = self.name, event_id = %envelope.id, attempt, begun, "is handled alone");
            }
            Err(error) => return Ended::Failed(error.into()),
        }
        let ended = self.handle(envelope, true).await;
        let noted: Result<(), store::Error> = async {
            quarantine::delete(&mut *self.app.store.conn_by_key().await?, self.name, envelope.id).await
        }
        .await;
        if let Err(error) = noted {
            tracing::warn!(consumer = self.name, event_id = %envelope.id, %error, "that it ended could not be noted");
        }
        ended
    }

    async fn handle(&self, envelope: &Envelope, came_before: bool) -> Ended {
        match self.find_obstacle(envelope, came_before).await {
            Ok(None) => {}
            Ok(Some(ended)) => return ended,
            Err(error) => return Ended::Failed(error.into()),
        }
        let event = match Event::read(envelope.event_type, &envelope.data) {
            Ok(event) => event,
            Err(error) => return Ended::DoesNotFit(error),
        };
        let cause = Cause {
            correlation_id: envelope.correlation_id.clone(),
            causation_id: Some(envelope.id),
            trace_parent: spans::current().or(envelope.trace_parent),
        };
        let handling = Handling { consumer: self.name, event_id: envelope.id, cause };
        let handled = AssertUnwindSafe(self.consumer.handle(&self.app, &handling, &event)).catch_unwind();
        match handled.await {
            Ok(Ok(Progress::Done)) => Ended::Done,
            Ok(Ok(Progress::Waiting)) => Ended::Waiting,
            Ok(Err(error)) => Ended::Failed(error),
            Err(panic) => Ended::Panicked(panic_text(panic.as_ref())),
        }
    }

    /// Why an event is not to be handled, if it is not. PostgreSQL is asked only of those that came before, are old, or have
    /// a dead letter in their order.
    async fn find_obstacle(
        &self,
        envelope: &Envelope,
        came_before: bool,
    ) -> Result<Option<Ended>, store::Error> {
        if !is_kept(&self.app, envelope).await? {
            return Ok(Some(Ended::TooOld));
        }
        if came_before
            && inbox::contains(&mut *self.app.store.conn_by_key().await?, self.name, envelope.id).await?
        {
            return Ok(Some(Ended::Duplicate));
        }
        if self.consumer.builds_on_earlier_events() {
            let letter = self.blocks.find(&self.app, self.name, envelope).await?;
            // One that is being replayed is over soon, or a dead letter anew.
            return Ok(letter
                .map(|letter| if letter.is_replayed { Ended::Waiting } else { Ended::Blocked(letter.id) }));
        }
        Ok(None)
    }

    fn tell(&self, envelope: &Envelope, ended: &Ended, attempt: u32) {
        let (consumer, event_id, event_type) = (self.name, envelope.id, envelope.event_type.as_str());
        match ended {
            Ended::Done => tracing::debug!(consumer, %event_id, event_type, "handled"),
            Ended::Duplicate => {
                tracing::debug!(consumer, %event_id, event_type, before = true, "handled");
            }
            Ended::Failed(error) if error.is_transient() => {
                let retry_in = tier(attempt).delay().as_secs();
                tracing::warn!(consumer, %event_id, event_type, attempt, retry_in, %error, "will try again");
            }
            Ended::Panicked(text) => {
                tracing::error!(consumer, %event_id, event_type, attempt, text, "panicked");
            }
            _ => {}
        }
    }

    /// Stores a delivery that trying again cannot help.
    async fn bury(&self, letter: &NewDeadLetter<'_>) -> (Outcome, Settlement) {
        let settlement = bury(&self.app, letter, store_letter(&self.app, letter)).await;
        if settlement != Settlement::Ack {
            return (Outcome::Retried, settlement);
        }
        if let Some(envelope) = letter.envelope.filter(|_| self.consumer.builds_on_earlier_events()) {
            self.blocks.add(&envelope.subject).await;
        }
        (Outcome::Dead, settlement)
    }
}

/// Stores a dead letter by what `stored` does, or has its message come again where that does not work.
pub(in crate::worker) async fn bury(
    app: &App,
    letter: &NewDeadLetter<'_>,
    stored: impl Future<Output = Result<(), store::Error>>,
) -> Settlement {
    let event_id = letter.envelope.map(|envelope| tracing::field::display(envelope.id));
    let (consumer, reason, text, attempts) =
        (letter.consumer, letter.reason.as_str(), letter.text, letter.attempts);
    tracing::error!(consumer, event_id, reason, text, attempts, "dead letter");
    match bounded(app.store.patience(), stored).await {
        Ok(()) => Settlement::Ack,
        Err(error) => {
            tracing::error!(consumer, %error, "a dead letter could not be stored, trying again");
            Settlement::Retry(tier(attempts))
        }
    }
}

/// Stores a dead letter.
pub(in crate::worker) async fn store_letter(
    app: &App,
    letter: &NewDeadLetter<'_>,
) -> Result<(), store::Error> {
    dead_letters::insert(&mut *app.store.conn_by_key().await?, letter).await.map(drop)
}

/// Whether it is known if the event has taken effect. What is younger than any day that may be dropped is not asked for.
async fn is_kept(app: &App, envelope: &Envelope) -> Result<bool, store::Error> {
    if DateTime::<Utc>::from(SystemTime::now()) - envelope.time < YOUNG {
        return Ok(true);
    }
    inbox::is_kept(&mut *app.store.conn_by_key().await?, envelope.id).await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text").to_owned()
}
