//! The protocol of orders as it is, and with one thing changed.
//!
//! Some changes break nothing, and show what does not carry the protocol. The lock does not. Nor does the check of the epoch:
//! whoever marks a row has seen its confirm, and the mark moves a row only while it is there. A mark that does not look breaks
//! nothing either, as long as the epoch is checked, for then nobody else marks. Without both, an event is in the feed twice.

use super::{
    super::{ends, finds, holds},
    properties::{
        ALL_ANSWERED, ALL_DONE, ALL_SENT, ALL_SOLD, ALL_TOOK_EFFECT, CONSERVATION, DUPLICATE,
        EFFECTS_IN_ORDER, EVENTS_IN_ORDER, FENCE_GROWS, FORMER_MARKS_NOTHING, HOLDER_WRITES,
        NO_ORDERLESS_EFFECT, NO_OVERSELL, ONE_EFFECT, ONE_ORDER, OVERTAKEN, SENT_ONCE, TOO_LATE,
    },
    protocol::{Bounds, Change, Protocol},
};

/// Three requests for one unit, two of them the same.
const ONE_UNIT: Bounds = Bounds { keys: &[0, 0, 1], on_hand: 1, cancellations: 0, faults: 2 };

/// The same for two units.
const TWO_UNITS: Bounds = Bounds { keys: &[0, 0, 1], on_hand: 2, cancellations: 0, faults: 1 };

/// Two requests for one unit, which is sold again where its order is canceled.
const SOLD_AGAIN: Bounds = Bounds { keys: &[0, 1], on_hand: 1, cancellations: 1, faults: 1 };

/// One order, and what becomes of its two events.
const EVENTS: Bounds = Bounds { keys: &[0], on_hand: 1, cancellations: 1, faults: 2 };

#[test]
fn one_unit_is_sold_once() {
    let happens = [ALL_SOLD, OVERTAKEN, DUPLICATE, FORMER_MARKS_NOTHING, ALL_DONE];
    holds("one unit", Protocol::new(ONE_UNIT, &[]), &happens);
}

#[test]
fn two_units_are_sold_once_each() {
    let happens = [ALL_SOLD, OVERTAKEN, DUPLICATE, FORMER_MARKS_NOTHING, ALL_DONE];
    holds("two units", Protocol::new(TWO_UNITS, &[]), &happens);
}

#[test]
fn a_canceled_unit_is_sold_again() {
    holds("canceled and sold again", Protocol::new(SOLD_AGAIN, &[]), &[ALL_SOLD, TOO_LATE, ALL_DONE]);
}

#[test]
fn events_take_effect_once_and_in_order() {
    holds("events", Protocol::new(EVENTS, &[]), &[DUPLICATE, FORMER_MARKS_NOTHING, TOO_LATE, ALL_DONE]);
}

#[test]
fn work_on_orders_ends() {
    for bounds in [TWO_UNITS, EVENTS] {
        ends("orders", &Protocol::new(bounds, &[]), Protocol::work);
    }
}

fn changed(name: &str, bounds: Bounds, changes: &'static [Change], property: &'static str) {
    finds(name, Protocol::new(bounds, changes), property);
}

fn change_holds(name: &str, bounds: Bounds, changes: &'static [Change]) {
    holds(name, Protocol::new(bounds, changes), &[ALL_SOLD, DUPLICATE, ALL_DONE]);
}

#[test]
fn without_a_lock_the_transaction_is_enough() {
    change_holds("no lock", ONE_UNIT, &[Change::NoLock]);
}

#[test]
fn a_lock_that_outlives_its_process_keeps_everybody_waiting() {
    changed("lock without session", ONE_UNIT, &[Change::LockWithoutSession], ALL_ANSWERED);
}

#[test]
fn without_the_fence_an_older_holder_writes() {
    changed("no fence", TWO_UNITS, &[Change::NoFence], FENCE_GROWS);
}

#[test]
fn the_lock_alone_oversells() {
    changed("two transactions, no fence", ONE_UNIT, &[Change::TwoTransactions, Change::NoFence], NO_OVERSELL);
}

#[test]
fn a_fence_that_only_the_write_compares_oversells() {
    changed("two transactions, fence in the write", ONE_UNIT, &[Change::TwoTransactions], NO_OVERSELL);
}

#[test]
fn a_fence_that_only_the_write_compares_loses_count() {
    changed("the same, two units", TWO_UNITS, &[Change::TwoTransactions], CONSERVATION);
}

#[test]
fn a_fence_that_is_raised_before_the_read_is_enough() {
    change_holds(
        "two transactions, fence raised first",
        ONE_UNIT,
        &[Change::TwoTransactions, Change::FenceRaisedFirst],
    );
}

#[test]
fn tokens_that_restart_oversell_where_they_are_relied_on() {
    let changes = &[Change::TwoTransactions, Change::FenceRaisedFirst, Change::TokensRestart];
    changed("two transactions, fence raised first, tokens restart", ONE_UNIT, changes, NO_OVERSELL);
}

#[test]
fn tokens_that_restart_keep_the_holder_out() {
    changed("tokens restart", ONE_UNIT, &[Change::TokensRestart], HOLDER_WRITES);
}

#[test]
fn without_idempotency_keys_a_request_has_two_orders() {
    changed("no idempotency key", TWO_UNITS, &[Change::NoIdempotencyKey], ONE_ORDER);
}

#[test]
fn an_event_that_is_published_after_the_commit_is_lost() {
    changed("published after the commit", EVENTS, &[Change::PublishAfterCommit], ALL_TOOK_EFFECT);
}

#[test]
fn an_event_that_is_published_before_the_commit_is_of_no_order() {
    changed("published before the commit", ONE_UNIT, &[Change::PublishBeforeCommit], NO_ORDERLESS_EFFECT);
}

#[test]
fn a_relay_that_reads_all_rows_lets_events_overtake() {
    changed("relay reads all rows", EVENTS, &[Change::NoOrderOfRows], EVENTS_IN_ORDER);
}

#[test]
fn a_row_that_is_marked_before_the_confirm_is_lost() {
    changed("marked before the confirm", EVENTS, &[Change::MarkBeforeConfirm], ALL_TOOK_EFFECT);
}

#[test]
fn a_lease_that_outlives_its_relay_keeps_every_event() {
    changed("lease without end", EVENTS, &[Change::LeaseWithoutEnd], ALL_SENT);
}

#[test]
fn without_the_epoch_check_nothing_is_lost() {
    change_holds("no epoch check", EVENTS, &[Change::NoEpochCheck]);
}

#[test]
fn under_the_epoch_check_a_mark_may_forget() {
    change_holds("mark that forgets", EVENTS, &[Change::MarkForgets]);
}

#[test]
fn without_the_epoch_check_a_mark_that_forgets_sends_twice() {
    changed(
        "no epoch check, mark that forgets",
        EVENTS,
        &[Change::NoEpochCheck, Change::MarkForgets],
        SENT_ONCE,
    );
}

#[test]
fn a_delivery_that_is_acknowledged_first_is_lost() {
    changed("acknowledged before the commit", EVENTS, &[Change::AckBeforeCommit], ALL_TOOK_EFFECT);
}

#[test]
fn without_the_inbox_an_event_takes_effect_twice() {
    changed("no inbox", EVENTS, &[Change::NoInbox], ONE_EFFECT);
}

#[test]
fn without_a_guard_effects_come_in_any_order() {
    changed("no guard", EVENTS, &[Change::NoGuard], EFFECTS_IN_ORDER);
}
