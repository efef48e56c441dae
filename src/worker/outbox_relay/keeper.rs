//! Keeps the leases of this process: renews them, takes its share, hands over what is another's.
//!
//! Decides by what PostgreSQL says, within a lease of its own word: a process that cannot renew publishes no more. While
//! the members are not known it keeps what it has, and takes only what nobody else does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{super::bounded::bounded, assignment::shares, leases::Leases, metrics};
use crate::{
    app::App,
    members::Members,
    store::{
        self,
        relay_lease::{self, Lease},
    },
};

/// The shortest and the longest time between two looks at the leases.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(500);

pub(super) struct Keeper {
    pub(super) app: App,
    /// Names this process's leases, and no other's.
    pub(super) name: String,
    pub(super) lease: Duration,
    pub(super) leases: Arc<Leases>,
    pub(super) members: Box<dyn Members>,
}

impl Keeper {
    /// Until `stop` fires, after the last window; then gives everything up, so that others take over at once.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let rest = bounded(self.lease, self.step()).await.unwrap_or_else(|error: store::Error| {
                tracing::warn!(%error, "relay leases cannot be renewed");
                LONGEST
            });
            tokio::select! {
                () = stop.cancelled() => break,
                // Another member is there, or is gone: its shards wait.
                _ = timeout(rest, self.members.changed()) => {}
            }
        }
        let give_up =
            async { relay_lease::release(&mut *self.app.store.conn_by_key().await?, &self.name).await };
        let given_up: Result<(), store::Error> = bounded(self.lease, give_up).await;
        if let Err(error) = given_up {
            tracing::warn!(%error, "relay leases were not given up: they end by themselves");
        }
        self.members.leave().await;
    }

    /// One look at the leases. Gives the rest until the next.
    async fn step(&mut self) -> Result<Duration, store::Error> {
        let members = self.members.list().await;
        let mut conn = self.app.store.conn_by_key().await?;
        let owners = relay_lease::list_owners(&mut conn).await?;
        let share = members.map(|members| self.share(&members, &owners));
        let asked = Instant::now();
        let wishes = share.as_deref().unwrap_or_default();
        let leases = relay_lease::claim(&mut conn, &self.name, wishes, self.lease).await?;
        if self.leases.renewed(&leases, asked + self.lease) {
            tracing::info!(shards = leases.len(), epochs = ?self.leases.list(), "relay leases");
        }
        metrics::leased(&self.leases.list());
        let Some(share) = share else { return Ok(self.rest()) };
        let lacks = |shard: &&i16| !leases.iter().any(|lease| lease.shard == **shard);
        let missing: Vec<i16> = share.iter().filter(lacks).copied().collect();
        if !missing.is_empty() {
            relay_lease::want(&mut conn, &self.name, &missing, self.lease).await?;
        }
        let wanted: Vec<i16> = excess(&leases, &share);
        if !wanted.is_empty() {
            let idle = self.leases.leave(&wanted);
            let gone = relay_lease::hand_over(&mut conn, &self.name, &idle, self.lease).await?;
            if !gone.is_empty() {
                let left = self.leases.handed_over(&gone);
                tracing::info!(shards = left, handed_over = ?gone, "relay leases");
            }
        }
        Ok(if missing.is_empty() && wanted.is_empty() { self.rest() } else { SHORTEST })
    }

    /// This process's own share.
    fn share(&self, members: &BTreeSet<String>, owners: &[Option<String>]) -> Vec<i16> {
        shares(members, owners).remove(&self.name).unwrap_or_default()
    }

    /// Often enough that a lease is renewed well before it ends, whatever one look takes.
    fn rest(&self) -> Duration {
        (self.lease / 8).min(LONGEST)
    }
}

/// What is leased beyond the share, and another one wants.
fn excess(leases: &[Lease], share: &[i16]) -> Vec<i16> {
    let is_excess = |lease: &&Lease| lease.is_wanted && !share.contains(&lease.shard);
    leases.iter().filter(is_excess).map(|lease| lease.shard).collect()
}
