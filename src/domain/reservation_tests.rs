//! The decision over many orders: all or nothing each, in their order, and nothing twice.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{ids::OrderLineId, inventory::InventoryLevel};

fn sku(number: usize) -> Sku {
    format!("sku-{number}").parse().expect("a SKU")
}

fn place(number: usize) -> LocationId {
    format!("place-{number}").parse().expect("a location")
}

fn key(sku_number: usize, location: usize) -> LevelKey {
    LevelKey { sku: sku(sku_number), location_id: place(location) }
}

/// For each SKU its levels, best first: `(on_hand, backorder_limit)`.
fn stock(skus: &[Vec<(i64, i64)>]) -> Stock {
    let mut stock = Stock::default();
    for (number, levels) in skus.iter().enumerate() {
        for (location, &(on_hand, backorder_limit)) in levels.iter().enumerate() {
            let key = key(number, location);
            let level = InventoryLevel { on_hand, backorder_limit, ..InventoryLevel::empty(key.clone()) };
            stock.levels.insert(key.clone(), level);
            stock.candidates.entry(sku(number)).or_default().push(key);
        }
    }
    stock
}

/// A line: SKU, quantity, location.
type Line = (usize, i64, Option<usize>);

fn drafts(lines: &[Line]) -> Vec<OrderLineDraft> {
    let draft = |&(number, quantity, location): &Line| OrderLineDraft {
        id: OrderLineId::new(),
        sku: sku(number),
        location_id: location.map(place),
        quantity,
        unit_amount: 1,
    };
    lines.iter().map(draft).collect()
}

fn decide_all(stock: &mut Stock, orders: &[(Vec<OrderLineDraft>, bool)]) -> Vec<Decision> {
    decide(stock, orders.iter().map(|(lines, allow_split)| Wanted { lines, allow_split: *allow_split }))
}

fn decide_one(stock: &mut Stock, lines: &[Line], allow_split: bool) -> Decision {
    decide_all(stock, &[(drafts(lines), allow_split)]).remove(0)
}

