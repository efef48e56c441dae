//! Payment providers: who moves the money.
//!
//! Every call is idempotent under the id that it is given, and every answer is the provider's whole current view of the
//! payment, so that amounts are set from it, never added up. A time-out is unknown, never a refusal.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::domain::{
    ids::{OrderId, PaymentId, RefundId},
    money::Currency,
};

mod breaker;
mod metrics;
mod stripe;

pub use breaker::{BreakerOptions, CircuitBreaker};
pub use stripe::{StripeOptions, StripeProvider, StripeWebhooks, install_crypto_provider};

/// A request to set money aside.
#[derive(Debug, Clone)]
pub struct Authorize {
    /// The payment; also the idempotency key.
    pub payment_id: PaymentId,
    /// The order, for the provider's records.
    pub order_id: OrderId,
    /// How much, in minor units.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
    /// The provider's token for the customer's card or wallet.
    pub token: String,
}

/// Where a payment stands at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderStatus {
    /// The provider is still working on it.
    Processing,
    /// The customer has to act.
    RequiresAction,
    /// The money is set aside.
    Authorized,
    /// The money is taken.
    Captured,
    /// It will never be taken.
    Voided,
    /// Refused.
    Declined,
}

/// The provider's view of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderPayment {
    /// The provider's own id of it.
    pub reference: String,
    /// Where it stands.
    pub status: ProviderStatus,
    /// Minor units authorized.
    pub amount: i64,
    /// Minor units captured so far.
    pub amount_captured: i64,
    /// Minor units refunded so far; what is on its way, or came back because a refund failed, is not counted.
    pub amount_refunded: i64,
    /// Our refunds that the provider knows of, the newest hundred at least.
    pub refunds: Vec<ProviderRefund>,
    /// Why it was refused, in the provider's words: e.g. `card_declined`, `insufficient_funds`.
    pub decline_code: Option<String>,
}

impl ProviderPayment {
    /// Where this refund stands, if the provider knows of it yet. `None` is no proof that it never will.
    pub fn refund(&self, id: RefundId) -> Option<&ProviderRefundStatus> {
        self.refunds.iter().find(|refund| refund.id == id).map(|refund| &refund.status)
    }
}

/// A refund of ours, as the provider sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRefund {
    /// Our id of it.
    pub id: RefundId,
    /// Where it stands.
    pub status: ProviderRefundStatus,
}

/// Where a refund stands at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderRefundStatus {
    /// Taken on, and not carried out yet.
    Pending,
    /// The money was sent. The customer's bank may give it back even days later: then it has failed.
    Succeeded,
    /// The customer does not get it, and that is final.
    Failed {
        /// Why, in the provider's words.
        code: String,
    },
}

/// Why the provider did not answer with a payment.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// No answer, or one that leaves open whether it took effect (time-out, connection lost, 5xx, key in use). Look the
    /// payment up, or ask again under the same id.
    #[error("outcome at the payment provider is unknown: {0}")]
    Unknown(String),
    /// The request did not reach the provider, or was turned away before it was looked at (cannot connect, 429).
    #[error("payment provider is unavailable: {0}")]
    Unavailable(String),
    /// The provider says that the request is wrong (a 4xx that is not a refusal of the card): nothing took effect, and
    /// nothing will if it is sent again.
    #[error("payment provider rejected the request: {code}: {message}")]
    Rejected {
        /// The provider's error code.
        code: String,
        /// The provider's message.
        message: String,
    },
}

impl ProviderError {
    /// What it says of an earlier request: that one is refused now says nothing of it.
    #[must_use]
    pub fn about_earlier(self) -> Self {
        match self {
            Self::Rejected { code, message } => Self::Unknown(format!("{code}: {message}")),
            error => error,
        }
    }
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// It does not show that the provider sent it, and that lately.
    #[error("the signature does not count: {0}")]
    Signature(&'static str),
    /// The provider sent it, and it is not an event.
    #[error("the event cannot be read: {0}")]
    Unreadable(String),
}

/// A payment provider.
#[async_trait]
pub trait PaymentProvider: Send + Sync + fmt::Debug {
    /// Sets the money aside, not more than once for a payment id. A refused card is an answer, not an error.
    async fn authorize(&self, request: &Authorize) -> Result<ProviderPayment, ProviderError>;

    /// The payment that was made under this id, if the provider knows of one yet. `None` is no proof that there will be
    /// none.
    async fn find(&self, payment_id: PaymentId) -> Result<Option<ProviderPayment>, ProviderError>;

    /// Where the payment stands now.
    async fn get(&self, reference: &str) -> Result<ProviderPayment, ProviderError>;

    /// Takes `amount` of the authorized money, once for a payment id.
    async fn capture(
        &self,
        payment_id: PaymentId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError>;

    /// Gives the authorized money free again.
    async fn void(&self, payment_id: PaymentId, reference: &str) -> Result<ProviderPayment, ProviderError>;

    /// Sends `amount` of the captured money back, once for a refund id. The answer knows of that refund; that it was made
    /// does not mean that it has succeeded.
    async fn refund(
        &self,
        refund_id: RefundId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError>;

    /// Whether it answers, within `timeout`, and takes our key.
    async fn ping(&self, timeout: Duration) -> Result<(), ProviderError>;
}
