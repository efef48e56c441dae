//! Starting a payment: one row, `processing`, and the event that the payment worker acts on.

use chrono::{DateTime, Utc};

use super::{
    Answer, App, Cause, Conflict, Error, ExpectedVersion, answer, order_change::OrderChange, retry::retry,
    settling_engine::Start,
};
use crate::{
    domain::{
        event::Event,
        ids::{OrderId, PaymentId},
        order::OrderStatus,
        payment::{NewPayment, Payment, PaymentStatus},
        validation::Rule,
    },
    planted::{self, Fault},
    store::{Conn, idempotency::IdempotentRequest, orders::LockedOrder, outbox, payments},
};

impl App {
    /// Starts a payment of an order, and answers with it.
    ///
    /// # Errors
    /// Unknown order; another version than expected; an order that is not waiting for payment or whose time has run out; another live payment of it; an
    /// amount that is not what is due.
    pub async fn start_payment(
        &self,
        request: &IdempotentRequest,
        order_id: OrderId,
        expected: Option<&ExpectedVersion>,
        new: &NewPayment,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        new.validate().map_err(Error::Invalid)?;
        if !planted::is_on(Fault::PublishOutsideTransaction) {
            let job = Start {
                request: request.clone(),
                order_id,
                expected: expected.cloned(),
                new: new.clone(),
                cause: cause.clone(),
                provider: self.settings.provider_name,
            };
            if let Some(answer) = self.settling.start_payment(job).await {
                return Ok(answer);
            }
        }
        retry("start_payment", || self.start_once(request, order_id, expected, new, cause)).await
    }

    async fn start_once(
        &self,
        request: &IdempotentRequest,
        order_id: OrderId,
        expected: Option<&ExpectedVersion>,
        new: &NewPayment,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut tx = self.store.begin("start_payment").await?;
        let mut change = OrderChange::lock(&mut tx, order_id, cause).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(answer);
        }
        change.require_version(expected)?;
        refuse_live_payment(&mut tx, order_id).await?;
        let now = payments::now(&mut tx).await?;
        let payment = begin(&change.order, new, self.settings.provider_name, now)?;
        payments::insert(&mut tx, &payment).await?;
        change.emit(Event::PaymentCreated((&payment).into()));
        if planted::is_on(Fault::PublishOutsideTransaction) {
            let events = change.save_order(&mut tx).await?;
            let answer = answer::store(&mut tx, request, &payment).await?;
            tx.commit().await?;
            outbox::insert(&mut *self.store.conn_by_key().await?, &events).await?;
            return Ok(answer);
        }
        change.save(&mut tx).await?;
        let answer = answer::store(&mut tx, request, &payment).await?;
        tx.commit().await?;
        Ok(answer)
    }
}

/// The payment of an order under its lock, if it may be paid.
pub(super) fn begin(
    order: &LockedOrder,
    new: &NewPayment,
    provider: &str,
    now: DateTime<Utc>,
) -> Result<Payment, Error> {
    Conflict::require_status("order", order.status, |status| status == OrderStatus::PendingPayment)?;
    if order.is_overdue {
        return Err(Conflict::ReservationExpired {}.into());
    }
    let amount = order.amount_due();
    if new.amount.is_some_and(|asked| asked != amount) {
        let detail = format!("must be what is due for the order, {amount}");
        return Err(Error::invalid(Rule::AmountMismatch, "/amount", detail));
    }
    Ok(Payment {
        id: PaymentId::new(),
        order_id: order.id,
        method: new.method,
        provider: provider.to_owned(),
        provider_reference: None,
        payment_token: new.payment_token.clone(),
        status: PaymentStatus::Processing,
        currency: order.currency,
        amount,
        amount_captured: 0,
        amount_refunded: 0,
        amount_refund_claimed: 0,
        capture_requested_amount: None,
        amount_capturing: None,
        void_requested_at: None,
        void_reason: None,
        capture_method: new.capture_method.unwrap_or(order.capture_method),
        decline_code: None,
        outcome_unknown_since: None,
        created_at: now,
        updated_at: now,
    })
}

/// The index `payment_one_live_key` would refuse the second payment too; this says why in the client's words.
async fn refuse_live_payment(conn: &mut Conn, order_id: OrderId) -> Result<(), Error> {
    let payments = payments::lock_of_order(conn, order_id).await?;
    let Some(live) = payments.into_iter().find(|payment| payment.status.is_live()) else { return Ok(()) };
    let payment_id = live.id;
    Err(if live.status.is_undecided() || live.void_requested_at.is_some() {
        Conflict::PaymentInProgress { payment_id }.into()
    } else {
        Conflict::PaymentAlreadySucceeded { payment_id }.into()
    })
}
