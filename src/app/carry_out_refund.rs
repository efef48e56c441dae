//! Carrying a refund out: asking the provider to send the money back, not more than once.
//!
//! The call is made outside any transaction, under the refund's own id. An answer that does not come leaves the refund
//! `pending`, with the time since when its outcome is unknown; the next try looks it up before it asks again. One that the
//! provider has taken on stays `pending` too, until a look-up finds that the money was sent. A refusal gives the claimed money
//! free for another refund. For how long it is asked for, and when it was never made: as of a payment.

use super::{
    App, Error, Handling,
    authorize_payment::{ASKED_FOR, NEVER_MADE, Progress},
    capture_payment::reference,
    order_change::OrderChange,
    record_refunds::{record_refunds, refuse_refund},
    retry::retry,
};
use crate::{
    domain::{
        ids::RefundId,
        payment::Payment,
        refund::{Refund, RefundStatus},
    },
    provider::{ProviderError, ProviderPayment},
    store::{inbox, refunds},
};

/// What the provider said.
enum Outcome {
    /// It knows of the refund; this is the payment now.
    Made(ProviderPayment),
    /// It will not make it.
    Refused { code: String },
}

impl App {
    /// Carries a `refund.created` event out.
    pub async fn carry_out_refund(&self, handling: &Handling, id: RefundId) -> Result<Progress, Error> {
        self.send_refund(Some(handling), id).await
    }

    /// The same, whether an event led here or not.
    pub(super) async fn send_refund(
        &self,
        event: Option<&Handling>,
        id: RefundId,
    ) -> Result<Progress, Error> {
        let refund = refunds::find(&mut *self.store.conn_by_key().await?, id).await?;
        let refund = refund.ok_or_else(|| Error::NotFound { kind: "refund", id: id.to_string() })?;
        if refund.status != RefundStatus::Pending {
            self.mark_handled(event).await?;
            return Ok(Progress::Done);
        }
        let payment = self.find_payment(refund.payment_id).await?;
        let outcome = match self.ask_for_refund(&refund, &payment).await {
            Ok(outcome) => outcome,
            Err(Error::Provider(ProviderError::Rejected { code, message })) => {
                tracing::warn!(refund_id = %id, code, message, "the provider rejected the refund");
                Outcome::Refused { code }
            }
            Err(error) => {
                if matches!(error, Error::Provider(ProviderError::Unknown(_))) {
                    tracing::warn!(refund_id = %id, %error, "the refund stays pending until it is looked up");
                    refunds::mark_outcome_unknown(&mut *self.store.conn_by_key().await?, id).await?;
                }
                return Err(error);
            }
        };
        retry("record_refund", || self.record_refund(event, &refund, &payment, &outcome)).await?;
        Ok(Progress::Done)
    }

    async fn ask_for_refund(&self, refund: &Refund, payment: &Payment) -> Result<Outcome, Error> {
        let (provider, reference) = (self.provider()?, reference(payment)?);
        // Before the provider is asked: what nobody has asked for cannot have been made, however old it is.
        let age = refunds::mark_asked(&mut *self.store.conn_by_key().await?, refund.id).await?;
        let may_be_made = refund.outcome_unknown_since.or(refund.accepted_at).is_some();
        if may_be_made || age > ASKED_FOR {
            // That the look-up is refused does not say that the refund was.
            let seen = provider.get(reference).await.map_err(ProviderError::about_earlier)?;
            if seen.refund(refund.id).is_some() {
                return Ok(Outcome::Made(seen));
            }
            if age > NEVER_MADE {
                tracing::error!(refund_id = %refund.id, "the provider does not know of the refund, and never will");
                return Ok(Outcome::Refused { code: "not_found".into() });
            }
            // Not found is no proof yet. Asking again is safe only while the provider still remembers the id.
            if age > ASKED_FOR {
                let error = format!("refund {} is not found, and too old to ask again", refund.id);
                return Err(ProviderError::Unknown(error).into());
            }
        }
        match provider.refund(refund.id, reference, refund.amount).await {
            Err(error) if may_be_made => Err(error.about_earlier().into()),
            seen => Ok(Outcome::Made(seen?)),
        }
    }

    async fn record_refund(
        &self,
        event: Option<&Handling>,
        refund: &Refund,
        read: &Payment,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin("record_refund").await?;
        if let Some(event) = event
            && !inbox::insert(&mut tx, event.consumer, event.event_id).await?
        {
            return Ok(());
        }
        let mut change = OrderChange::lock(&mut tx, refund.order_id, &Handling::cause_of(event)).await?;
        let mut payment = change.lock_payment(&mut tx, refund.payment_id).await?;
        match outcome {
            Outcome::Made(seen) => {
                let is_newest = payment.updated_at == read.updated_at;
                record_refunds(&mut tx, &mut change, &mut payment, seen, is_newest).await?;
            }
            Outcome::Refused { code } => {
                refuse_refund(&mut tx, &mut change, &mut payment, refund.id, code).await?;
            }
        }
        change.save(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
