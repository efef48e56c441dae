//! Reserving stock: the one place where stock is promised to an order.
//!
//! Under the row locks of every level, in one transaction: compare the fencing tokens, decide with
//! [`domain::reservation::decide`](crate::domain::reservation::decide), write the levels. Works on many orders at once;
//! the number of statements does not grow with them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Error;
use crate::{
    domain::{
        inventory::{InventoryLevel, LevelKey},
        new_order::OrderDraft,
        reservation::{Decision, Demand, decide},
    },
    lock::LockGuard,
    store::{
        Conn,
        inventory::{self, LockedLevel, ReserveStock},
    },
};

/// The levels that some orders want, under their row locks.
pub(super) struct LockedStock {
    levels: BTreeMap<LevelKey, LockedLevel>,
    demands: Vec<Vec<Demand>>,
    /// The database's time, read once the levels were locked.
    pub(super) now: DateTime<Utc>,
}

/// A newer holder of a lock has written a level: whatever this holder decides is out of date.
#[derive(Debug)]
pub(super) struct StaleFence;

/// Locks the levels that the orders want, in key order.
pub(super) async fn lock_stock(conn: &mut Conn, orders: &[&OrderDraft]) -> Result<LockedStock, Error> {
    let demands: Vec<Vec<Demand>> = orders.iter().map(|order| order.demand()).collect();
    let mut keys: Vec<LevelKey> = demands.iter().flatten().map(|demand| demand.key.clone()).collect();
    keys.sort();
    keys.dedup();
    let (levels, now) = inventory::lock_levels(conn, &keys).await?;
    Ok(LockedStock { levels, demands, now })
}

/// Decides every order and writes what they get. `decisions[i]` is of `orders[i]` in [`lock_stock`].
pub(super) async fn reserve_stock(
    conn: &mut Conn,
    stock: &LockedStock,
    guard: &LockGuard,
) -> Result<Result<Vec<Decision>, StaleFence>, Error> {
    let fences: BTreeMap<&LevelKey, Option<(i32, i64)>> = stock
        .levels
        .keys()
        .map(|key| (key, guard.token(key.sku.as_str()).map(|token| (token.epoch, token.sequence))))
        .collect();
    let is_stale =
        |(key, locked): (&LevelKey, &LockedLevel)| fences[key].is_some_and(|mine| mine < locked.fence);
    if stock.levels.iter().any(is_stale) {
        return Ok(Err(StaleFence));
    }
    let mut levels: BTreeMap<LevelKey, InventoryLevel> =
        stock.levels.iter().map(|(key, locked)| (key.clone(), locked.level.clone())).collect();
    let decisions = decide(&mut levels, stock.demands.iter().map(Vec::as_slice));
    let changes: Vec<ReserveStock> = stock
        .levels
        .iter()
        .map(|(key, locked)| (key, levels[key].reserved - locked.level.reserved))
        .filter(|&(_, quantity)| quantity > 0)
        .map(|(key, quantity)| ReserveStock { key: key.clone(), quantity, fence: fences[key] })
        .collect();
    if !changes.is_empty() {
        inventory::reserve(conn, &changes).await?;
    }
    Ok(Ok(decisions))
}
