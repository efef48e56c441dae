//! Capturing a payment: taking the authorized money once the order is confirmed, or when the merchant asks for it.
//!
//! What is captured is what is due by then, or what the merchant asked for if that is less; the provider gives the rest free,
//! and there is no second capture. The amount is written down before the provider is asked, so that every repetition asks
//! for the same. What is canceled after that is refunded once the capture is recorded.

use super::{
    App, Error, Handling, authorize_payment::Progress, order_change::OrderChange, record_payment::Then,
    retry::retry,
};
use crate::{
    domain::{
        ids::PaymentId,
        order::CaptureMethod,
        payment::{Payment, PaymentStatus},
    },
    provider::{ProviderPayment, ProviderStatus},
    store::{self, orders::LockedOrder, payments},
};

/// What is to be done about an authorized payment.
pub(super) enum Capturing {
    /// The provider is to be asked for this amount.
    Amount(i64),
    /// The order is dead: its money is let go.
    Dead,
    /// Nobody has asked for it, or it was captured or voided meanwhile.
    NotNow,
}

impl App {
    /// Carries a `payment.authorized` or `payment.capture_requested` event out: captures where the capture is automatic or
    /// asked for, and lets the money go where the order died meanwhile.
    pub async fn capture_payment(&self, handling: &Handling, id: PaymentId) -> Result<Progress, Error> {
        self.capture(Some(handling), id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn capture(&self, event: Option<&Handling>, id: PaymentId) -> Result<Progress, Error> {
        let (payment, amount) = if let Some(begun) = self.settling.begin_capture(id).await {
            begun
        } else {
            let payment = self.find_payment(id).await?;
            let capturing = match payment.status {
                PaymentStatus::Authorized => {
                    retry("begin_capture", || self.begin_capture(event, &payment)).await?
                }
                _ => Capturing::NotNow,
            };
            match capturing {
                Capturing::Amount(amount) => (payment, amount),
                Capturing::Dead => return self.release(event, payment.order_id).await,
                Capturing::NotNow => {
                    self.mark_handled(event).await?;
                    return Ok(Progress::Done);
                }
            }
        };
        let seen = match self.ask_for_capture(&payment, amount).await {
            Ok(seen) => seen,
            Err(error) => return Err(self.note_unknown(&payment, error).await?),
        };
        self.record_payment(event, &payment, &seen, Then::Finish).await?;
        Ok(Progress::Done)
    }

    /// Writes down how much the provider is going to be asked for.
    async fn begin_capture(&self, event: Option<&Handling>, payment: &Payment) -> Result<Capturing, Error> {
        let mut tx = self.store.begin("begin_capture").await?;
        let change = OrderChange::lock(&mut tx, payment.order_id, &Handling::cause_of(event)).await?;
        let payment = change.lock_payment(&mut tx, payment.id).await?;
        let capturing = decide_capture(&change.order, &payment);
        if let (Capturing::Amount(amount), None) = (&capturing, payment.amount_capturing) {
            payments::mark_capturing(&mut tx, payment.id, *amount).await?;
            tx.commit().await?;
        }
        Ok(capturing)
    }

    async fn ask_for_capture(&self, payment: &Payment, amount: i64) -> Result<ProviderPayment, Error> {
        let reference = reference(payment)?;
        if payment.outcome_unknown_since.is_some() {
            let seen = self.provider()?.get(reference).await?;
            if seen.status != ProviderStatus::Authorized {
                return Ok(seen);
            }
        }
        Ok(self.provider()?.capture(payment.id, reference, amount).await?)
    }
}

/// What is to be done about a payment, under its lock and its order's. An amount that is fixed stays.
pub(super) fn decide_capture(order: &LockedOrder, payment: &Payment) -> Capturing {
    if order.status.is_dead() {
        return Capturing::Dead;
    }
    if payment.status != PaymentStatus::Authorized || payment.void_requested_at.is_some() {
        return Capturing::NotNow;
    }
    if let Some(amount) = payment.amount_capturing {
        return Capturing::Amount(amount);
    }
    let due = order.amount_due();
    let automatic = (payment.capture_method == CaptureMethod::Automatic).then_some(due);
    let asked = payment.capture_requested_amount.or(automatic);
    asked.map_or(Capturing::NotNow, |amount| Capturing::Amount(amount.min(due)))
}

/// The provider's id of a payment that it has authorized.
pub(super) fn reference(payment: &Payment) -> Result<&str, Error> {
    payment.provider_reference.as_deref().ok_or_else(|| {
        store::Error::Inconsistent(format!("payment {} is authorized without a reference", payment.id)).into()
    })
}
