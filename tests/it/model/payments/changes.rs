//! The protocol of payments as it is, and with one thing changed.

use super::{
    super::{ends, finds, holds},
    Change, Protocol,
    properties::{
        CANCELED_CAPTURING, EXPIRED_UNDECIDED, GIVEN_FREE, LIVING_IS_PAID, NO_MONEY_OF_DEAD, ONE_LIVE,
        ONE_PAYS, PAID_AT_LAST, REFUNDED, RELEASED_ONCE, STATUS_IS_TRUE, UNKNOWN_IS_AUTHORIZED,
    },
};

/// How many faults there are in one run.
const FAULTS: usize = 3;

#[test]
fn payments_hold() {
    let happens =
        [PAID_AT_LAST, UNKNOWN_IS_AUTHORIZED, EXPIRED_UNDECIDED, CANCELED_CAPTURING, GIVEN_FREE, REFUNDED];
    holds("payments", Protocol { faults: FAULTS, change: None }, &happens);
}

#[test]
fn work_on_payments_ends() {
    ends("payments", &Protocol { faults: FAULTS - 1, change: None }, Protocol::work);
}

fn changed(name: &str, change: Change, property: &'static str) {
    finds(name, Protocol { faults: FAULTS, change: Some(change) }, property);
}

/// The customer pays in another way, and both are charged.
#[test]
fn a_time_out_that_is_taken_for_a_refusal_charges_twice() {
    changed("payments, a time-out is a failure", Change::TimeOutIsFailure, ONE_PAYS);
}

#[test]
fn a_time_out_that_is_taken_for_a_refusal_hides_money() {
    changed("payments, a time-out is a failure", Change::TimeOutIsFailure, STATUS_IS_TRUE);
}

#[test]
fn without_the_index_an_order_has_two_live_payments() {
    changed("payments, no index of live ones", Change::NoLiveKey, ONE_LIVE);
}

#[test]
fn money_that_comes_late_stays_if_nobody_gives_it_back() {
    changed("payments, late money stays", Change::LateMoneyStays, NO_MONEY_OF_DEAD);
}

#[test]
fn a_payment_that_is_gone_leaves_an_unpaid_order_unless_it_is_canceled() {
    changed("payments, a lapse is ignored", Change::LapseIsIgnored, LIVING_IS_PAID);
}

#[test]
fn expiry_that_does_not_look_again_gives_stock_back_twice() {
    changed("payments, expiry looks once", Change::ExpiryLooksOnce, RELEASED_ONCE);
}
