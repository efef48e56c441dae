//! The rules by which a line is given its levels, each by an example, and all of them against every level there is.

use proptest::prelude::*;

use super::*;
use crate::domain::{ids::OrderLineId, inventory::LocationId};

fn name(location: usize) -> LocationId {
    format!("place-{location}").parse().expect("a location")
}

fn key(location: usize) -> LevelKey {
    LevelKey { sku: "a".parse().expect("a SKU"), location_id: name(location) }
}

/// Levels of one SKU, best first: `(on_hand, backorder_limit)`.
fn stock(levels: &[(i64, i64)]) -> Stock {
    let mut stock = Stock::default();
    for (location, &(on_hand, backorder_limit)) in levels.iter().enumerate() {
        let level = InventoryLevel { on_hand, backorder_limit, ..InventoryLevel::empty(key(location)) };
        stock.levels.insert(key(location), level);
        stock.candidates.entry(key(location).sku).or_default().push(key(location));
    }
    stock
}

fn line(quantity: i64, location: Option<usize>) -> OrderLineDraft {
    let location_id = location.map(name);
    OrderLineDraft { id: OrderLineId::new(), sku: key(0).sku, location_id, quantity, unit_amount: 1 }
}

/// What each line takes from which location, in the order in which the locations were chosen.
fn taken(stock: &Stock, lines: &[OrderLineDraft], allow_split: bool) -> Vec<Option<Vec<(usize, i64)>>> {
    let mut taking = Taking::new(stock);
    let mut allocations = vec![None; lines.len()];
    for index in in_turn(lines) {
        let candidates = stock.candidates(&lines[index]).expect("a known SKU");
        allocations[index] = taking.take(lines[index].quantity, candidates, allow_split);
    }
    let number = |level: &LevelKey| (0..9).find(|&location| key(location) == *level).expect("a location");
    let parts = |allocation: Allocation| {
        allocation.parts().map(|part| (number(&part.level), part.quantity)).collect()
    };
    allocations.into_iter().map(|allocation| allocation.map(parts)).collect()
}

fn taken_by_one(levels: &[(i64, i64)], quantity: i64, allow_split: bool) -> Option<Vec<(usize, i64)>> {
    taken(&stock(levels), &[line(quantity, None)], allow_split).remove(0)
}

#[test]
fn a_line_goes_whole_to_the_first_location_that_has_all_of_it() {
    let levels = [(2, 0), (5, 0), (9, 0)];
    assert_eq!(taken_by_one(&levels, 2, true), Some(vec![(0, 2)]));
    assert_eq!(taken_by_one(&levels, 3, true), Some(vec![(1, 3)]));
    assert_eq!(taken_by_one(&levels, 9, false), Some(vec![(2, 9)]));
}

#[test]
fn a_line_is_split_in_turn_only_where_that_is_allowed_and_needed() {
    let levels = [(2, 0), (0, 0), (5, 0), (9, 0)];
    assert_eq!(taken_by_one(&levels, 10, false), None);
    assert_eq!(taken_by_one(&levels, 10, true), Some(vec![(0, 2), (2, 5), (3, 3)]));
    assert_eq!(taken_by_one(&levels, 17, true), None);
}

#[test]
fn the_shelves_come_before_what_may_be_promised_beyond_them() {
    let levels = [(2, 10), (4, 0), (1, 3)];
    // All of it on a shelf further down, or on several.
    assert_eq!(taken_by_one(&levels, 4, true), Some(vec![(1, 4)]));
    assert_eq!(taken_by_one(&levels, 7, true), Some(vec![(0, 2), (1, 4), (2, 1)]));
    // Otherwise whole from one, if one can promise it.
    assert_eq!(taken_by_one(&levels, 7, false), Some(vec![(0, 7)]));
    assert_eq!(taken_by_one(&levels, 12, true), Some(vec![(0, 12)]));
    // And what the shelves have, before the rest.
    assert_eq!(taken_by_one(&levels, 18, true), Some(vec![(0, 12), (1, 4), (2, 2)]));
    assert_eq!(taken_by_one(&levels, 21, true), None);
}

#[test]
fn who_has_no_choice_comes_first_and_the_larger_before_the_smaller() {
    let levels = stock(&[(3, 0), (2, 0)]);
    let lines = [line(2, None), line(3, Some(0))];
    assert_eq!(taken(&levels, &lines, false), [Some(vec![(1, 2)]), Some(vec![(0, 3)])]);
    let lines = [line(2, None), line(3, None)];
    assert_eq!(taken(&levels, &lines, false), [Some(vec![(1, 2)]), Some(vec![(0, 3)])]);
    // One line has taken what the other would have counted.
    let lines = [line(2, None), line(2, None), line(2, None)];
    assert_eq!(taken(&levels, &lines, false), [Some(vec![(0, 2)]), Some(vec![(1, 2)]), None]);
    let lines = [line(1, Some(1)), line(1, Some(1)), line(1, Some(1))];
    assert_eq!(taken(&levels, &lines, true), [Some(vec![(1, 1)]), Some(vec![(1, 1)]), None]);
}

proptest! {
    /// One line against every level, by the rules as they are written.
    #[test]
    fn no_better_choice_was_left(
        levels in prop::collection::vec((0_i64..8, 0_i64..4), 1..5),
        quantity in 1_i64..16,
        allow_split: bool,
    ) {
        let shelf: Vec<i64> = levels.iter().map(|(on_hand, _)| *on_hand).collect();
        let all: Vec<i64> = levels.iter().map(|(on_hand, backorder)| on_hand + backorder).collect();
        let first_with = |room: &[i64]| room.iter().position(|units| *units >= quantity);
        let Some(parts) = taken_by_one(&levels, quantity, allow_split) else {
            prop_assert_eq!(first_with(&all), None);
            prop_assert!(!allow_split || all.iter().sum::<i64>() < quantity);
            return Ok(());
        };
        prop_assert_eq!(parts.iter().map(|(_, units)| units).sum::<i64>(), quantity);
        for &(location, units) in &parts {
            prop_assert!(units > 0 && units <= all[location]);
        }
        let on_backorder: i64 = parts.iter().map(|&(location, units)| (units - shelf[location]).max(0)).sum();
        if let [(only, _)] = parts[..] {
            let best = first_with(&shelf).or_else(|| first_with(&all));
            prop_assert_eq!(Some(only), best);
            prop_assert!(!allow_split || on_backorder == 0 || shelf.iter().sum::<i64>() < quantity);
            return Ok(());
        }
        prop_assert!(allow_split);
        prop_assert_eq!(first_with(&shelf), None, "a shelf had all of it");
        prop_assert_eq!(on_backorder, (quantity - shelf.iter().sum::<i64>()).max(0), "a shelf was left aside");
        if on_backorder > 0 {
            prop_assert_eq!(first_with(&all), None, "one location could promise all of it");
        } else {
            // Only the last one that is taken from keeps something.
            let emptied = parts[..parts.len() - 1].iter().all(|&(location, units)| units == shelf[location]);
            let passed = (0..parts[parts.len() - 1].0).filter(|at| parts.iter().all(|(location, _)| location != at));
            prop_assert!(emptied && passed.map(|location| shelf[location]).sum::<i64>() == 0);
        }
    }
}
