//! Carrying a refund out: asking the provider to send the money back, not more than once.
//!
//! The call is made outside any transaction, under the refund's own id. An answer that does not come leaves the refund
//! `pending`, with the time since when its outcome is unknown; the next try looks it up before it asks again. A refusal gives
//! the claimed money free for another refund. For how long it is asked for, and when it was never made: as of a payment.

use super::{
    App, Error, Handling,
    authorize_payment::{ASKED_FOR, NEVER_MADE, Progress},
    capture_payment::reference,
    order_change::OrderChange,
    record_payment::record_refunded,
    retry::retry,
};
use crate::{
    domain::{
        event::EventType,
        ids::RefundId,
        line_quantity::sum,
        payment::Payment,
        refund::{Refund, RefundStatus},
    },
    provider::{ProviderError, ProviderPayment},
    store::{
        inbox,
        orders::{self, LineCounter},
        payments, refunds,
    },
};

/// What the provider said.
enum Outcome {
    /// The money went back; this is the payment now.
    Sent(ProviderPayment),
    /// It will not.
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
        let refund = refunds::find(&mut *self.store.conn().await?, id).await?;
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
                    refunds::mark_outcome_unknown(&mut *self.store.conn().await?, id).await?;
                }
                return Err(error);
            }
        };
        retry("record_refund", || self.record_refund(event, &refund, &outcome)).await?;
        Ok(Progress::Done)
    }

    async fn ask_for_refund(&self, refund: &Refund, payment: &Payment) -> Result<Outcome, Error> {
        let (provider, reference) = (self.provider()?, reference(payment)?);
        let age = payments::now(&mut *self.store.conn().await?).await? - refund.created_at;
        let may_be_made = refund.outcome_unknown_since.is_some();
        if may_be_made || age > ASKED_FOR {
            if let Some(seen) = provider.find_refund(refund.id, reference).await? {
                return Ok(Outcome::Sent(seen));
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
            seen => Ok(Outcome::Sent(seen?)),
        }
    }

    async fn record_refund(
        &self,
        event: Option<&Handling>,
        refund: &Refund,
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
        let now = refunds::find(&mut tx, refund.id).await?;
        let is_pending = now.is_some_and(|refund| refund.status == RefundStatus::Pending);
        match outcome {
            Outcome::Sent(seen) => {
                if is_pending {
                    refunds::mark(&mut tx, refund.id, RefundStatus::Succeeded, None).await?;
                }
                record_refunded(&mut tx, &mut change, &mut payment, seen).await?;
            }
            Outcome::Refused { code } if is_pending => {
                refunds::mark(&mut tx, refund.id, RefundStatus::Failed, Some(code)).await?;
                payments::release_claim(&mut tx, payment.id, refund.amount).await?;
                let lines = sum(refund.lines.iter().map(|line| (line.line_id, -line.quantity)));
                orders::count_lines(&mut tx, refund.order_id, LineCounter::Refunded, &lines).await?;
                change.emit(EventType::RefundFailed, &refunds::find(&mut tx, refund.id).await?)?;
            }
            Outcome::Refused { .. } => {}
        }
        change.save(&mut tx).await?;
        Ok(tx.commit().await?)
    }
}
