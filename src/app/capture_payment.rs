//! Capturing a payment: taking the authorized money once the order is confirmed.

use super::{App, Error, Handling, authorize_payment::Progress, record_payment::Then};
use crate::{
    domain::{
        ids::PaymentId,
        order::CaptureMethod,
        payment::{Payment, PaymentStatus},
    },
    provider::{ProviderPayment, ProviderStatus},
    store::{self, orders},
};

impl App {
    /// Carries a `payment.authorized` event out: captures where the capture is automatic, and lets the money go where
    /// the order died meanwhile.
    pub async fn capture_payment(&self, handling: &Handling, id: PaymentId) -> Result<Progress, Error> {
        self.capture(Some(handling), id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn capture(&self, event: Option<&Handling>, id: PaymentId) -> Result<Progress, Error> {
        let payment = self.find_payment(id).await?;
        if payment.status != PaymentStatus::Authorized {
            self.mark_handled(event).await?;
            return Ok(Progress::Done);
        }
        let order = orders::find(&mut *self.store.conn().await?, payment.order_id).await?;
        if order.is_none_or(|order| order.status.is_dead()) {
            return self.release(event, payment.order_id).await;
        }
        if payment.capture_method == CaptureMethod::Manual {
            self.mark_handled(event).await?;
            return Ok(Progress::Done);
        }
        let seen = match self.ask_for_capture(&payment).await {
            Ok(seen) => seen,
            Err(error) => return Err(self.note_unknown(id, error).await?),
        };
        self.record_payment(event, &payment, &seen, Then::Finish).await?;
        Ok(Progress::Done)
    }

    async fn ask_for_capture(&self, payment: &Payment) -> Result<ProviderPayment, Error> {
        let reference = reference(payment)?;
        if payment.outcome_unknown_since.is_some() {
            let seen = self.provider()?.get(reference).await?;
            if seen.status != ProviderStatus::Authorized {
                return Ok(seen);
            }
        }
        Ok(self.provider()?.capture(payment.id, reference, payment.amount).await?)
    }
}

/// The provider's id of a payment that it has authorized.
pub(super) fn reference(payment: &Payment) -> Result<&str, Error> {
    payment.provider_reference.as_deref().ok_or_else(|| {
        store::Error::Inconsistent(format!("payment {} is authorized without a reference", payment.id)).into()
    })
}
