//! Releasing the money of a dead order: voided if it was authorized, refunded if it was captured (G7), unless the order was
//! canceled with the wish to keep it.
//!
//! Runs when an order expires or is canceled, and again when money arrives for an order that is dead already.

use super::{
    App, Error, Handling,
    authorize_payment::Progress,
    capture_payment::reference,
    order_change::OrderChange,
    record_payment::{Then, refund_excess},
    retry::retry,
};
use crate::{
    domain::{
        ids::OrderId,
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
            if payment.amount_captured > 0 {
                retry("refund_dead_order", || self.refund_dead_order(event, &payment)).await?;
                continue;
            }
            let seen = match self.let_go(&payment).await {
                Ok(seen) => seen,
                Err(error) => return Err(self.note_unknown(&payment, error).await?),
            };
            self.record_payment(event, &payment, &seen, Then::Continue).await?;
        }
        Ok(Progress::Waiting)
    }

    async fn find_money_of_dead_order(&self, order_id: OrderId) -> Result<Option<Payment>, Error> {
        let mut conn = self.store.conn_by_key().await?;
        let order = orders::find(&mut conn, order_id).await?;
        let Some(order) = order.filter(|order| order.status.is_dead()) else { return Ok(None) };
        // One that is still `processing` comes back here once the provider has decided.
        let is_held = |payment: &Payment| {
            matches!(payment.status, PaymentStatus::RequiresAction | PaymentStatus::Authorized)
                || (payment.refundable() > 0 && !order.progress.keeps_money)
        };
        let payments = payments::list_of_order(&mut conn, order_id).await?;
        Ok(payments.into_iter().find(is_held))
    }

    /// Asks the provider to give free what was not captured.
    pub(super) async fn let_go(&self, payment: &Payment) -> Result<ProviderPayment, Error> {
        let reference = reference(payment)?;
        // An earlier try may have gone through without us hearing of it: then there is only something to record.
        let seen = self.provider()?.get(reference).await?;
        let is_open = matches!(seen.status, ProviderStatus::RequiresAction | ProviderStatus::Authorized);
        Ok(if is_open { self.provider()?.void(payment.id, reference).await? } else { seen })
    }

    /// Writes the refund of captured money down that nobody has written down before.
    async fn refund_dead_order(&self, event: Option<&Handling>, payment: &Payment) -> Result<(), Error> {
        let mut tx = self.store.begin("refund_dead_order").await?;
        let mut change = OrderChange::lock(&mut tx, payment.order_id, &Handling::cause_of(event)).await?;
        let mut payment = change.lock_payment(&mut tx, payment.id).await?;
        refund_excess(&mut tx, &mut change, &mut payment).await?;
        change.save(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
