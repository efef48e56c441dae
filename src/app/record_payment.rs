//! Recording what the provider says of a payment, with everything that follows from it in the same transaction: stock is
//! committed and the order confirmed when the money is authorized, and not a moment later.
//!
//! The provider's view is the whole truth about the money: amounts are set from it, never added up. Recording the same
//! view twice changes nothing.

use super::{
    App, Error, Handling,
    cancel_order::cancel_unpaid,
    order_change::OrderChange,
    record_refunds::record_refunds,
    refund_payment::{RefundDraft, insert_refund},
    retry::retry,
    stock_events::move_reservations,
};
use crate::{
    domain::{
        event::{Event, OrderConfirmed, PaymentData},
        order::OrderStatus,
        payment::{Payment, PaymentStatus},
        reservation::ReservationStatus,
    },
    provider::{ProviderPayment, ProviderStatus},
    store::{self, Conn, inbox, payments},
};

/// Whether the event that led here is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Its effect is complete: mark it in the inbox.
    Finish,
    /// More is to come: it will be delivered again.
    Continue,
}

impl App {
    /// Records the provider's view of a payment, which was read before the provider was asked. Gives the payment's status
    /// from then on. `event` is what led here, if one did: it is marked in the same transaction where it is done with.
    pub(super) async fn record_payment(
        &self,
        event: Option<&Handling>,
        payment: &Payment,
        seen: &ProviderPayment,
        then: Then,
    ) -> Result<PaymentStatus, Error> {
        if seen.amount != payment.amount {
            let (id, ours, theirs) = (payment.id, payment.amount, seen.amount);
            let message = format!("payment {id} is of {ours}, the provider says {theirs}");
            return Err(store::Error::Inconsistent(message).into());
        }
        if (event.is_none() || then == Then::Finish)
            && let Some(status) = self.settling.record_payment(event, payment, seen).await
        {
            return Ok(status);
        }
        let status = retry("record_payment", || self.record_once(event, payment, seen, then)).await?;
        if seen.status == ProviderStatus::Declined && !seen.reference.is_empty() {
            self.close_declined(payment, &seen.reference).await;
        }
        Ok(status)
    }

    /// Has the provider close a payment that it refused: else the customer could try again on a page that is still open, and
    /// pay for what may be paid in another way by then. Where it does not work, such money is let go of when it comes.
    async fn close_declined(&self, payment: &Payment, reference: &str) {
        let closed = match self.provider() {
            Ok(provider) => provider.void(payment.id, reference).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::info!(payment_id = %payment.id, %error, "a refused payment stays open at the provider");
        }
    }

    async fn record_once(
        &self,
        event: Option<&Handling>,
        payment: &Payment,
        seen: &ProviderPayment,
        then: Then,
    ) -> Result<PaymentStatus, Error> {
        let (order_id, payment_id, read_at) = (payment.order_id, payment.id, payment.updated_at);
        let mut tx = self.store.begin("record_payment").await?;
        let first = match event {
            Some(event) if then == Then::Finish => {
                inbox::insert(&mut tx, event.consumer, event.event_id).await?
            }
            _ => true,
        };
        let mut change = OrderChange::lock(&mut tx, order_id, &Handling::cause_of(event)).await?;
        let mut payment = change.lock_payment(&mut tx, payment_id).await?;
        let is_newest = payment.updated_at == read_at;
        if !first {
            return Ok(payment.status);
        }
        for next in payment.status.path_to(target(seen)) {
            move_payment(&mut tx, &mut change, &mut payment, next, seen).await?;
        }
        record_refunds(&mut tx, &mut change, &mut payment, seen, is_newest).await?;
        if payment.provider_reference.is_none() && !seen.reference.is_empty() {
            payments::mark_reference(&mut tx, payment_id, &seen.reference).await?;
        }
        let status = payment.status;
        change.save(&mut tx).await?;
        tx.commit().await?;
        Ok(status)
    }

