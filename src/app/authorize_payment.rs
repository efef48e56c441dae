//! Authorizing a payment: asking the provider to set the money aside, not more than once.
//!
//! The call is made outside any transaction, under the payment's id, so that a crash before, during or after it is
//! repaired by doing it again. An answer that does not come leaves the payment `processing`, with the time since when
//! the outcome is unknown; the next try looks the payment up before it asks again.
//!
//! The money of an order that died first is not asked for at all. What was asked for is: the money may be set aside already.
//!
//! It is asked for again only while the provider surely knows the payment's id from the first time. Two days after that time
//! a payment that the provider does not know of does not exist there, and has failed: that is its bound.

use chrono::TimeDelta;

use super::{App, Error, Handling, record_payment::Then};
use crate::{
    domain::{ids::PaymentId, payment::Payment},
    provider::{Authorize, ProviderError, ProviderPayment, ProviderStatus},
    store::{payments, provider_events},
};

/// How long a payment or a refund may be asked for, counted from when it was asked for first: a provider surely knows an
/// idempotency key that long. Stripe says 24 hours.
pub(super) const ASKED_FOR: TimeDelta = TimeDelta::hours(20);

/// After this a payment or a refund that is not found was never made: it was last asked for a day before, and what a
/// provider's search does not show lags behind by minutes, in an outage by an hour.
pub(super) const NEVER_MADE: TimeDelta = TimeDelta::hours(48);

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
        self.authorize(Some(handling), id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn authorize(&self, event: Option<&Handling>, id: PaymentId) -> Result<Progress, Error> {
        let (payment, asked) = if let Some(payment) = self.settling.mark_asked(id).await {
            let asked = self.request_authorization(&payment).await;
            (payment, asked)
        } else {
            let payment = self.find_payment(id).await?;
            if !payment.status.is_undecided() {
                self.mark_handled(event).await?;
                return Ok(Progress::Done);
            }
            let asked = self.ask_for_authorization(&payment).await;
            (payment, asked)
        };
        let seen = match asked {
            Ok(seen) => seen,
            Err(error) => return Err(self.note_unknown(&payment, error).await?),
        };
        let undecided = matches!(seen.status, ProviderStatus::Processing | ProviderStatus::RequiresAction);
        let then = if undecided { Then::Continue } else { Then::Finish };
        self.record_payment(event, &payment, &seen, then).await?;
        Ok(if undecided { Progress::Waiting } else { Progress::Done })
    }

    async fn ask_for_authorization(&self, payment: &Payment) -> Result<ProviderPayment, Error> {
        // Before the provider is asked: what nobody has asked for cannot have been made, however old it is.
        let Some(age) = payments::mark_asked(&mut *self.store.conn_by_key().await?, payment.id).await? else {
            return Ok(refused(payment, "order_dead".into()));
        };
        if payment.outcome_unknown_since.is_some() || payment.provider_reference.is_some() || age > ASKED_FOR
        {
            if let Some(seen) = self.look_up(payment).await? {
                return Ok(seen);
            }
            if age > NEVER_MADE {
                tracing::error!(payment_id = %payment.id, "the provider does not know of the payment, and never will");
                return Ok(refused(payment, "not_found".into()));
            }
            // Not found is no proof yet. Asking again is safe only while the provider still remembers the id.
            if age > ASKED_FOR {
                let error = format!("payment {} is not found, and too old to ask again", payment.id);
                return Err(ProviderError::Unknown(error).into());
            }
        }
        self.request_authorization(payment).await
    }

    /// Asks the provider, after [`payments::mark_asked`].
    async fn request_authorization(&self, payment: &Payment) -> Result<ProviderPayment, Error> {
        let request = Authorize {
            payment_id: payment.id,
            order_id: payment.order_id,
            amount: payment.amount,
            currency: payment.currency,
            token: payment.payment_token.clone(),
        };
        match self.provider()?.authorize(&request).await {
            // A rejected second try says nothing about the first one, whose outcome is unknown.
            Err(ProviderError::Rejected { code, message }) if payment.outcome_unknown_since.is_none() => {
                tracing::warn!(payment_id = %payment.id, code, message, "the provider rejected the payment");
                Ok(refused(payment, code))
            }
            answer => Ok(answer.map_err(ProviderError::about_earlier)?),
        }
    }

    /// What the provider knows of a payment: by its own id where that is known, else by ours. A look-up that is rejected
    /// says nothing about the payment.
    pub(super) async fn look_up(&self, payment: &Payment) -> Result<Option<ProviderPayment>, Error> {
        let reference = match &payment.provider_reference {
            Some(reference) => Some(reference.clone()),
            // An event may tell it before the answer to the request does.
            None => {
                provider_events::find_reference(&mut *self.store.conn_by_key().await?, payment.id).await?
            }
        };
        let seen = match reference {
            Some(reference) => self.provider()?.get(&reference).await.map(Some),
            None => self.provider()?.find(payment.id).await,
        };
        Ok(seen.map_err(ProviderError::about_earlier)?)
    }

    /// Notes on the payment, as it was when the provider was asked, that its outcome is unknown, if that is what went wrong.
    /// Gives the error back.
    pub(super) async fn note_unknown(&self, payment: &Payment, error: Error) -> Result<Error, Error> {
        if matches!(error, Error::Provider(ProviderError::Unknown(_))) {
            tracing::warn!(payment_id = %payment.id, %error, "the payment stays as it is until it is looked up");
            let mut conn = self.store.conn_by_key().await?;
            payments::mark_outcome_unknown(&mut conn, payment.id, payment.status).await?;
        }
        Ok(error)
    }

    pub(super) async fn find_payment(&self, id: PaymentId) -> Result<Payment, Error> {
        let payment = payments::find(&mut *self.store.conn_by_key().await?, id).await?;
        payment.ok_or_else(|| Error::NotFound { kind: "payment", id: id.to_string() })
    }
}

/// A request that the provider will never carry out, or never gets, as a refused payment.
fn refused(payment: &Payment, code: String) -> ProviderPayment {
    ProviderPayment {
        reference: String::new(),
        status: ProviderStatus::Declined,
        amount: payment.amount,
        amount_captured: 0,
        amount_refunded: 0,
        refunds: Vec::new(),
        decline_code: Some(code),
    }
}
