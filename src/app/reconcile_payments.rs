//! Reconciling payments with the provider: whose time has come is looked up, and what the provider says is recorded.
//!
//! This is the guarantee behind the events: it finds payments whose event was lost, or whose outcome stayed unknown, and
//! those that the provider has told of. A payment is looked up a minute after its last change, then after waits that
//! double to a quarter of an hour, for as long as something is owed; so once the provider answers, it is settled within
//! 19 minutes ([`LONGEST_WAIT_SECONDS`] and its jitter), and in any case two days after it was asked for: see
//! `authorize_payment`.
//!
//! So are refunds that have no outcome, and captures and voids that were asked for.
//!
//! The claim is one statement of its own; the provider is asked outside any transaction. Look-ups change nothing twice,
//! so a claim that ends late, or never, costs time only.
//!
//! [`LONGEST_WAIT_SECONDS`]: crate::store::payment_lookups::LONGEST_WAIT_SECONDS

use futures_util::future::join_all;

use super::{App, Error, authorize_payment::Progress, record_payment::Then};
use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        payment::PaymentStatus,
        refund::RefundStatus,
    },
    provider::{ProviderPayment, ProviderStatus},
    store::{
        self,
        payment_lookups::{self, DuePayment},
        payments, provider_events, refunds,
    },
};

impl App {
    /// Looks up payments whose time has come, `limit` at most, all at once. Gives how many. A look-up that fails is logged,
    /// and comes again later.
    pub async fn reconcile_payments(&self, limit: u16) -> Result<usize, Error> {
        let due = payment_lookups::claim(&mut *self.store.conn_by_key().await?, limit.into()).await?;
        join_all(due.iter().map(async |due| {
            if let Err(error) = self.reconcile_payment(due).await {
                let (payment_id, again_at) = (due.id, due.next_lookup_at);
                tracing::warn!(%payment_id, %again_at, %error, "a payment was not settled by looking it up");
            }
        }))
        .await;
        Ok(due.len())
    }

    async fn reconcile_payment(&self, due: &DuePayment) -> Result<(), Error> {
        let payment = self.find_payment(due.id).await?;
        let seen = self.look_up(&payment).await?;
        let mut status = payment.status;
        if let Some(seen) = &seen {
            status = self.record_payment(None, &payment, seen, Then::Continue).await?;
            let has_money = matches!(seen.status, ProviderStatus::Authorized | ProviderStatus::Captured);
            if has_money && !status.is_live() {
                self.let_go_of_late_money(due.id, seen).await?;
            }
            payments::clear_outcome_unknown(&mut *self.store.conn_by_key().await?, due.id, due.began).await?;
        }
        provider_events::mark_processed(&mut *self.store.conn_by_key().await?, due.id, due.began).await?;
        if due.is_overdue {
            self.go_on(due.id, payment.order_id, status, seen.is_some()).await?;
        }
        Ok(payment_lookups::mark_settled(&mut *self.store.conn_by_key().await?, due).await?)
    }

    /// Lets go of money that the provider has set aside for a payment that is over here: e.g. the customer tried again on a
    /// page that was still open. Money that was even captured is an operator's business: the payment stays due, and I17
    /// tells of it.
    async fn let_go_of_late_money(&self, id: PaymentId, seen: &ProviderPayment) -> Result<(), Error> {
        let now = match seen.status {
            ProviderStatus::Authorized => self.provider()?.void(id, &seen.reference).await?.status,
            status => status,
        };
        let payment = self.find_payment(id).await?;
        if now != ProviderStatus::Voided {
            let message = format!("payment {id} is {}, the provider says {now:?}", payment.status);
            tracing::error!(payment_id = %id, amount = seen.amount_captured, message, "give the money back by hand");
            return Err(store::Error::Inconsistent(message).into());
        }
        tracing::warn!(payment_id = %id, status = %payment.status, "money that came late was given free");
        let note = "the provider set money aside all the same, and gave it free";
        Ok(payments::insert_event(&mut *self.store.conn_by_key().await?, &payment, note).await?)
    }

    /// Does what an event was to lead to, and did not.
    async fn go_on(
        &self,
        id: PaymentId,
        order_id: OrderId,
        status: PaymentStatus,
        is_known: bool,
    ) -> Result<(), Error> {
        match status {
            PaymentStatus::Processing if !is_known => self.authorize(None, id).await?,
            PaymentStatus::RequiresAction => {
                self.void(None, id).await?;
                self.release(None, order_id).await?
            }
            PaymentStatus::Authorized => {
                self.void(None, id).await?;
                self.capture(None, id).await?
            }
            PaymentStatus::Captured | PaymentStatus::PartiallyRefunded | PaymentStatus::Refunded => {
                self.settle_refunds(id, order_id).await?
            }
            _ => Progress::Done,
        };
        Ok(())
    }

    /// Carries out the refunds of a payment that are pending, one that fails keeping none of the others waiting, and
    /// writes down what a dead order has yet to give back.
    async fn settle_refunds(&self, id: PaymentId, order_id: OrderId) -> Result<Progress, Error> {
        let mut pending = refunds::list_of_payment(&mut *self.store.conn_by_key().await?, id).await?;
        pending.retain(|refund| refund.status == RefundStatus::Pending);
        let sent = join_all(pending.iter().map(|refund| self.send_refund(None, refund.id))).await;
        sent.into_iter().collect::<Result<Vec<_>, _>>()?;
        let refunds = refunds::list_of_payment(&mut *self.store.conn_by_key().await?, id).await?;
        // What the provider has refused once is not asked for again by itself; I9 tells of it.
        if refunds.iter().any(|refund| refund.status == RefundStatus::Failed) {
            return Ok(Progress::Done);
        }
        self.release(None, order_id).await
    }
}
