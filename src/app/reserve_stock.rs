//! Reserving stock under row locks: the one place where it is decided to which orders stock is promised.
//!
//! Under the row locks of every level, in one transaction: compare the fencing tokens, decide with
//! [`domain::reservation::decide`](crate::domain::reservation::decide). The caller writes what was decided in the same
//! transaction. Works on many orders at once; the number of statements does not grow with them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Error;
use crate::{
    domain::{
        inventory::{InventoryLevel, LevelKey},
        reservation::{Decision, Demand, decide},
    },
    lock::LockGuard,
    store::{
        Conn,
        inventory::{self, LockedLevel},
        placement::ReserveStock,
    },
};

/// What an order wants, and the locks under which it wants it.
pub(super) struct Want<'a> {
    pub(super) demands: &'a [Demand],
    pub(super) guard: &'a LockGuard,
}

impl Want<'_> {
    /// `(epoch, sequence)` of the lock of a level.
    fn fence(&self, key: &LevelKey) -> Option<(i32, i64)> {
        self.guard.token(key.sku.as_str()).map(|token| (token.epoch, token.sequence))
    }
}

/// What orders want of each level together, under the oldest of their tokens.
pub(super) fn sum<'a>(wants: impl IntoIterator<Item = &'a Want<'a>>) -> BTreeMap<&'a LevelKey, ReserveStock> {
    let mut levels = BTreeMap::<&LevelKey, ReserveStock>::new();
    for want in wants {
        for demand in want.demands {
            let fence = want.fence(&demand.key);
            let level = levels.entry(&demand.key).or_insert(ReserveStock { quantity: 0, fence });
            level.quantity += demand.quantity;
            level.fence = level.fence.min(fence);
        }
    }
    levels
}

/// The levels that some orders want, under their row locks.
pub(super) struct LockedStock {
    levels: BTreeMap<LevelKey, LockedLevel>,
    /// The database's time, read once the levels were locked.
    pub(super) now: DateTime<Utc>,
}

/// Who gets what.
pub(super) struct Decided {
    /// For each order; `None`: a newer holder of a lock has written one of its levels, so whatever this holder decides is
    /// out of date.
    pub(super) decisions: Vec<Option<Decision>>,
    /// The levels as they are once that is written.
    pub(super) levels: BTreeMap<LevelKey, InventoryLevel>,
}

/// Locks the levels that the orders want, in key order.
pub(super) async fn lock(conn: &mut Conn, wants: &[Want<'_>]) -> Result<LockedStock, Error> {
    let mut keys: Vec<LevelKey> =
        wants.iter().flat_map(|want| want.demands).map(|demand| demand.key.clone()).collect();
    keys.sort();
    keys.dedup();
    let (levels, now) = inventory::lock_levels(conn, &keys).await?;
    Ok(LockedStock { levels, now })
}

impl LockedStock {
    /// Decides the orders one after the other.
    pub(super) fn decide<'a>(&self, wants: impl IntoIterator<Item = &'a Want<'a>>) -> Decided {
        let mut levels =
            self.levels.iter().map(|(key, locked)| (key.clone(), locked.level.clone())).collect();
        let decide_one = |want: &Want<'_>| {
            let is_stale = |demand: &Demand| {
                let stored = self.levels.get(&demand.key).map(|locked| locked.fence);
                stored.zip(want.fence(&demand.key)).is_some_and(|(stored, mine)| mine < stored)
            };
            if want.demands.iter().any(is_stale) {
                return None;
            }
            decide(&mut levels, [want.demands]).pop()
        };
        let decisions = wants.into_iter().map(decide_one).collect();
        Decided { decisions, levels }
    }
}
