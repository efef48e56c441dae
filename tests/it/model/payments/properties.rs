//! What must hold of an order's money and stock in every state, and what must come about in some.

use holdfast::domain::{order::OrderStatus, payment::PaymentStatus, reservation::ReservationStatus};
use stateright::Property;

use super::{
    Protocol,
    state::{Job, Payment, Request, State},
};

pub(super) const ONE_LIVE: &str = "an order has one live payment at most";
pub(super) const ONE_PAYS: &str = "the provider holds the money of one payment of an order at most";
pub(super) const RELEASED_ONCE: &str = "the stock of an order is given back once, when it dies";
pub(super) const NO_MONEY_OF_DEAD: &str = "in the end the provider keeps no money of a dead order";
pub(super) const LIVING_IS_PAID: &str = "in the end a living order is paid, and its stock committed";
pub(super) const STATUS_IS_TRUE: &str = "in the end a payment's status is what the provider says";

pub(super) const PAID_AT_LAST: &str = "an order is paid by its second payment";
pub(super) const UNKNOWN_IS_AUTHORIZED: &str = "an outcome that is unknown is an authorization";
pub(super) const EXPIRED_UNDECIDED: &str = "an order expires whose payment is not decided";
pub(super) const CANCELED_CAPTURING: &str = "an order is canceled while its money is being captured";
pub(super) const GIVEN_FREE: &str = "the money of a dead order is given free";
pub(super) const REFUNDED: &str = "the money of a dead order is refunded";

pub(super) fn all() -> Vec<Property<Protocol>> {
    let mut all = vec![
        Property::always(ONE_LIVE, |_, state: &State| {
            state.payments.iter().filter(|payment| payment.status.is_live()).count() <= 1
        }),
        Property::always(ONE_PAYS, |_, state: &State| {
            state.payments.iter().filter(|payment| payment.holds_money()).count() <= 1
        }),
        Property::always(RELEASED_ONCE, |_, state: &State| {
            state.releases == usize::from(state.order.is_dead())
        }),
        Property::always(NO_MONEY_OF_DEAD, |protocol: &Protocol, state: &State| {
            let keeps_money = state.order.is_dead() && state.payments.iter().any(Payment::holds_money);
            !keeps_money || !protocol.work(state).is_empty()
        }),
        Property::always(LIVING_IS_PAID, |protocol: &Protocol, state: &State| {
            let is_captured = |payment: &Payment| {
                (payment.status, payment.at_provider)
                    == (PaymentStatus::Captured, Some(PaymentStatus::Captured))
            };
            let is_sold = state.order == OrderStatus::Confirmed
                && state.reservation == ReservationStatus::Committed
                && state.payments.iter().any(is_captured);
            state.order.is_dead() || is_sold || !protocol.work(state).is_empty()
        }),
        Property::always(STATUS_IS_TRUE, |protocol: &Protocol, state: &State| {
            let is_true = |payment: &Payment| {
                // What the provider was never asked for has failed.
                let there = payment.at_provider.unwrap_or(PaymentStatus::Failed);
                payment.status == there
            };
            state.payments.iter().all(is_true) || !protocol.work(state).is_empty()
        }),
    ];
    all.extend(somewhere());
    all
}

/// What the protocol is made for does happen within the bounds.
fn somewhere() -> [Property<Protocol>; 6] {
    [
        Property::sometimes(PAID_AT_LAST, |_, state: &State| {
            state.payments.len() > 1 && state.payments[1].status == PaymentStatus::Captured
        }),
        Property::sometimes(UNKNOWN_IS_AUTHORIZED, |_, state: &State| {
            let is_authorized = |payment: &Payment| payment.at_provider == Some(PaymentStatus::Authorized);
            let is_unknown = |payment: &Payment| payment.is_outcome_unknown && payment.status.is_undecided();
            state.payments.iter().any(|payment| is_unknown(payment) && is_authorized(payment))
        }),
        Property::sometimes(EXPIRED_UNDECIDED, |_, state: &State| {
            state.order == OrderStatus::Expired && state.is_undecided()
        }),
        Property::sometimes(CANCELED_CAPTURING, |_, state: &State| {
            let is_capturing = |job: &Job| matches!(job, Job::Asked(_, Request::Capture));
            state.order == OrderStatus::Canceled && state.jobs.iter().any(is_capturing)
        }),
        Property::sometimes(GIVEN_FREE, |_, state: &State| {
            state.order.is_dead()
                && state.payments.iter().any(|payment| payment.status == PaymentStatus::Voided)
        }),
        Property::sometimes(REFUNDED, |_, state: &State| {
            state.order.is_dead()
                && state.payments.iter().any(|payment| payment.status == PaymentStatus::Refunded)
        }),
    ]
}
