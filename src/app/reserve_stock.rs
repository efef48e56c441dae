//! Reserving stock under row locks: the one place where it is decided to which orders stock is promised.
//!
//! Under the row locks of every level, in one transaction: compare the fencing tokens, decide with
//! [`domain::reservation::decide`](crate::domain::reservation::decide). The caller writes what was decided in the same
//! transaction. Works on many orders at once; the number of statements does not grow with them.
//!
//! A lock and its token are of a SKU, and are stored at each of its levels that was written under them. So a token is stale
//! where any level of its SKU that is looked at has a newer one, and orders of one SKU are written under one token only, from
//! whatever levels they take.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::Error;
use crate::{
    domain::{
        allocation::{Allocation, Stock, Wanted},
        inventory::{InventoryLevel, LevelChange, LevelKey, LocationId, Sku},
        reservation::{Decision, decide},
    },
    lock::LockGuard,
    planted::{self, Fault},
    store::{
        Conn,
        candidates::{self, LockedCandidate},
        placement::ReserveStock,
    },
};

/// What an order wants, and the locks under which it wants it.
#[derive(Clone, Copy)]
pub(super) struct Want<'a> {
    pub(super) wanted: Wanted<'a>,
    pub(super) guard: &'a LockGuard,
}

impl Want<'_> {
    /// `(epoch, sequence)` of the lock of a SKU.
    fn fence(&self, sku: &Sku) -> Option<(i32, i64)> {
        let token = self.guard.token(sku.as_str()).filter(|_| !planted::is_on(Fault::FenceOff));
        token.map(|token| (token.epoch, token.sequence))
    }
}

/// What orders take from each level together. `None` if they take of one SKU under different tokens, from whatever levels:
/// the lock is the SKU's, so the older ones are stale, which [`LockedStock::decide`] finds out.
pub(super) fn sum<'a>(
    taken: impl IntoIterator<Item = (Want<'a>, &'a [Allocation])>,
) -> Option<BTreeMap<&'a LevelKey, ReserveStock>> {
    let mut levels = BTreeMap::<&LevelKey, ReserveStock>::new();
    for (want, allocations) in taken {
        let lines = want.wanted.lines.iter().zip(allocations);
        for (line, part) in lines.flat_map(|(line, from)| from.parts().map(move |part| (line, part))) {
            let fence = want.fence(&part.level.sku);
            let untouched = ReserveStock { quantity: 0, fence, from_shelf: false };
            let level = levels.entry(&part.level).or_insert(untouched);
            level.quantity += part.quantity;
            level.from_shelf |= line.location_id.is_none();
            if level.fence != fence {
                return None;
            }
        }
    }
    // The levels of a SKU stand side by side.
    let is_one =
        |((key, change), (next, of_next)): ((&&LevelKey, &ReserveStock), (&&LevelKey, &ReserveStock))| {
            key.sku != next.sku || change.fence == of_next.fence
        };
    levels.iter().zip(levels.iter().skip(1)).all(is_one).then_some(levels)
}

/// The levels that some orders may be taken from, under their row locks.
pub(super) struct LockedStock {
    stock: Stock,
    /// The newest token that wrote any of the levels of a SKU: its lock is one for all of them.
    fences: BTreeMap<Sku, (i32, i64)>,
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

/// Locks the levels that the orders may be taken from, in key order.
pub(super) async fn lock(conn: &mut Conn, wants: &[Want<'_>]) -> Result<LockedStock, Error> {
    let (locked, now) = candidates::lock(conn, &places(wants)).await?;
    Ok(LockedStock::new(locked, now))
}

/// Each SKU at the locations that are named for it, or, where one line may be taken from anywhere, at all of them.
fn places<'a>(wants: &[Want<'a>]) -> Vec<(&'a Sku, Option<&'a LocationId>)> {
    let lines = wants.iter().flat_map(|want| want.wanted.lines);
    let places: BTreeSet<_> = lines.map(|line| (&line.sku, line.location_id.as_ref())).collect();
    let anywhere = |sku| places.contains(&(sku, None));
    places.iter().copied().filter(|(sku, location_id)| location_id.is_none() || !anywhere(sku)).collect()
}

