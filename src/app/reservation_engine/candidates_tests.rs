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

fn skus(names: &[&str]) -> Vec<Sku> {
    names.iter().map(|name| name.parse().expect("a SKU")).collect()
}

/// SKU a at one location; SKU b at two, the second of which has more.
fn known(now: Instant) -> (Known, LevelsSeen) {
    let levels = [level("a", "north", 1, 0), level("b", "north", 3, 50), level("b", "south", 9, 0)];
    let (mut known, seen) = (Known::new(now), LevelsSeen::default());
    known.record(&skus(&["a", "b"]), &levels, now);
    seen.record(levels[1..].iter().map(|level| (&level.key, level.available())));
    (known, seen)
}

fn locations(expected: &[Allocation]) -> Vec<&str> {
    expected.iter().map(|allocation| allocation.first.level.location_id.as_str()).collect()
}

/// The SKUs of a renewal that begins now, sorted.
fn renewed(known: &mut Known, now: Instant) -> Option<Vec<Sku>> {
    let mut skus = known.begin_renewal(now)?.skus;
    skus.sort();
    Some(skus)
}

const TICK: Duration = Duration::from_millis(1);

#[test]
fn the_only_level_is_expected_whatever_it_has_and_of_several_the_first_shelf_with_all_of_it() {
    let now = Instant::now();
    let (mut known, seen) = known(now);
    let lines = [line("a", None, 7), line("b", None, 3), line("b", None, 4), line("b", Some("attic"), 7)];
    let expected = known.expect(&lines, &seen, now).expect("known").expect("whole");
    assert_eq!(locations(&expected), ["north", "north", "south", "attic"]);
    // Beyond every shelf there is something to decide.
    assert!(known.expect(&[line("b", None, 10)], &seen, now).expect("known").is_none());
    assert!(known.expect(&[line("b", None, 1)], &LevelsSeen::default(), now).expect("known").is_none());
}

#[test]
fn what_is_new_is_asked_for_and_nothing_else() {
    let now = Instant::now();
    let (mut known, seen) = known(now);
    let lines = [line("a", None, 1), line("c", None, 1), line("d", Some("north"), 1)];
    assert_eq!(known.expect(&lines, &seen, now), Err(skus(&["c"])));
    // A SKU that has no level any more is new again.
    known.record(&skus(&["a"]), &[], now);
    assert_eq!(known.expect(&lines[..1], &seen, now), Err(skus(&["a"])));
}

#[test]
fn nothing_is_relied_on_for_long_after_it_was_read_though_it_was_to_be_renewed() {
    let start = Instant::now();
    let (mut known, seen) = known(start);
    let lines = [line("a", None, 1), line("b", None, 1)];
    // The renewal of one of them fails.
    assert_eq!(renewed(&mut known, start + RENEWED_EVERY), Some(skus(&["a", "b"])));
    known.record(&skus(&["a"]), &[level("a", "north", 1, 0)], start + RENEWED_EVERY);
    assert!(known.expect(&lines, &seen, start + RELIED_ON - TICK).is_ok());
    assert_eq!(known.expect(&lines, &seen, start + RELIED_ON), Err(skus(&["b"])));
    assert_eq!(known.expect(&lines, &seen, start + RENEWED_EVERY + RELIED_ON), Err(skus(&["a", "b"])));
}

#[test]
fn one_renewal_at_a_time_is_begun_by_the_first_that_comes() {
    let start = Instant::now();
    let (mut known, _) = known(start);
    assert!(known.begin_renewal(start + RENEWED_EVERY - TICK).is_none());
    let renewal = known.begin_renewal(start + RENEWED_EVERY).expect("due");
    assert_eq!(renewal.skus.len(), 2);
    // However long it takes.
    assert!(known.begin_renewal(start + 9 * RENEWED_EVERY).is_none());
    drop(renewal);
    let later = start + 9 * RENEWED_EVERY;
    assert!(known.begin_renewal(later).is_some());
    assert!(known.begin_renewal(later + TICK).is_none());
}

#[test]
fn what_nobody_asks_for_is_not_read_again_for_ever() {
    let start = Instant::now();
    let (mut known, seen) = known(start);
    let now = start + FORGOTTEN_AFTER;
    assert_eq!(renewed(&mut known, now), Some(skus(&["a", "b"])));
    known.record(&skus(&["a", "b"]), &[level("a", "north", 1, 0), level("b", "north", 1, 0)], now);
    assert!(known.expect(&[line("b", None, 1)], &seen, now).is_ok());
    assert_eq!(renewed(&mut known, now + FORGOTTEN_AFTER), Some(skus(&["b"])));
}

#[test]
fn neither_levels_without_end_nor_skus_that_nobody_has_push_out_what_is_in_use() {
    let now = Instant::now();
    let (mut known, seen) = known(now);
    // As many levels as there may be of one SKU.
    let wide = |sku: &str| -> Vec<InventoryLevel> {
        (0..LEVELS_OF_SKU).map(|number| level(sku, &format!("place-{number}"), 1, 0)).collect()
    };
    let most = 2 * LEVELS_MAX / usize::try_from(LEVELS_OF_SKU).expect("a few");
    for number in 0..2 * most {
        let sku = format!("wide-{number}");
        known.record(&skus(&[&sku]), &wide(&sku), now);
        known.record(&skus(&[&format!("nobody-has-{number}")]), &[], now);
        assert!(known.expect(&[line("a", None, 1)], &seen, now).is_ok());
        assert!(known.by_sku.keys().count() <= most + 2);
    }
    for number in 0..LEVELS_MAX {
        known.record(&skus(&[&format!("nobody-has-{number}")]), &[], now);
    }
    // The last ones are still there.
    let last = [line("a", None, 1), line(&format!("wide-{}", 2 * most - 1), None, 1)];
    assert!(known.expect(&last, &seen, now).is_ok());
}
