//! One lane: reads a window, publishes it, settles it, rests, and begins anew. While one lane waits for its confirms, the others
//! read and settle theirs.
//!
//! Of an aggregate one event is on its way at a time: a window has only the first pending one of each, and all events of an
//! aggregate are in the same lane. A row that was not confirmed keeps the later ones of its aggregate back, and no others.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    super::{bounded::bounded, pause},
    leases::{Leases, Window},
    metrics,
    pace::Pace,
    place::Place,
};
use crate::{
    app::App,
    bus::{EventBus, PublishOutcome},
    domain::event::Envelope,
    planted::{self, Fault},
    store::{
        self,
        outbox::{self, OutboxRow, UnknownRow},
    },
};

/// The longest wait of a row that could not be published.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// After so many attempts somebody should look at it. It is tried on all the same, and never discarded.
const ALARMING: u32 = 10;

pub(super) struct Lane {
    pub(super) app: App,
    pub(super) bus: Arc<dyn EventBus>,
    pub(super) leases: Arc<Leases>,
    /// Which one, from 0.
    pub(super) index: usize,
    /// The most events of a window.
    pub(super) room: usize,
    /// Names the leases of this process.
    pub(super) owner: Arc<str>,
}

impl Lane {
    /// Until `shutdown` fires and the last window is settled.
    pub(super) async fn run(self, mut pace: Pace, shutdown: CancellationToken) {
        let (mut failures, mut place) = (0_u32, Place::default());
        while !shutdown.is_cancelled() {
            let window = self.leases.begin_window(self.index);
            if window.shards.is_empty() {
                drop(window);
                // A change just before this is seen after the rest.
                let _ = timeout(Duration::from_millis(100), self.leases.changed()).await;
                continue;
            }
            let rest = match self.step(&window, &mut place).await {
                Ok(events) => {
                    failures = 0;
                    pace.after(events, self.room)
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(lane = self.index, failures, error, "events wait in the outbox");
                    pace.after_trouble()
                }
            };
            drop(window);
            if pause(rest, &shutdown).await {
                return;
            }
        }
    }

    /// Publishes one window. Gives how many events it had.
    async fn step(&self, window: &Window, place: &mut Place) -> Result<usize, String> {
        let (rows, envelopes) = self.answered(self.read(window, place.next())).await?;
        place.read(&rows, self.room);
        if planted::is_on(Fault::MarkSentBeforeConfirm) && !rows.is_empty() {
            let hoped = vec![PublishOutcome::Confirmed; rows.len()];
            self.answered(self.settle(window, &rows, &envelopes, &hoped)).await?;
            self.publish(&envelopes).await?;
            return Ok(rows.len());
        }
        if !rows.is_empty() {
            let outcomes = self.publish(&envelopes).await?;
            self.answered(self.settle(window, &rows, &envelopes, &outcomes)).await?;
        }
        Ok(rows.len())
    }

    /// What the database answers, unless it or the way to it is silent.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, store::Error>>) -> Result<T, String> {
        bounded(self.app.store.patience(), answer).await.map_err(|error| error.to_string())
    }

    async fn publish(&self, envelopes: &[Envelope]) -> Result<Vec<PublishOutcome>, String> {
        let began = std::time::Instant::now();
        let published = self.bus.publish(envelopes).await;
        metrics::confirmed(began);
        let is_known = |outcome: &PublishOutcome| !matches!(outcome, PublishOutcome::Unknown(_));
        metrics::blocked(!published.as_ref().is_ok_and(|outcomes| outcomes.iter().any(is_known)));
        published.map_err(|error| error.to_string())
    }

    /// What is to be published next. Leaves alone what only a newer program can publish, such as the one that wrote it: it may
    /// take over the shard any time, and everybody else's events go on.
    async fn read(
        &self,
        window: &Window,
        from: i64,
    ) -> Result<(Vec<OutboxRow>, Vec<Envelope>), store::Error> {
        let mut conn = self.app.store.conn_by_key().await?;
        let shards: Vec<i16> = window.shards.iter().map(|(shard, _)| *shard).collect();
        let room = i64::try_from(self.room).unwrap_or(i64::MAX);
        let pending = outbox::list_pending(&mut conn, &shards, from, room).await?;
        let mut held = Vec::new();
        for UnknownRow { id, event_type, attempts } in &pending.unknown {
            let attempts = next_attempt(*attempts);
            tracing::error!(
                id,
                event_type,
                attempts,
                "this program does not know the type of an event: update it"
            );
            held.push((*id, backoff(attempts).as_secs_f64()));
        }
        if !held.is_empty() {
            outbox::mark_failed(&mut conn, &held).await?;
        }
        Ok(pending.rows.into_iter().unzip())
    }

    async fn settle(
        &self,
        window: &Window,
        rows: &[OutboxRow],
        envelopes: &[Envelope],
        outcomes: &[PublishOutcome],
    ) -> Result<(), store::Error> {
        let (mut confirmed, mut failed) = (Vec::with_capacity(rows.len()), Vec::new());
        for ((row, envelope), outcome) in rows.iter().zip(envelopes).zip(outcomes) {
            metrics::published(envelope, outcome);
            if *outcome == PublishOutcome::Confirmed {
                confirmed.push(row.id);
                continue;
            }
            let attempts = next_attempt(row.attempts);
            report(envelope, attempts, outcome);
            failed.push((row.id, backoff(attempts).as_secs_f64()));
        }
        let mut conn = self.app.store.conn_by_key().await?;
        if !confirmed.is_empty() {
            let sent = outbox::mark_sent(&mut conn, &self.owner, &window.shards, &confirmed).await?;
            if sent != confirmed.len() as u64 {
                let (published, owner) = (confirmed.len(), &self.owner);
                tracing::warn!(published, sent, %owner, "another process has taken over: it publishes the rest again");
            }
        }
        if !failed.is_empty() {
            outbox::mark_failed(&mut conn, &failed).await?;
        }
        Ok(())
    }
}

fn report(envelope: &Envelope, attempts: u32, outcome: &PublishOutcome) {
    let (event_id, event_type) = (envelope.id, envelope.event_type.as_str());
    if attempts == ALARMING {
        let subject = &envelope.subject;
        tracing::error!(
            %event_id, event_type, subject, attempts, ?outcome,
            "an event cannot be published, and the later ones of its subject wait for it: it is tried on"
        );
    } else {
        tracing::warn!(%event_id, event_type, attempts, ?outcome, "an event was not confirmed, trying again");
    }
}

fn next_attempt(attempts: i32) -> u32 {
    u32::try_from(attempts).unwrap_or(u32::MAX).saturating_add(1)
}

/// Doubles from 100 ms, with jitter, so that rows that failed together do not come back together.
fn backoff(attempts: u32) -> Duration {
    let base =
        Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(attempts.min(16).saturating_sub(1)));
    base.min(LONGEST_BACKOFF).mul_f64(rand::random_range(0.75..=1.25))
}
