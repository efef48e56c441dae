//! Fixing how much the provider is going to be asked to capture of payments.

use super::{
    super::{
        Error, Handling,
        capture_payment::{Capturing, decide_capture},
    },
    Batch, Subject,
    group::Job,
    outcomes,
};
use crate::{
    domain::{ids::PaymentId, payment::Payment},
    store::{Store, order_batch::payments},
};

pub(super) struct BeginCapture {
    pub(super) id: PaymentId,
}

impl Job for BeginCapture {
    /// The payment, and how much of it.
    type Outcome = (Payment, i64);

    const NAME: &'static str = "begin_captures";

    fn subject(&self) -> Subject {
        self.id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<(Payment, i64)>>, Error> {
        let ids: Vec<PaymentId> = jobs.iter().map(|job| job.id).collect();
        // The order of a payment never changes.
        let found = payments::find(&mut *store.conn_by_key().await?, &ids).await?;
        let mut batch =
            Batch::open(store, Self::NAME, found.iter().map(|payment| Handling::of(None, payment.order_id)))
                .await?;
        let order_ids = batch.order_ids();
        let locked = payments::lock_of_orders(&mut batch.tx, &order_ids).await?;
        let (mut begun, mut fixed) = (Vec::new(), Vec::new());
        for payment in locked {
            let Some(index) = ids.iter().position(|id| *id == payment.id) else { continue };
            let order = batch.orders.iter().find(|opened| opened.change.order.id == payment.order_id);
            let Some(order) = order.map(|opened| &opened.change.order) else { continue };
            let Capturing::Amount(amount) = decide_capture(order, &payment) else { continue };
            if payment.amount_capturing.is_none() {
                fixed.push((payment.id, amount));
            }
            begun.push((index, (payment, amount)));
        }
        if !fixed.is_empty() {
            payments::mark_capturing(&mut batch.tx, &fixed).await?;
        }
        batch.commit().await?;
        Ok(outcomes(jobs.len(), begun))
    }
}