fn shortages(decision: Decision) -> Vec<Shortage> {
    match decision {
        Decision::Insufficient(items) => items,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_short_order_takes_nothing_and_says_what_was_there() {
    let mut stock = stock(&[vec![(5, 0)], vec![(1, 0)]]);
    let short = shortages(decide_one(&mut stock, &[(0, 3, None), (1, 2, None), (1, 1, None)], false));
    let expected = Shortage {
        sku: sku(1),
        location_id: Some(place(0)),
        requested: 3,
        available: 1,
        locations: Vec::new(),
    };
    assert_eq!(short, [expected]);
    assert!(matches!(decide_one(&mut stock, &[(0, 5, None)], false), Decision::Reserved(_)));
    assert_eq!((stock.levels[&key(0, 0)].reserved, stock.levels[&key(1, 0)].reserved), (5, 0));
}

#[test]
fn what_is_short_of_several_locations_is_told_for_each() {
    let mut stock = stock(&[vec![(3, 0), (2, 1)]]);
    let left = |location, available| LocationAvailable { location_id: place(location), available };
    // What a line of the same order wants of one of them goes first.
    let lines = [(0, 6, None), (0, 2, Some(0))];
    let short = shortages(decide_one(&mut stock, &lines, true));
    let expected = Shortage {
        sku: sku(0),
        location_id: None,
        requested: 6,
        available: 4,
        locations: vec![left(0, 1), left(1, 3)],
    };
    assert_eq!(short[0].levels().collect::<Vec<_>>(), [key(0, 0), key(0, 1)]);
    assert_eq!(short, [expected]);
    // Enough of it, and nowhere enough.
    let short = shortages(decide_one(&mut stock, &[(0, 4, None)], false));
    assert_eq!((short[0].requested, short[0].available), (4, 6));
    let short = shortages(decide_one(&mut stock, &[(0, 1, None), (0, 4, Some(1))], false));
    assert_eq!((short.len(), &short[0].location_id, short[0].available), (1, &Some(place(1)), 3));
}

/// Lines that name one location and do not fit there together: what they leave is what they left when it was decided, in
/// whatever order the request has them. Taken as requested the others would be told of units that they were not left.
#[test]
fn what_is_left_by_lines_that_compete_is_what_the_decision_left() {
    let stock = stock(&[vec![(5, 0), (2, 0)]]);
    let left = |location, available| LocationAvailable { location_id: place(location), available };
    for named in [[3, 4], [4, 3]] {
        let lines = [(0, named[0], Some(0)), (0, named[1], Some(0)), (0, 9, None)];
        let short = shortages(decide_one(&mut stock.clone(), &lines, true));
        let told: Vec<_> = short.iter().map(|short| (short.requested, short.available)).collect();
        // 4 are taken, 3 do not fit any more, 1 is left.
        assert_eq!(told, [(9, 3), (7, 5)]);
        assert_eq!(short[0].locations, [left(0, 1), left(1, 2)]);
    }
}

#[test]
fn what_is_unknown_is_not_short() {
    let mut stock = stock(&[vec![(5, 0)], vec![(5, 0)]]);
    let lines = [(0, 9, None), (7, 1, None), (0, 1, Some(3)), (1, 1, None)];
    assert_eq!(decide_one(&mut stock, &lines, false), Decision::Unknown(vec![1, 2]));
    // A SKU that lies where only those get it who name the place.
    stock.candidates.insert(sku(1), Vec::new());
    let short = shortages(decide_one(&mut stock, &[(1, 1, None)], true));
    assert_eq!((short[0].available, short[0].levels().count()), (0, 0));
    assert!(matches!(decide_one(&mut stock, &[(1, 1, Some(0))], false), Decision::Reserved(_)));
}

#[test]
fn a_backorder_limit_sells_beyond_the_shelf_and_no_further() {
    let mut stock = stock(&[vec![(1, 2)]]);
    assert!(matches!(decide_one(&mut stock, &[(0, 3, None)], false), Decision::Reserved(_)));
    assert_eq!(shortages(decide_one(&mut stock, &[(0, 1, None)], false))[0].available, 0);
}

/// Orders over up to 4 SKUs, one of which does not exist, at up to 3 locations.
fn baskets(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(Vec<OrderLineDraft>, bool)>> {
    let line = (0_usize..4, 1_i64..8, prop::option::weighted(0.3, 0_usize..3));
    let lines = prop::collection::vec(line, 1..5).prop_map(|lines| drafts(&lines));
    prop::collection::vec((lines, any::<bool>()), count)
}

fn levels() -> impl Strategy<Value = Vec<Vec<(i64, i64)>>> {
    prop::collection::vec(prop::collection::vec((0_i64..20, 0_i64..3), 1..4), 3)
}

#[test]
fn the_whole_transition_table() {
    use ReservationStatus::{Committed, Expired, Fulfilled, Held, Released};
    let allowed =
        [(Held, Committed), (Held, Expired), (Held, Released), (Committed, Fulfilled), (Committed, Released)];
    for &from in ReservationStatus::ALL {
        for &to in ReservationStatus::ALL {
            assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_oversold_and_every_order_is_whole_or_not_at_all(skus in levels(), orders in baskets(0..30)) {
        let mut stock = stock(&skus);
        let decisions = decide_all(&mut stock, &orders);
        let mut sold = BTreeMap::<&LevelKey, i64>::new();
        for ((lines, allow_split), decision) in orders.iter().zip(&decisions) {
            let Decision::Reserved(allocations) = decision else { continue };
            prop_assert_eq!(allocations.len(), lines.len());
            for (line, allocation) in lines.iter().zip(allocations) {
                prop_assert_eq!(allocation.parts().map(|part| part.quantity).sum::<i64>(), line.quantity);
                prop_assert!(*allow_split || !allocation.is_split());
                let places: BTreeSet<_> = allocation.parts().map(|part| &part.level).collect();
                prop_assert_eq!(places.len(), allocation.parts().count(), "a location twice");
                for part in allocation.parts() {
                    prop_assert!(part.level.sku == line.sku && part.quantity > 0);
                    prop_assert!(line.location_id.as_ref().is_none_or(|named| *named == part.level.location_id));
                    *sold.entry(&part.level).or_default() += part.quantity;
                }
            }
        }
        for level in stock.levels.values() {
            prop_assert!(level.available() >= 0);
            prop_assert_eq!(level.reserved, sold.get(&level.key).copied().unwrap_or(0));
        }
    }

    #[test]
    fn orders_are_decided_in_turn_and_a_refused_one_changes_nothing(skus in levels(), orders in baskets(0..20)) {
        let mut after = stock(&skus);
        let decisions = decide_all(&mut after, &orders);
        let mut stepwise = stock(&skus);
        for (order, decision) in orders.iter().zip(&decisions) {
            let before = stepwise.levels.clone();
            prop_assert_eq!(&decide_all(&mut stepwise, std::slice::from_ref(order))[0], decision);
            prop_assert!(matches!(decision, Decision::Reserved(_)) || stepwise.levels == before);
        }
        prop_assert_eq!(stepwise.levels, after.levels);
    }

    /// However its lines are taken in turn, an order that may be split gets everything if there is enough of each SKU.
    #[test]
    fn an_order_that_may_be_split_is_refused_only_if_there_is_too_little(
        skus in levels(),
        lines in prop::collection::vec((0_usize..3, 1_i64..12), 1..6),
    ) {
        let mut stock = stock(&skus);
        let enough = (0..3).all(|number| {
            let wanted: i64 = lines.iter().filter(|line| line.0 == number).map(|line| line.1).sum();
            let there: i64 = stock.candidates[&sku(number)].iter().map(|key| stock.levels[key].available()).sum();
            wanted <= there
        });
        let lines: Vec<Line> = lines.into_iter().map(|(number, quantity)| (number, quantity, None)).collect();
        let decision = decide_one(&mut stock, &lines, true);
        prop_assert_eq!(matches!(decision, Decision::Reserved(_)), enough, "{:?}", decision);
    }

    /// What lets a batch be written in one statement without deciding: with enough for all of them everybody gets what he
    /// wants from the one level that he can be given it from, in whatever order they are decided; and if everybody does,
    /// there was enough.
    #[test]
    fn everybody_gets_his_if_and_only_if_there_is_enough_for_all(
        on_hand in prop::collection::vec(0_i64..60, 4),
        baskets in prop::collection::vec(prop::collection::btree_map(0_usize..4, 1_i64..8, 1..4), 1..12),
        rotation in 0_usize..12,
    ) {
        let skus: Vec<_> = on_hand.iter().map(|&on_hand| vec![(on_hand, 0)]).collect();
        let mut orders: Vec<_> = baskets
            .iter()
            .map(|basket| basket.iter().map(|(&number, &quantity)| (number, quantity, None)).collect::<Vec<Line>>())
            .map(|lines| (drafts(&lines), false))
            .collect();
        let wanted = |number: usize| -> i64 { baskets.iter().filter_map(|basket| basket.get(&number)).sum() };
        let enough = (0..4).all(|number| on_hand[number] >= wanted(number));
        let turn = rotation % orders.len();
        orders.rotate_left(turn);
        let mut after = stock(&skus);
        let decisions = decide_all(&mut after, &orders);
        prop_assert_eq!(decisions.iter().all(|decision| matches!(decision, Decision::Reserved(_))), enough);
        if enough {
            for number in 0..4 {
                prop_assert_eq!(after.levels[&key(number, 0)].reserved, wanted(number));
            }
        }
    }
}