impl LockedStock {
    fn new(locked: Vec<LockedCandidate>, now: DateTime<Utc>) -> Self {
        let (mut stock, mut fences) = (Stock::default(), BTreeMap::<Sku, (i32, i64)>::new());
        let mut by_priority = Vec::with_capacity(locked.len());
        for LockedCandidate { locked, priority } in locked {
            let key = locked.level.key.clone();
            let newest = fences.entry(key.sku.clone()).or_insert(locked.fence);
            *newest = locked.fence.max(*newest);
            stock.levels.insert(key.clone(), locked.level);
            by_priority.push((priority, key));
        }
        by_priority.sort();
        for (priority, key) in by_priority {
            let chosen = stock.candidates.entry(key.sku.clone()).or_default();
            if priority.is_some() {
                chosen.push(key);
            }
        }
        Self { stock, fences, now }
    }

    /// A level as it was locked, and as it is once it is written as decided.
    pub(super) fn change(
        &self,
        key: &LevelKey,
        decided: &BTreeMap<LevelKey, InventoryLevel>,
    ) -> Option<LevelChange> {
        let before = self.stock.levels.get(key)?.clone();
        let after = InventoryLevel { version: before.version + 1, ..decided.get(key)?.clone() };
        Some(LevelChange { before, after })
    }

