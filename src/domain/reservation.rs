//! Reservations of stock: their life, and the decision who gets what.
//!
//! [`decide`] is the only place where Holdfast decides whether an order gets its stock. It is pure: the caller has read
//! the levels under their row locks and writes what it says in the same transaction.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    inventory::{InventoryLevel, LevelKey},
    status::status,
};

status! {
    /// The life of a reservation.
    ReservationStatus {
        /// Held for an order that is not paid yet.
        Held = "held" => [Committed, Expired, Released],
        /// Sold, not shipped yet.
        Committed = "committed" => [Fulfilled, Released],
        /// Shipped.
        Fulfilled = "fulfilled" => [],
        /// Given back by a cancellation.
        Released = "released" => [],
        /// Given back because time ran out.
        Expired = "expired" => [],
    }
}

/// How much of one level an order wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Which level.
    pub key: LevelKey,
    /// How many units, at least 1.
    pub quantity: i64,
}

/// A level that cannot satisfy an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortage {
    /// Which level.
    #[serde(flatten)]
    pub key: LevelKey,
    /// What the order wants of it, all its lines added up.
    pub requested: i64,
    /// What it could have had.
    pub available: i64,
}

/// What becomes of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything it wants is reserved.
    Reserved,
    /// Nothing is reserved: these levels are short.
    Insufficient(Vec<Shortage>),
    /// Nothing is reserved: there is no such SKU at that location.
    Unknown(Vec<LevelKey>),
}

/// Decides the orders one after the other, all or nothing each, and takes what they get from `levels`.
///
/// An order that is refused takes nothing, so its neighbours are decided as if it had not come.
pub fn decide<'a>(
    levels: &mut BTreeMap<LevelKey, InventoryLevel>,
    orders: impl IntoIterator<Item = &'a [Demand]>,
) -> Vec<Decision> {
    orders.into_iter().map(|demands| decide_order(levels, demands)).collect()
}