    /// Marks an event as handled that has nothing left to do, if one led here.
    pub(super) async fn mark_handled(&self, event: Option<&Handling>) -> Result<(), Error> {
        let Some(event) = event else { return Ok(()) };
        retry("mark_handled", || async {
            let mut tx = self.store.begin("mark_handled").await?;
            inbox::insert(&mut tx, event.consumer, event.event_id).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// The status that the provider's view amounts to, what was refunded aside.
pub(super) fn target(seen: &ProviderPayment) -> PaymentStatus {
    match seen.status {
        ProviderStatus::Processing => PaymentStatus::Processing,
        ProviderStatus::RequiresAction => PaymentStatus::RequiresAction,
        ProviderStatus::Authorized => PaymentStatus::Authorized,
        ProviderStatus::Voided => PaymentStatus::Voided,
        ProviderStatus::Declined => PaymentStatus::Failed,
        ProviderStatus::Captured => PaymentStatus::Captured,
    }
}

async fn move_payment(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
    next: PaymentStatus,
    seen: &ProviderPayment,
) -> Result<(), Error> {
    let from = payment.status;
    let Some((event, note)) = advance(payment, next, seen) else {
        // Back from `requires_action`: nobody needs to know. Refunds are never on a path: see `record_refunds`.
        if next == PaymentStatus::Processing {
            payments::mark(conn, payment, from, "processing again").await?;
        }
        return Ok(());
    };
    payments::mark(conn, payment, from, note).await?;
    change.emit(event((&*payment).into()));
    match next {
        // Money that is to be voided confirms nothing.
        PaymentStatus::Authorized
            if change.order.status == OrderStatus::PendingPayment && payment.void_requested_at.is_none() =>
        {
            confirm_order(conn, change).await
        }
        PaymentStatus::Captured => refund_excess(conn, change, payment).await,
        PaymentStatus::Voided | PaymentStatus::Failed => cancel_lapsed(conn, change).await,
        _ => Ok(()),
    }
}

/// An event about a payment.
type PaymentEvent = fn(PaymentData) -> Event;

/// What the provider's view makes of a payment that moves on to `next`: what is told of it, with the note in its history.
pub(super) fn advance(
    payment: &mut Payment,
    next: PaymentStatus,
    seen: &ProviderPayment,
) -> Option<(PaymentEvent, &'static str)> {
    payment.status = next;
    payment.provider_reference = Some(seen.reference.clone()).filter(|reference| !reference.is_empty());
    payment.outcome_unknown_since = None;
    let told: (PaymentEvent, _) = match next {
        PaymentStatus::Authorized => (Event::PaymentAuthorized, "the provider set the money aside"),
        PaymentStatus::Captured => {
            payment.amount_captured = seen.amount_captured;
            payment.amount_refund_claimed = seen.amount_refunded;
            (Event::PaymentCaptured, "the provider took the money")
        }
        PaymentStatus::Voided => (Event::PaymentVoided, "the provider gave the money free"),
        PaymentStatus::Failed => {
            payment.decline_code.clone_from(&seen.decline_code);
            (Event::PaymentFailed, "the provider refused")
        }
        PaymentStatus::RequiresAction => (Event::PaymentRequiresAction, "the customer has to act"),
        PaymentStatus::Processing | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => {
            return None;
        }
    };
    Some(told)
}

/// The order that was paid by a payment which is gone has no claim on its stock. What has not begun to ship is canceled; of
/// the rest nothing more ships (`refuse_unpaid`), and I8 tells of it.
async fn cancel_lapsed(conn: &mut Conn, change: &mut OrderChange) -> Result<(), Error> {
    let (order_id, status) = (change.order.id, change.order.status);
    match status {
        OrderStatus::Confirmed => cancel_unpaid(conn, change, "the payment lapsed").await,
        OrderStatus::PartiallyFulfilled | OrderStatus::Fulfilled => {
            tracing::error!(%order_id, %status, "the payment of an order that has shipped is gone");
            Ok(())
        }
        OrderStatus::PendingPayment | OrderStatus::Expired | OrderStatus::Canceled => Ok(()),
    }
}

/// Refunds captured money that its order has no use for: all of a dead order's, unless it is to keep it; else what is beyond
/// what is due by now.
pub(super) async fn refund_excess(
    conn: &mut Conn,
    change: &mut OrderChange,
    payment: &mut Payment,
) -> Result<(), Error> {
    let order = &change.order;
    let (amount, reason) = match order.status {
        status if status.is_dead() && order.keeps_money => return Ok(()),
        status if status.is_dead() => (payment.refundable(), format!("the order is {status}")),
        _ => (payment.refundable() - order.amount_due(), "more was captured than is due".to_owned()),
    };
    if amount > 0 {
        let draft = RefundDraft { amount, reason: Some(reason), lines: Vec::new() };
        insert_refund(conn, change, payment, draft).await?;
    }
    Ok(())
}

/// The money is there: what was held is sold.
async fn confirm_order(conn: &mut Conn, change: &mut OrderChange) -> Result<(), Error> {
    let order_id = change.order.id;
    let (held, committed) = (ReservationStatus::Held, ReservationStatus::Committed);
    move_reservations(conn, &[order_id], held, committed, change.cause()).await?;
    confirm(change)
}

/// Moves an order on whose stock is committed.
pub(super) fn confirm(change: &mut OrderChange) -> Result<(), Error> {
    let order_id = change.order.id;
    change.become_status(OrderStatus::Confirmed)?;
    change.emit(Event::OrderConfirmed(OrderConfirmed { order_id }));
    Ok(())
}
