//! The protocol of orders: what may be changed about it, how much of it is explored, and what the code decides.

use std::collections::BTreeMap;

use holdfast::domain::{
    allocation::{Stock, Wanted},
    ids::OrderLineId,
    inventory::{InventoryLevel, LevelKey},
    new_order::OrderLineDraft,
    reservation::{Decision, decide},
};

/// What may be otherwise than in Holdfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// There is no lock, and no token: `lock.backend = "none"`.
    NoLock,
    /// The lock of a process that has crashed stays.
    LockWithoutSession,
    /// Tokens are compared with nothing.
    NoFence,
    /// The level is read in one transaction and written in the next. Only the write compares the token.
    TwoTransactions,
    /// The first of the two transactions raises the stored token.
    FenceRaisedFirst,
    /// The tokens are counted anew where nobody holds the lock or waits for it: ZooKeeper's sequence numbers.
    TokensRestart,
    /// Idempotency keys are not stored.
    NoIdempotencyKey,
    /// The event is published by the request itself, once its order is committed.
    PublishAfterCommit,
    /// The same, before that.
    PublishBeforeCommit,
    /// The relay reads any pending row, not only the first of each order.
    NoOrderOfRows,
    /// The relay marks a row as sent before the broker has confirmed it.
    MarkBeforeConfirm,
    /// Whoever published a row marks it as sent, whoever has the lease.
    NoEpochCheck,
    /// The lease of a relay that has crashed stays.
    LeaseWithoutEnd,
    /// The mark writes down what it remembers as published, whether or not it is still pending, and no key refuses that.
    MarkForgets,
    /// A delivery is acknowledged before its effect is committed.
    AckBeforeCommit,
    /// What was handled is not written down.
    NoInbox,
    /// The consumer does what the event says, whatever has become of the order.
    NoGuard,
}

/// How much is explored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The idempotency key of each request.
    pub(super) keys: &'static [usize],
    pub(super) on_hand: usize,
    /// How many orders are canceled, at most.
    pub(super) cancellations: usize,
    /// How many faults there are in one run.
    pub(super) faults: usize,
}

/// The protocol, with the bounds of its exploration.
pub(super) struct Protocol {
    pub(super) bounds: Bounds,
    changes: &'static [Change],
    /// For each number of reserved units the number once the next order has got its unit, if it gets one.
    pub(super) reserving: Vec<Option<usize>>,
}

impl Protocol {
    pub(super) fn new(bounds: Bounds, changes: &'static [Change]) -> Self {
        let reserving = (0..=bounds.on_hand).map(|reserved| reserve(bounds.on_hand, reserved)).collect();
        Self { bounds, changes, reserving }
    }

    pub(super) fn has(&self, change: Change) -> bool {
        self.changes.contains(&change)
    }
}

/// What the code decides about an order for one unit.
fn reserve(on_hand: usize, reserved: usize) -> Option<usize> {
    let key = LevelKey { sku: "a".parse().unwrap(), location_id: "main".parse().unwrap() };
    let counter = |units: usize| i64::try_from(units).unwrap();
    let (on_hand, reserved) = (counter(on_hand), counter(reserved));
    let level = InventoryLevel { on_hand, reserved, ..InventoryLevel::empty(key.clone()) };
    let (id, sku) = (OrderLineId::new(), key.sku.clone());
    let lines = [OrderLineDraft { id, sku, location_id: None, quantity: 1, unit_amount: 1 }];
    let mut stock = Stock {
        levels: BTreeMap::from([(key.clone(), level)]),
        candidates: BTreeMap::from([(key.sku.clone(), vec![key.clone()])]),
    };
    match decide(&mut stock, [Wanted { lines: &lines, allow_split: false }]).pop().unwrap() {
        Decision::Reserved(_) => Some(usize::try_from(stock.levels[&key].reserved).unwrap()),
        _ => None,
    }
}
