//! The relay: publishes the outbox. The only caller of [`EventBus::publish`].
//!
//! At least once, and in order within an aggregate: a row leaves the outbox only after the broker has confirmed it, by a
//! statement that checks this process's lease. A crash anywhere before that publishes the row again, under the same id.
//! A paused former owner of a lease may publish a row twice; it cannot remove one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pause;
use crate::{
    app::App,
    bus::{EventBus, PublishOutcome},
    config::RelayWorker,
    store::{
        self,
        outbox::{self, OutboxRow, Pending, UnknownRow},
        relay_lease,
    },
};

/// The longest wait after a row that could not be published, and after a broker or database that did not answer.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

struct Relay {
    app: App,
    bus: Arc<dyn EventBus>,
    settings: RelayWorker,
    /// Names this process's leases, and no other's.
    owner: String,
    /// Shard to epoch, as leased at `renewed`.
    leases: HashMap<i16, i64>,
    renewed: Option<Instant>,
}

pub(super) async fn run(
    app: App,
    bus: Arc<dyn EventBus>,
    settings: RelayWorker,
    shutdown: CancellationToken,
) {
    let owner = format!("relay-{}", Uuid::now_v7().simple());
    let idle = Duration::from_millis(settings.poll_interval_ms);
    let mut relay = Relay { app, bus, settings, owner, leases: HashMap::new(), renewed: None };
    let mut failures = 0_u32;
    while !shutdown.is_cancelled() {
        let wait = match relay.step().await {
            Ok(published) => {
                failures = 0;
                if published > 0 { Duration::ZERO } else { idle }
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(failures, error, "events wait in the outbox");
                backoff(failures).min(Duration::from_secs(2))
            }
        };
        if pause(wait, &shutdown).await {
            break;
        }
    }
    relay.give_up_leases().await;
}

impl Relay {
    /// Publishes one window. Gives how many rows left the outbox.
    async fn step(&mut self) -> Result<u64, String> {
        self.renew_leases().await.map_err(|error| error.to_string())?;
        let shards: Vec<i16> = self.leases.keys().copied().collect();
        if shards.is_empty() {
            return Ok(0);
        }
        let Pending { rows, unknown } = self.read(&shards).await.map_err(|error| error.to_string())?;
        self.hold_back(&unknown).await.map_err(|error| error.to_string())?;
        if rows.is_empty() {
            return Ok(0);
        }
        let envelopes: Vec<_> = rows.iter().map(|row| row.envelope.clone()).collect();
        let outcomes = self.bus.publish(&envelopes).await.map_err(|error| error.to_string())?;
        self.settle(&rows, &outcomes).await.map_err(|error| error.to_string())
    }

    async fn read(&self, shards: &[i16]) -> Result<Pending, store::Error> {
        let mut tx = self.app.store.begin("list_pending").await?;
        tx.plan_each_statement().await?;
        outbox::list_pending(&mut tx, shards, self.settings.window.into()).await
    }

    /// Leaves alone what only a newer program can publish, such as the one that wrote it: it may take over the shard any time,
    /// and everybody else's events go on.
    async fn hold_back(&self, unknown: &[UnknownRow]) -> Result<(), store::Error> {
        if unknown.is_empty() {
            return Ok(());
        }
        let mut held = Vec::new();
        for UnknownRow { id, event_type, attempts } in unknown {
            tracing::error!(
                id,
                event_type,
                attempts,
                "this program does not know the type of an event: update it"
            );
            let attempts = u32::try_from(*attempts).unwrap_or(u32::MAX).saturating_add(1);
            held.push((*id, backoff(attempts).as_secs_f64()));
        }
        outbox::mark_failed(&mut *self.app.store.conn().await?, &held).await
    }

    async fn settle(&self, rows: &[OutboxRow], outcomes: &[PublishOutcome]) -> Result<u64, store::Error> {
        let mut confirmed = Vec::new();
        let mut failed = Vec::new();
        for (row, outcome) in rows.iter().zip(outcomes) {
            if *outcome == PublishOutcome::Confirmed {
                confirmed.push(row.id);
                continue;
            }
            let attempts = u32::try_from(row.attempts).unwrap_or(u32::MAX).saturating_add(1);
            let (event_id, event_type) = (row.envelope.id, row.envelope.event_type.as_str());
            tracing::warn!(%event_id, event_type, attempts, ?outcome, "an event was not confirmed, trying again");
            failed.push((row.id, backoff(attempts).as_secs_f64()));
        }
        let leases: Vec<(i16, i64)> = self.leases.iter().map(|(&shard, &epoch)| (shard, epoch)).collect();
        let mut tx = self.app.store.begin("settle_outbox").await?;
        tx.plan_each_statement().await?;
        let mut sent = 0;
        if !failed.is_empty() {
            outbox::mark_failed(&mut tx, &failed).await?;
        }
        if !confirmed.is_empty() {
            sent = outbox::mark_sent(&mut tx, &self.owner, &leases, &confirmed).await?;
        }
        tx.commit().await?;
        Ok(sent)
    }

    /// Renews well before the leases end. What is lost is noticed here, and harmless before: see the module.
    async fn renew_leases(&mut self) -> Result<(), store::Error> {
        let lease = Duration::from_secs(self.settings.lease_seconds);
        if self.renewed.is_some_and(|renewed| renewed.elapsed() < lease / 4) {
            return Ok(());
        }
        let mut conn = self.app.store.conn().await?;
        let leases = relay_lease::claim(&mut conn, &self.owner, lease.as_secs_f64()).await?;
        if leases.len() != self.leases.len() {
            tracing::info!(shards = leases.len(), "relay leases");
        }
        self.leases = leases.into_iter().collect();
        self.renewed = Some(Instant::now());
        Ok(())
    }

    async fn give_up_leases(&self) {
        let given_up: Result<(), store::Error> =
            async { relay_lease::release(&mut *self.app.store.conn().await?, &self.owner).await }.await;
        if let Err(error) = given_up {
            tracing::warn!(%error, "relay leases were not given up: they end by themselves");
        }
    }
}

/// Doubles from 100 ms, with jitter, so that rows that failed together do not come back together.
fn backoff(attempts: u32) -> Duration {
    let base =
        Duration::from_millis(100).saturating_mul(2_u32.saturating_pow(attempts.min(16).saturating_sub(1)));
    base.min(LONGEST_BACKOFF).mul_f64(rand::random_range(0.75..=1.25))
}
