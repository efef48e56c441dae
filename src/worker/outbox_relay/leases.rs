//! What this process leases, as its keeper and its lanes share it.
//!
//! Invariants: a shard is in one lane, always the same; a lane begins no window with a shard whose lease may have run out or
//! that is to be handed over; a shard is handed over only while it is in no window.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

use crate::store::relay_lease::Lease;

/// See the module.
#[derive(Debug)]
pub(super) struct Leases {
    lanes: usize,
    held: Mutex<BTreeMap<i16, Held>>,
    changed: Notify,
}

#[derive(Debug)]
struct Held {
    epoch: i64,
    /// By this process's clock, counted from before it was asked for: the lease holds at least as long.
    until: Instant,
    in_window: bool,
    leaving: bool,
}

/// The shards of one window with their epochs. Until it is dropped none of them is handed over.
#[derive(Debug)]
pub(super) struct Window {
    leases: Arc<Leases>,
    pub(super) shards: Vec<(i16, i64)>,
}

impl Leases {
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes, held: Mutex::default(), changed: Notify::new() }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<i16, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what is leased until `until`, and of nothing else. Gives whether these are other shards than before.
    pub(super) fn renewed(&self, leases: &[Lease], until: Instant) -> bool {
        let mut held = self.held();
        let before: Vec<i16> = held.keys().copied().collect();
        held.retain(|shard, _| leases.iter().any(|lease| lease.shard == *shard));
        for &Lease { shard, epoch, .. } in leases {
            let lease = held.entry(shard).or_insert(Held { epoch, until, in_window: false, leaving: false });
            (lease.epoch, lease.until, lease.leaving) = (epoch, until, false);
        }
        let is_other = !held.keys().eq(&before);
        drop(held);
        if is_other {
            self.changed.notify_waiters();
        }
        is_other
    }

    /// Keeps these shards out of further windows. Gives those that are in none.
    pub(super) fn leave(&self, shards: &[i16]) -> Vec<i16> {
        let mut idle = Vec::new();
        for (shard, lease) in self.held().iter_mut().filter(|(shard, _)| shards.contains(shard)) {
            lease.leaving = true;
            if !lease.in_window {
                idle.push(*shard);
            }
        }
        idle
    }

    /// Others lease these shards now. Gives how many are left.
    pub(super) fn handed_over(&self, shards: &[i16]) -> usize {
        let mut held = self.held();
        held.retain(|shard, _| !shards.contains(shard));
        held.len()
    }

    /// Every shard with its epoch.
    pub(super) fn list(&self) -> Vec<(i16, i64)> {
        self.held().iter().map(|(shard, lease)| (*shard, lease.epoch)).collect()
    }

    /// Begins a window with all shards of a lane that may be published.
    pub(super) fn begin_window(self: &Arc<Self>, lane: usize) -> Window {
        let (now, mut shards) = (Instant::now(), Vec::new());
        for (shard, lease) in self.held().iter_mut() {
            let own = usize::try_from(*shard).is_ok_and(|shard| shard % self.lanes == lane);
            if own && lease.until > now && !lease.leaving {
                lease.in_window = true;
                shards.push((*shard, lease.epoch));
            }
        }
        Window { leases: Arc::clone(self), shards }
    }

    /// Returns when there are other shards than before, seen from now on.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        for (shard, _) in &self.shards {
            if let Some(lease) = held.get_mut(shard) {
                lease.in_window = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn leases(shards: std::ops::Range<i16>) -> Vec<Lease> {
        shards.map(|shard| Lease { shard, epoch: 1, is_wanted: false }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_begins_with_its_own_shards_until_their_leases_run_out() {
        let shared = Arc::new(Leases::new(2));
        assert!(shared.renewed(&leases(0..5), Instant::now() + Duration::from_secs(1)));
        assert_eq!(shared.begin_window(0).shards, [(0, 1), (2, 1), (4, 1)]);
        assert_eq!(shared.begin_window(1).shards, [(1, 1), (3, 1)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(shared.begin_window(1).shards.is_empty());
        assert!(!shared.renewed(&leases(0..5), Instant::now() + Duration::from_secs(1)));
        assert_eq!(shared.begin_window(1).shards.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_leaves_once_its_window_has_ended() {
        let shared = Arc::new(Leases::new(1));
        shared.renewed(&leases(0..3), Instant::now() + Duration::from_secs(1));
        let window = shared.begin_window(0);
        assert!(shared.leave(&[1, 2]).is_empty());
        assert_eq!(shared.begin_window(0).shards, [(0, 1)]);
        drop(window);
        assert_eq!(shared.leave(&[1, 2]), [1, 2]);
        assert_eq!(shared.handed_over(&[1]), 2);
        // Nobody wants the other one any more: it is published on.
        shared.renewed(&leases(2..3), Instant::now() + Duration::from_secs(1));
        assert_eq!(shared.begin_window(0).shards, [(2, 1)]);
        assert_eq!(shared.list(), [(2, 1)]);
    }
}
