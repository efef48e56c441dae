//! So many units of some lines of an order: how a request names a part of an order or of a shipment, and how such a part is
//! drawn from the rows that hold it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bounds::Quantity,
    ids::OrderLineId,
    new_order::MAX_LINES,
    validation::{Invalid, Rule, Validator},
};

/// So many units of an order line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineQuantity {
    /// The order line.
    pub line_id: OrderLineId,
    /// How many units, at least 1.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
}

/// Checks what can be checked without the order: a list that is not empty, each line once.
pub fn validate(check: &mut Validator, lines: &[LineQuantity]) {
    check.require(
        (1..=MAX_LINES).contains(&lines.len()),
        "/lines",
        format!("must hold 1 to {MAX_LINES} lines"),
    );
    let mut named = BTreeSet::new();
    for (index, line) in lines.iter().enumerate() {
        let is_new = named.insert(line.line_id);
        check.require_rule(Rule::Together, is_new, format!("/lines/{index}/line_id"), "must be named once");
        Quantity::require(check, line.quantity, format!("/lines/{index}/quantity"));
    }
}

/// Checks the lines against what is left of each line of `whole`, e.g. "order", to `purpose`, e.g. "cancel".
pub fn check_left(
    lines: &[LineQuantity],
    left: &BTreeMap<OrderLineId, i64>,
    whole: &str,
    purpose: &str,
) -> Result<(), Invalid> {
    let rule = Rule::LineQuantityUnavailable;
    let mut check = Validator::default();
    for (index, line) in lines.iter().enumerate() {
        let Some(&left) = left.get(&line.line_id) else {
            let (pointer, detail) =
                (format!("/lines/{index}/line_id"), format!("must be a line of the {whole}"));
            check.require_rule(rule, false, pointer, detail);
            continue;
        };
        let detail = match left {
            ..=0 => format!("must be of a line that has something left to {purpose}: this one has 0"),
            left => format!("must be 1 to {left}, which is left to {purpose}"),
        };
        let fits = (1..=left).contains(&line.quantity);
        check.require_rule(rule, fits, format!("/lines/{index}/quantity"), detail);
    }
    check.finish()
}

/// Adds quantities up by line.
pub fn sum(lines: impl IntoIterator<Item = (OrderLineId, i64)>) -> BTreeMap<OrderLineId, i64> {
    let mut sums = BTreeMap::new();
    for (line_id, quantity) in lines {
        *sums.entry(line_id).or_default() += quantity;
    }
    sums
}

/// Draws `wanted` from pieces of lines, in the order of the pieces: which piece gives how much. Takes what there is.
pub fn draw<T>(
    wanted: &[LineQuantity],
    pieces: impl IntoIterator<Item = (OrderLineId, i64, T)>,
) -> Vec<(T, i64)> {
    let mut missing = sum(wanted.iter().map(|line| (line.line_id, line.quantity)));
    let mut drawn = Vec::new();
    for (line_id, quantity, piece) in pieces {
        let Some(missing) = missing.get_mut(&line_id) else { continue };
        let taken = quantity.min(*missing);
        if taken > 0 {
            *missing -= taken;
            drawn.push((piece, taken));
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_what_is_left() {
        let ids: Vec<_> = (0..3).map(|_| OrderLineId::new()).collect();
        let want = |line_id, quantity| LineQuantity { line_id, quantity };
        let left = BTreeMap::from([(ids[0], 3), (ids[1], 0)]);
        let told = |lines: &[LineQuantity]| -> Vec<(String, String)> {
            let errors = check_left(lines, &left, "order", "cancel").expect_err("wrong");
            errors.errors.into_iter().map(|error| (error.pointer, error.detail)).collect()
        };
        assert!(check_left(&[want(ids[0], 3)], &left, "order", "cancel").is_ok());
        let told = told(&[want(ids[0], 4), want(ids[1], 1), want(ids[2], 1)]);
        assert_eq!(told[0].0, "/lines/0/quantity");
        assert!(told[0].1.starts_with("must be 1 to 3"), "{}", told[0].1);
        assert_eq!((told[1].0.as_str(), told[2].0.as_str()), ("/lines/1/quantity", "/lines/2/line_id"));

        let mut check = Validator::default();
        validate(&mut check, &[want(ids[0], 1), want(ids[0], 0)]);
        let pointers: Vec<_> =
            check.finish().expect_err("wrong").errors.into_iter().map(|error| error.pointer).collect();
        assert_eq!(pointers, ["/lines/1/line_id", "/lines/1/quantity"]);
    }

    proptest! {
        #[test]
        fn as_much_as_is_wanted_is_drawn_and_no_piece_gives_more_than_it_has(
            pieces in prop::collection::vec((0_usize..3, 1_i64..6), 0..8),
            wanted in prop::collection::vec(0_i64..9, 3),
        ) {
            let ids: Vec<_> = (0..3).map(|_| OrderLineId::new()).collect();
            let wanted: Vec<_> =
                ids.iter().zip(&wanted).map(|(&line_id, &quantity)| LineQuantity { line_id, quantity }).collect();
            let rows = pieces.iter().enumerate().map(|(place, &(line, quantity))| (ids[line], quantity, place));
            let drawn = draw(&wanted, rows);
            for &(place, taken) in &drawn {
                prop_assert!((1..=pieces[place].1).contains(&taken));
            }
            let places: BTreeSet<_> = drawn.iter().map(|(place, _)| place).collect();
            prop_assert_eq!(places.len(), drawn.len());
            for (line, want) in wanted.iter().enumerate() {
                let of_line = |place: usize| pieces[place].0 == line;
                let there: i64 = pieces.iter().filter(|piece| piece.0 == line).map(|piece| piece.1).sum();
                let taken: i64 = drawn.iter().filter(|(place, _)| of_line(*place)).map(|(_, taken)| taken).sum();
                prop_assert_eq!(taken, want.quantity.min(there));
            }
        }
    }
}