fn decide_order(levels: &mut BTreeMap<LevelKey, InventoryLevel>, demands: &[Demand]) -> Decision {
    let mut unknown = Vec::new();
    let mut short = Vec::new();
    for demand in demands {
        match levels.get(&demand.key) {
            None => unknown.push(demand.key.clone()),
            Some(level) if level.available() < demand.quantity => short.push(Shortage {
                key: demand.key.clone(),
                requested: demand.quantity,
                available: level.available().max(0),
            }),
            Some(_) => {}
        }
    }
    if !unknown.is_empty() {
        return Decision::Unknown(unknown);
    }
    if !short.is_empty() {
        return Decision::Insufficient(short);
    }
    for demand in demands {
        if let Some(level) = levels.get_mut(&demand.key) {
            level.reserved += demand.quantity;
        }
    }
    Decision::Reserved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(sku: usize) -> LevelKey {
        let sku = format!("sku-{sku}").parse().expect("a SKU");
        LevelKey { sku, location_id: "main".parse().expect("a location") }
    }

    fn level(sku: usize, on_hand: i64, backorder_limit: i64) -> (LevelKey, InventoryLevel) {
        let level = InventoryLevel { on_hand, backorder_limit, ..InventoryLevel::empty(key(sku)) };
        (key(sku), level)
    }

    #[test]
    fn a_short_order_takes_nothing_and_says_what_was_there() {
        let mut levels = BTreeMap::from([level(0, 5, 0), level(1, 1, 0)]);
        let big = [Demand { key: key(0), quantity: 3 }, Demand { key: key(1), quantity: 2 }];
        let small = [Demand { key: key(0), quantity: 5 }];
        let decisions = decide(&mut levels, [&big[..], &small[..]]);
        let shortage = Shortage { key: key(1), requested: 2, available: 1 };
        assert_eq!(decisions, [Decision::Insufficient(vec![shortage]), Decision::Reserved]);
        assert_eq!(levels[&key(0)].reserved, 5);
        assert_eq!(levels[&key(1)].reserved, 0);
    }

    #[test]
    fn an_unknown_level_is_not_a_shortage() {
        let mut levels = BTreeMap::from([level(0, 5, 0)]);
        let order = [Demand { key: key(7), quantity: 1 }];
        assert_eq!(decide(&mut levels, [&order[..]]), [Decision::Unknown(vec![key(7)])]);
    }

    #[test]
    fn a_backorder_limit_sells_beyond_the_shelf_and_no_further() {
        let mut levels = BTreeMap::from([level(0, 1, 2)]);
        let order = [Demand { key: key(0), quantity: 3 }];
        let again = [Demand { key: key(0), quantity: 1 }];
        let decisions = decide(&mut levels, [&order[..], &again[..]]);
        assert_eq!(decisions[0], Decision::Reserved);
        assert!(matches!(&decisions[1], Decision::Insufficient(short) if short[0].available == 0));
    }

    #[test]
    fn the_whole_transition_table() {
        use ReservationStatus::{Committed, Expired, Fulfilled, Held, Released};
        let allowed = [
            (Held, Committed),
            (Held, Expired),
            (Held, Released),
            (Committed, Fulfilled),
            (Committed, Released),
        ];
        for &from in ReservationStatus::ALL {
            for &to in ReservationStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_is_oversold_and_every_reserved_order_is_whole(
            stock in prop::collection::vec((0_i64..20, 0_i64..3), 1..5),
            baskets in prop::collection::vec(prop::collection::btree_map(0_usize..6, 1_i64..8, 1..4), 0..30),
        ) {
            let mut levels: BTreeMap<_, _> =
                stock.iter().enumerate().map(|(sku, &(on_hand, backorder))| level(sku, on_hand, backorder)).collect();
            let orders: Vec<Vec<Demand>> = baskets
                .iter()
                .map(|basket| basket.iter().map(|(&sku, &quantity)| Demand { key: key(sku), quantity }).collect())
                .collect();
            let decisions = decide(&mut levels, orders.iter().map(Vec::as_slice));
            let mut sold = BTreeMap::<LevelKey, i64>::new();
            for (order, decision) in orders.iter().zip(&decisions) {
                if *decision == Decision::Reserved {
                    for demand in order {
                        *sold.entry(demand.key.clone()).or_default() += demand.quantity;
                    }
                }
            }
            for level in levels.values() {
                prop_assert!(level.reserved <= level.on_hand + level.backorder_limit);
                prop_assert_eq!(level.reserved, sold.get(&level.key).copied().unwrap_or(0));
            }
        }

        /// What lets a batch be written in one statement without deciding: with enough for all of them everybody gets
        /// what he wants, in whatever order they are decided; and if everybody does, there was enough.
        #[test]
        fn everybody_gets_his_if_and_only_if_there_is_enough_for_all(
            stock in prop::collection::vec(0_i64..60, 4),
            baskets in prop::collection::vec(prop::collection::btree_map(0_usize..4, 1_i64..8, 1..4), 1..12),
            rotation in 0_usize..12,
        ) {
            let levels: BTreeMap<_, _> =
                stock.iter().enumerate().map(|(sku, &on_hand)| level(sku, on_hand, 0)).collect();
            let mut orders: Vec<Vec<Demand>> = baskets
                .iter()
                .map(|basket| basket.iter().map(|(&sku, &quantity)| Demand { key: key(sku), quantity }).collect())
                .collect();
            let wanted = |key: &LevelKey| -> i64 {
                orders.iter().flatten().filter(|demand| demand.key == *key).map(|demand| demand.quantity).sum()
            };
            let enough = levels.values().all(|level| level.available() >= wanted(&level.key));
            let sums: BTreeMap<_, _> = levels.keys().map(|key| (key.clone(), wanted(key))).collect();
            let turn = rotation % orders.len();
            orders.rotate_left(turn);
            let mut after = levels.clone();
            let decisions = decide(&mut after, orders.iter().map(Vec::as_slice));
            prop_assert_eq!(decisions.iter().all(|decision| *decision == Decision::Reserved), enough);
            if enough {
                for level in after.values() {
                    prop_assert_eq!(level.reserved, sums[&level.key]);
                }
            }
        }
    }
}
