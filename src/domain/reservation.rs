//! Reservations of stock: their life, and the decision who gets what.
//!
//! [`decide`] is the only place where Holdfast decides whether an order gets its stock, and from where; the rules of the
//! latter stand in [`allocation`](super::allocation). It is pure: the caller has read the levels under their row locks and
//! writes what it says in the same transaction.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    allocation::{Allocation, Stock, Taking, Wanted, in_turn},
    inventory::{LevelKey, LocationId, Sku},
    new_order::OrderLineDraft,
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

/// Something that an order wants and cannot have: all its lines that want one SKU, from one location or from anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shortage {
    /// What is short.
    pub sku: Sku,
    /// The one location that it could come from; absent where it could come from several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location_id: Option<LocationId>,
    /// What the order wants of it, all its lines added up.
    pub requested: i64,
    /// What it could have had, from all locations together.
    pub available: i64,
    /// What it could have had from each of several locations, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<LocationAvailable>,
}

/// What an order could have had from one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocationAvailable {
    /// From where.
    pub location_id: LocationId,
    /// How many units.
    pub available: i64,
}

impl Shortage {
    /// The levels that are short.
    pub fn levels(&self) -> impl Iterator<Item = LevelKey> {
        let several = self.locations.iter().map(|location| &location.location_id);
        let level =
            |location_id: &LocationId| LevelKey { sku: self.sku.clone(), location_id: location_id.clone() };
        self.location_id.iter().chain(several).map(level)
    }
}

/// What becomes of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything it wants is reserved: each line from here.
    Reserved(Vec<Allocation>),
    /// Nothing is reserved: too little of this.
    Insufficient(Vec<Shortage>),
    /// Nothing is reserved: there is no such SKU, or not at that location, as the lines with these numbers want.
    Unknown(Vec<usize>),
}

/// Decides the orders one after the other, all or nothing each, and takes what they get from the levels of `stock`.
///
/// An order that is refused takes nothing, so its neighbours are decided as if it had not come.
pub fn decide<'a>(stock: &mut Stock, orders: impl IntoIterator<Item = Wanted<'a>>) -> Vec<Decision> {
    orders.into_iter().map(|wanted| decide_order(stock, wanted)).collect()
}

fn decide_order(stock: &mut Stock, wanted: Wanted<'_>) -> Decision {
    let mut allocations = vec![None; wanted.lines.len()];
    let (mut unknown, mut short) = (Vec::new(), BTreeSet::new());
    let mut taking = Taking::new(stock);
    for index in in_turn(wanted.lines) {
        let line = &wanted.lines[index];
        let Some(candidates) = stock.candidates(line) else {
            unknown.push(index);
            continue;
        };
        allocations[index] = taking.take(line.quantity, candidates, wanted.allow_split);
        if allocations[index].is_none() {
            short.insert((&line.sku, line.location_id.as_ref()));
        }
    }
    if !unknown.is_empty() {
        unknown.sort_unstable();
        return Decision::Unknown(unknown);
    }
    let Some(allocations) = allocations.into_iter().collect() else {
        return Decision::Insufficient(
            short.into_iter().map(|what| shortage(stock, wanted.lines, what)).collect(),
        );
    };
    for (key, quantity) in taking.levels() {
        if let Some(level) = stock.levels.get_mut(&key) {
            level.reserved += quantity;
        }
    }
    Decision::Reserved(allocations)
}

/// What the lines of an order that want this SKU from there, or from anywhere, could have had: the stock as the order met
/// it, without what its lines that name a location were given of it first, taken in turn as they were for the decision.
fn shortage(
    stock: &Stock,
    lines: &[OrderLineDraft],
    (sku, location_id): (&Sku, Option<&LocationId>),
) -> Shortage {
    let turns = in_turn(lines).into_iter().map(|index| &lines[index]);
    let (wanted, others): (Vec<&OrderLineDraft>, Vec<&OrderLineDraft>) =
        turns.filter(|line| line.sku == *sku).partition(|line| line.location_id.as_ref() == location_id);
    let mut taking = Taking::new(stock);
    if location_id.is_none() {
        for (line, candidates) in others.into_iter().filter_map(|line| Some((line, stock.candidates(line)?)))
        {
            taking.take(line.quantity, candidates, false);
        }
    }
    let candidates = wanted.first().and_then(|line| stock.candidates(line)).unwrap_or_default();
    let available = |key: &LevelKey| LocationAvailable {
        location_id: key.location_id.clone(),
        available: taking.left(key),
    };
    let mut locations: Vec<_> = candidates.iter().map(available).collect();
    Shortage {
        sku: sku.clone(),
        requested: wanted.iter().map(|line| line.quantity).sum(),
        available: locations.iter().map(|location| location.available).sum(),
        location_id: if locations.len() == 1 { locations.pop().map(|only| only.location_id) } else { None },
        locations,
    }
}

#[cfg(test)]
#[path = "reservation_tests.rs"]
mod tests;
