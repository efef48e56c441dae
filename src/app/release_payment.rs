//! Releasing the money of a dead order: voided if it was authorized, refunded if it was captured (G7).
//!
//! Runs when an order expires or is canceled, and again when money arrives for an order that is dead already.

use super::{
    App, Error, Handling, authorize_payment::Progress, capture_payment::reference, record_payment::Then,
    retry::retry,
};
use crate::{
    domain::{
        ids::{OrderId, RefundId},
        payment::{Payment, PaymentStatus},
    },
    provider::{ProviderPayment, ProviderStatus},
    store::{orders, payments},
};

/// A payment goes from authorized to captured to refunded at most: a few rounds are enough, more are a bug.
const ROUNDS: usize = 4;

impl App {
    /// Lets go of whatever money a dead order holds. An order that is not dead keeps it.
    pub async fn release_payment(&self, handling: &Handling, order_id: OrderId) -> Result<Progress, Error> {
        self.release(Some(handling), order_id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn release(
        &self,
        event: Option<&Handling>,
        order_id: OrderId,
    ) -> Result<Progress, Error> {
        for _ in 0..ROUNDS {
            let Some(payment) = self.find_money_of_dead_order(order_id).await? else {
                self.mark_handled(event).await?;
                return Ok(Progress::Done);
            };
            let seen = match self.let_go(&payment).await {
                Ok(Some(seen)) => seen,
                Ok(None) => continue,
                Err(error) => return Err(self.note_unknown(payment.id, error).await?),
            };
            self.record_payment(event, &payment, &seen, Then::Continue).await?;
        }
        Ok(Progress::Waiting)
    }

    async fn find_money_of_dead_order(&self, order_id: OrderId) -> Result<Option<Payment>, Error> {
        let mut conn = self.store.conn().await?;
        let order = orders::find(&mut conn, order_id).await?;
        if !order.is_some_and(|order| order.status.is_dead()) {
            return Ok(None);
        }
        let held = [
            PaymentStatus::RequiresAction,
            PaymentStatus::Authorized,
            PaymentStatus::Captured,
            PaymentStatus::PartiallyRefunded,
        ];
        let payments = payments::list_of_order(&mut conn, order_id).await?;
        // One that is still `processing` comes back here once the provider has decided.
        Ok(payments.into_iter().find(|payment| held.contains(&payment.status)))
    }

    /// `None` if the payment has moved on since it was read.
    async fn let_go(&self, payment: &Payment) -> Result<Option<ProviderPayment>, Error> {
        let reference = reference(payment)?;
        // An earlier try may have gone through without us hearing of it: then there is only something to record.
        let seen = self.provider()?.get(reference).await?;
        let is_open = matches!(seen.status, ProviderStatus::RequiresAction | ProviderStatus::Authorized);
        if payment.amount_captured == 0 {
            return Ok(Some(if is_open {
                self.provider()?.void(payment.id, reference).await?
            } else {
                seen
            }));
        }
        if seen.amount_refunded > payment.amount_refunded {
            return Ok(Some(seen));
        }
        let Some((refund_id, amount)) = self.pending_refund(payment).await? else { return Ok(None) };
        Ok(Some(self.provider()?.refund(refund_id, reference, amount).await?))
    }

    /// The refund of all that is left, written down before the provider is asked, so that a crash, or another event of
    /// the same order handled at the same time, asks for the same one. It is pending until its effect is recorded.
    async fn pending_refund(&self, payment: &Payment) -> Result<Option<(RefundId, i64)>, Error> {
        retry("pending_refund", || async {
            let mut tx = self.store.begin("pending_refund").await?;
            orders::lock(&mut tx, payment.order_id).await?;
            let payments = payments::lock_of_order(&mut tx, payment.order_id).await?;
            let unchanged = |now: &Payment| now.id == payment.id && now.status == payment.status;
            let Some(payment) = payments.into_iter().find(unchanged) else { return Ok(None) };
            let left = payment.amount_captured - payment.amount_refunded;
            let reason = "the order is dead";
            let refund = payments::find_or_insert_refund(&mut tx, payment.id, left, reason).await?;
            tx.commit().await?;
            Ok(Some(refund))
        })
        .await
    }
}