    /// Decides the orders one after the other.
    pub(super) fn decide<'a>(&self, wants: impl Iterator<Item = &'a Want<'a>> + Clone) -> Decided {
        let mut newest: BTreeMap<&Sku, (i32, i64)> =
            self.fences.iter().map(|(sku, fence)| (sku, *fence)).collect();
        let lines = |want: &'a Want<'a>| want.wanted.lines.iter().map(move |line| (want, line));
        for (want, line) in wants.clone().flat_map(lines) {
            if let (Some(newest), Some(fence)) = (newest.get_mut(&line.sku), want.fence(&line.sku)) {
                *newest = fence.max(*newest);
            }
        }
        let mut stock = self.stock.clone();
        let decide_one = |want: &Want<'_>| {
            let is_stale = |sku: &Sku| {
                newest.get(sku).copied().zip(want.fence(sku)).is_some_and(|(newest, mine)| mine < newest)
            };
            if want.wanted.lines.iter().any(|line| is_stale(&line.sku)) {
                return None;
            }
            decide(&mut stock, [want.wanted]).pop()
        };
        let decisions = wants.map(decide_one).collect();
        Decided { decisions, levels: stock.levels }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        domain::{ids::OrderLineId, new_order::OrderLineDraft},
        lock::{FencingToken, Held, Lost, Tokens},
        store::inventory::LockedLevel,
    };

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

    fn key(location: &str) -> LevelKey {
        LevelKey { sku: "a".parse().expect("a SKU"), location_id: location.parse().expect("a location") }
    }

    /// A level with 10 units, last written under this sequence.
    fn candidate(location: &str, priority: Option<i32>, sequence: i64) -> LockedCandidate {
        let level = InventoryLevel { on_hand: 10, version: 1, ..InventoryLevel::empty(key(location)) };
        LockedCandidate { locked: LockedLevel { level, fence: (1, sequence) }, priority }
    }

    fn line(quantity: i64, location: Option<&str>) -> OrderLineDraft {
        let location_id = location.map(|location| key(location).location_id);
        OrderLineDraft { id: OrderLineId::new(), sku: key("main").sku, location_id, quantity, unit_amount: 1 }
    }

    fn want<'a>(lines: &'a [OrderLineDraft], guard: &'a LockGuard) -> Want<'a> {
        Want { wanted: Wanted { lines, allow_split: false }, guard }
    }

    fn reserved(location: &str, quantity: i64) -> Decision {
        Decision::Reserved(vec![Allocation::whole(key(location), quantity)])
    }

    /// A process that lost its lock and has it again may have orders under both tokens. The older ones must not be written
    /// under the newer token, nor the newer ones be recorded under the older.
    #[test]
    fn of_two_tokens_of_one_sku_the_older_is_stale() {
        let stock = LockedStock::new(vec![candidate("main", Some(1), 3)], DateTime::UNIX_EPOCH);
        let (older, newer) = (guard(5), guard(7));
        let lines = [line(1, None)];
        let wants = [want(&lines, &older), want(&lines, &newer), want(&lines, &newer)];
        let one = [Allocation::whole(key("main"), 1)];
        assert_eq!(sum(wants.map(|want| (want, one.as_slice()))), None);
        let decided = stock.decide(wants.iter());
        assert_eq!(decided.decisions, [None, Some(reserved("main", 1)), Some(reserved("main", 1))]);
        let written = sum([wants[1], wants[2]].map(|want| (want, one.as_slice()))).expect("one token");
        assert_eq!(
            written[&key("main")],
            ReserveStock { quantity: 2, fence: Some((1, 7)), from_shelf: true }
        );
    }

    /// Also where they take from different levels, and the statement would compare each token with its own level's alone.
    #[test]
    fn of_two_tokens_at_two_levels_of_one_sku_the_older_is_stale() {
        let stock = LockedStock::new(
            vec![candidate("main", Some(1), 3), candidate("north", Some(2), 3)],
            DateTime::UNIX_EPOCH,
        );
        let (older, newer) = (guard(5), guard(7));
        let lines = [[line(1, Some("main"))], [line(1, Some("north"))]];
        let [main, north] = ["main", "north"].map(|location| [Allocation::whole(key(location), 1)]);
        let wants = [want(&lines[0], &older), want(&lines[1], &newer)];
        assert_eq!(sum([(wants[0], main.as_slice()), (wants[1], north.as_slice())]), None);
        let decided = stock.decide(wants.iter());
        assert_eq!(decided.decisions, [None, Some(reserved("north", 1))]);
        let wants = [want(&lines[0], &newer), want(&lines[1], &newer)];
        let written = sum([(wants[0], main.as_slice()), (wants[1], north.as_slice())]).expect("one token");
        assert_eq!(written.len(), 2);
    }

    /// The lock is one for all levels of a SKU: a newer holder that has written any of them has overtaken this one.
    #[test]
    fn a_newer_token_at_another_location_is_a_newer_token() {
        let candidates = vec![candidate("main", Some(1), 3), candidate("north", Some(2), 8)];
        let stock = LockedStock::new(candidates, DateTime::UNIX_EPOCH);
        for lines in [[line(1, None)], [line(1, Some("main"))]] {
            let (older, newer) = (guard(7), guard(8));
            assert_eq!(stock.decide([want(&lines, &older)].iter()).decisions, [None]);
            let decided = stock.decide([want(&lines, &newer)].iter());
            assert_eq!(decided.decisions, [Some(reserved("main", 1))]);
        }
    }

    #[test]
    fn the_lowest_priority_comes_first_then_the_id_and_who_is_not_active_must_be_named() {
        let (north, south) = (candidate("north", Some(1), 0), candidate("south", Some(1), 0));
        let candidates = vec![candidate("attic", None, 0), candidate("main", Some(2), 0), north, south];
        let stock = LockedStock::new(candidates, DateTime::UNIX_EPOCH);
        let (guard, large, small) = (guard(1), [line(6, None)], [line(6, Some("attic"))]);
        let decided = stock.decide([want(&large, &guard); 4].iter().chain([&want(&small, &guard)]));
        let expected = ["north", "south", "main"].map(|location| Some(reserved(location, 6)));
        assert_eq!(decided.decisions[..3], expected);
        assert!(matches!(&decided.decisions[3], Some(Decision::Insufficient(_))));
        assert_eq!(decided.decisions[4], Some(reserved("attic", 6)));
    }

    #[test]
    fn a_sku_is_locked_where_it_is_named_or_everywhere() {
        let guard = guard(1);
        let (named, other) = ([line(1, Some("main"))], [line(1, Some("north"))]);
        let (sku, main, north) = (key("main").sku, key("main").location_id, key("north").location_id);
        let wants = [want(&other, &guard), want(&named, &guard), want(&named, &guard)];
        assert_eq!(places(&wants), [(&sku, Some(&main)), (&sku, Some(&north))]);
        let free = [line(1, None)];
        assert_eq!(places(&[wants[0], want(&free, &guard), wants[1]]), [(&sku, None)]);
    }
}
