//! What a process expects of the levels that it knows, and for how long it relies on that.

use super::*;
use crate::domain::ids::OrderLineId;

fn level(sku: &str, location: &str, on_hand: i64, backorder_limit: i64) -> InventoryLevel {
    let key =
        LevelKey { sku: sku.parse().expect("a SKU"), location_id: location.parse().expect("a location") };
    InventoryLevel { on_hand, backorder_limit, ..InventoryLevel::empty(key) }
}

fn line(sku: &str, location: Option<&str>, quantity: i64) -> OrderLineDraft {
    OrderLineDraft {
        id: OrderLineId::new(),
        sku: sku.parse().expect("a SKU"),
        location_id: location.map(|location| location.parse().expect("a location")),
        quantity,
        unit_amount: 1,
    }
}

/// SKU a at one location; SKU b at two, the second of which has more.
fn known(now: Instant) -> (Known, LevelsSeen) {
    let levels = [level("a", "north", 1, 0), level("b", "north", 3, 50), level("b", "south", 9, 0)];
    let (mut known, seen) =
        (Known { by_sku: HashMap::new(), due: now + RENEWED_EVERY }, LevelsSeen::default());
    known.record(&["a", "b"].map(|sku| sku.parse().expect("a SKU")), &levels);
    seen.record(levels[1..].iter().map(|level| (&level.key, level.available())));
    (known, seen)
}

fn locations(expected: &[Allocation]) -> Vec<&str> {
    expected.iter().map(|allocation| allocation.first.level.location_id.as_str()).collect()
}

#[test]
fn the_only_level_is_expected_whatever_it_has_and_of_several_the_first_shelf_with_all_of_it() {
    let (known, seen) = known(Instant::now());
    let lines = [line("a", None, 7), line("b", None, 3), line("b", None, 4), line("b", Some("attic"), 7)];
    let expected = known.expect(&lines, &seen).expect("known").expect("whole");
    assert_eq!(locations(&expected), ["north", "north", "south", "attic"]);
    // Beyond every shelf there is something to decide.
    assert!(known.expect(&[line("b", None, 10)], &seen).expect("known").is_none());
    assert!(known.expect(&[line("b", None, 1)], &LevelsSeen::default()).expect("known").is_none());
}

#[test]
fn what_is_new_is_asked_for_and_nothing_else() {
    let (mut known, seen) = known(Instant::now());
    let lines = [line("a", None, 1), line("c", None, 1), line("d", Some("north"), 1)];
    let new = known.expect(&lines, &seen).expect_err("unknown");
    assert_eq!(new.iter().map(Sku::as_str).collect::<Vec<_>>(), ["c"]);
    // A SKU that has no level any more is new again.
    known.record(&[lines[0].sku.clone()], &[]);
    assert_eq!(known.expect(&lines[..1], &seen).expect_err("unknown").len(), 1);
}

#[test]
fn what_is_known_is_read_again_by_the_first_that_comes_and_not_relied_on_after_long() {
    let start = Instant::now();
    let (mut known, seen) = known(start);
    let tick = Duration::from_millis(1);
    assert_eq!(known.take_due(start + RENEWED_EVERY - tick), []);
    assert_eq!(known.take_due(start + RENEWED_EVERY).len(), 2);
    assert_eq!(known.take_due(start + RENEWED_EVERY + tick), []);
    assert!(known.expect(&[line("a", None, 1)], &seen).is_ok());
    assert_eq!(known.take_due(start + 3 * RENEWED_EVERY), []);
    assert!(known.expect(&[line("a", None, 1)], &seen).is_err());
}
