//! Events of a payment provider: hints that a payment has changed there, never facts about money.

use chrono::{DateTime, Utc};

use super::ids::PaymentId;

/// What a provider's webhook says, as far as anybody may act on it: which payment to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderEvent {
    /// The provider's id of it, the same each time it is sent.
    pub id: String,
    /// What happened, in the provider's words.
    pub event_type: String,
    /// Our payment, where the provider says which.
    pub payment_id: Option<PaymentId>,
    /// The provider's own id of the payment.
    pub provider_reference: String,
    /// When it happened, as the provider says.
    pub created_at: DateTime<Utc>,
}
