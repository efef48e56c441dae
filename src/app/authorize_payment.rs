//! Authorizing a payment: asking the provider to set the money aside, not more than once.
//!
//! The call is made outside any transaction, under the payment's id, so that a crash before, during or after it is
//! repaired by doing it again. An answer that does not come leaves the payment `processing`, with the time since when
//! the outcome is unknown; the next try looks the payment up before it asks again.

use chrono::TimeDelta;

use super::{App, Error, Handling, record_payment::Then};
use crate::{
    domain::{
        ids::PaymentId,
        payment::{Payment, PaymentStatus},
    },
    provider::{Authorize, ProviderError, ProviderPayment, ProviderStatus},
    store::payments,
};

/// How long a provider surely knows an idempotency key again; Stripe says 24 hours.
pub(super) const ID_REMEMBERED: TimeDelta = TimeDelta::hours(20);

/// Whether an event is handled, or has to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its effect is committed.
    Done,
    /// The provider or the customer has not decided yet: look again later.
    Waiting,
}

impl App {
    /// Carries a `payment.created` event out.
    pub async fn authorize_payment(&self, handling: &Handling, id: PaymentId) -> Result<Progress, Error> {
        let payment = self.find_payment(id).await?;
        if !matches!(payment.status, PaymentStatus::Processing | PaymentStatus::RequiresAction) {
            self.mark_handled(handling).await?;
            return Ok(Progress::Done);
        }
        let seen = match self.ask_for_authorization(&payment).await {
            Ok(seen) => seen,
            // A rejected second try says nothing about the first one, whose outcome is unknown.
            Err(Error::Provider(ProviderError::Rejected { code, message }))
                if payment.outcome_unknown_since.is_none() =>
            {
                tracing::warn!(payment_id = %id, code, message, "the provider rejected the payment");
                refused(&payment, code)
            }
            Err(Error::Provider(ProviderError::Rejected { code, message })) => {
                return Err(ProviderError::Unknown(format!("{code}: {message}")).into());
            }
            Err(error) => return Err(self.note_unknown(id, error).await?),
        };
        let undecided = matches!(seen.status, ProviderStatus::Processing | ProviderStatus::RequiresAction);
        let then = if undecided { Then::Continue } else { Then::Finish };
        self.record_payment(handling, &payment, &seen, then).await?;
        Ok(if undecided { Progress::Waiting } else { Progress::Done })
    }

    async fn ask_for_authorization(&self, payment: &Payment) -> Result<ProviderPayment, Error> {
        if let Some(reference) = &payment.provider_reference {
            return Ok(self.provider()?.get(reference).await?);
        }
        if let Some(since) = payment.outcome_unknown_since {
            if let Some(seen) = self.provider()?.find(payment.id).await? {
                return Ok(seen);
            }
            // Not found is no proof. Asking again is safe only while the provider still remembers the id.
            if payments::now(&mut *self.store.conn().await?).await? - since > ID_REMEMBERED {
                let error = format!("payment {} is not found, and too old to ask again", payment.id);
                return Err(ProviderError::Unknown(error).into());
            }
        }
        let request = Authorize {
            payment_id: payment.id,
            order_id: payment.order_id,
            amount: payment.amount,
            currency: payment.currency,
            token: payment.payment_token.clone(),
        };
        Ok(self.provider()?.authorize(&request).await?)
    }

    /// Notes on the payment that its outcome is unknown, if that is what went wrong. Gives the error back.
    pub(super) async fn note_unknown(&self, id: PaymentId, error: Error) -> Result<Error, Error> {
        if matches!(error, Error::Provider(ProviderError::Unknown(_))) {
            tracing::warn!(payment_id = %id, %error, "the payment stays as it is until it is looked up");
            payments::mark_outcome_unknown(&mut *self.store.conn().await?, id).await?;
        }
        Ok(error)
    }

    pub(super) async fn find_payment(&self, id: PaymentId) -> Result<Payment, Error> {
        let payment = payments::find(&mut *self.store.conn().await?, id).await?;
        payment.ok_or_else(|| Error::NotFound { kind: "payment", id: id.to_string() })
    }
}

/// A request that the provider will never carry out, as a refused payment.
fn refused(payment: &Payment, code: String) -> ProviderPayment {
    ProviderPayment {
        reference: String::new(),
        status: ProviderStatus::Declined,
        amount: payment.amount,
        amount_captured: 0,
        amount_refunded: 0,
        decline_code: Some(code),
    }
}
