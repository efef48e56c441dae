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
        inventory::{InventoryLevel, LevelChange, LevelKey},
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

/// What orders want of each level together. `None` if they want a level under different tokens: the older ones are stale,
/// which [`LockedStock::decide`] finds out.
pub(super) fn sum<'a>(
    wants: impl IntoIterator<Item = &'a Want<'a>>,
) -> Option<BTreeMap<&'a LevelKey, ReserveStock>> {
    let mut levels = BTreeMap::<&LevelKey, ReserveStock>::new();
    for want in wants {
        for demand in want.demands {
            let fence = want.fence(&demand.key);
            let level = levels.entry(&demand.key).or_insert(ReserveStock { quantity: 0, fence });
            level.quantity += demand.quantity;
            if level.fence != fence {
                return None;
            }
        }
    }
    Some(levels)
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
    /// A level as it was locked, and as it is once it is written as decided.
    pub(super) fn change(
        &self,
        key: &LevelKey,
        decided: &BTreeMap<LevelKey, InventoryLevel>,
    ) -> Option<LevelChange> {
        let before = self.levels.get(key)?.level.clone();
        let after = InventoryLevel { version: before.version + 1, ..decided.get(key)?.clone() };
        Some(LevelChange { before, after })
    }

    /// Decides the orders one after the other.
    pub(super) fn decide<'a>(&self, wants: impl Iterator<Item = &'a Want<'a>> + Clone) -> Decided {
        let mut newest: BTreeMap<&LevelKey, (i32, i64)> =
            self.levels.iter().map(|(key, locked)| (key, locked.fence)).collect();
        for (want, demand) in
            wants.clone().flat_map(|want| want.demands.iter().map(move |demand| (want, demand)))
        {
            if let (Some(newest), Some(fence)) = (newest.get_mut(&demand.key), want.fence(&demand.key)) {
                *newest = fence.max(*newest);
            }
        }
        let mut levels =
            self.levels.iter().map(|(key, locked)| (key.clone(), locked.level.clone())).collect();
        let decide_one = |want: &Want<'_>| {
            let is_stale = |demand: &Demand| {
                let newest = newest.get(&demand.key).copied();
                newest.zip(want.fence(&demand.key)).is_some_and(|(newest, mine)| mine < newest)
            };
            if want.demands.iter().any(is_stale) {
                return None;
            }
            decide(&mut levels, [want.demands]).pop()
        };
        let decisions = wants.map(decide_one).collect();
        Decided { decisions, levels }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::*;
    use crate::lock::{FencingToken, Held, Lost, Tokens};

    struct Nothing;

    #[async_trait]
    impl Held for Nothing {
        fn lost(&self, _: &Tokens) -> Lost {
            Lost::default()
        }

        fn release(&self, _: &Tokens, _: bool) {}

        async fn released(&self) {}
    }

    fn guard(sequence: i64) -> LockGuard {
        let token = FencingToken { epoch: 1, sequence };
        LockGuard::new(vec![("a".into(), token)], Arc::new(Nothing), Instant::now())
    }

    /// A process that lost its lock and has it again may have orders under both tokens. The older ones must not be written
    /// under the newer token, nor the newer ones be recorded under the older.
    #[test]
    fn of_two_tokens_of_one_level_the_older_is_stale() {
        let key =
            LevelKey { sku: "a".parse().expect("a SKU"), location_id: "main".parse().expect("a location") };
        let counters = InventoryLevel { on_hand: 10, version: 1, ..InventoryLevel::empty(key.clone()) };
        let level = LockedLevel { level: counters, fence: (1, 3) };
        let stock = LockedStock { levels: [(key.clone(), level)].into(), now: DateTime::UNIX_EPOCH };
        let (older, newer) = (guard(5), guard(7));
        let demands = [Demand { key: key.clone(), quantity: 1 }];
        let want = |guard| Want { demands: &demands, guard };
        let wants = [want(&older), want(&newer), want(&newer)];
        assert_eq!(sum(&wants), None);
        let decided = stock.decide(wants.iter());
        assert_eq!(decided.decisions, [None, Some(Decision::Reserved), Some(Decision::Reserved)]);
        let written = sum(&wants[1..]).expect("one token");
        assert_eq!(written[&key], ReserveStock { quantity: 2, fence: Some((1, 7)) });
    }
}
