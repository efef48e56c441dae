//! Noting that the provider is going to be asked to authorize payments.

use super::{
    super::{Error, authorize_payment::ASKED_FOR},
    Subject,
    group::Job,
    outcomes,
};
use crate::{
    domain::{ids::PaymentId, payment::Payment},
    store::{Store, order_batch::payments},
};

pub(super) struct Ask {
    pub(super) id: PaymentId,
}

impl Job for Ask {
    /// The payment, of which nothing is known that it could be looked up for.
    type Outcome = Payment;

    const NAME: &'static str = "mark_payments_asked";

    fn subject(&self) -> Subject {
        self.id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<Payment>>, Error> {
        let ids: Vec<PaymentId> = jobs.iter().map(|job| job.id).collect();
        let mut tx = store.begin_batch(Self::NAME).await?;
        // Guarded by what the payment is now: what is read before it is asked for may be older, and never newer.
        let found = payments::find(&mut tx, &ids).await?;
        let asked = payments::mark_asked(&mut tx, &ids).await?;
        tx.commit().await?;
        let done = found.into_iter().filter_map(|payment| {
            let index = ids.iter().position(|id| *id == payment.id)?;
            let (_, age) = asked.iter().find(|(id, _)| *id == payment.id)?;
            (*age <= ASKED_FOR).then_some((index, payment))
        });
        Ok(outcomes(jobs.len(), done))
    }
}
