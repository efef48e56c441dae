//! What the events of payments and refunds carry. Never the provider's token.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventLine;
use crate::domain::{
    bounds::{Amount, Text, UnitAmount},
    ids::{OrderId, PaymentId, RefundId},
    money::Currency,
    order::CaptureMethod,
    payment::{Payment, PaymentMethod, PaymentStatus},
    refund::{Refund, RefundStatus},
};

/// A payment as it is after what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PaymentData {
    /// Its id.
    pub id: PaymentId,
    /// The order.
    pub order_id: OrderId,
    /// How the customer pays.
    pub method: PaymentMethod,
    /// Who moves the money.
    pub provider: String,
    /// The provider's own id of it, once known.
    pub provider_reference: Option<String>,
    /// Where it stands.
    pub status: PaymentStatus,
    /// ISO 4217 code of the currency of its amounts.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$")]
    pub currency: Currency,
    /// What is to be paid, minor units.
    #[schema(value_type = Amount)]
    pub amount: i64,
    /// What was captured, minor units.
    #[schema(value_type = UnitAmount)]
    pub amount_captured: i64,
    /// What went back, minor units.
    #[schema(value_type = UnitAmount)]
    pub amount_refunded: i64,
    /// What went back or is on its way back, minor units.
    #[schema(value_type = UnitAmount)]
    pub amount_refund_claimed: i64,
    /// What the merchant asked to capture, minor units.
    #[schema(value_type = Option<Amount>)]
    pub capture_requested_amount: Option<i64>,
    /// What the provider is asked to capture, minor units.
    #[schema(value_type = Option<Amount>)]
    pub amount_capturing: Option<i64>,
    /// When the merchant asked to void it.
    pub void_requested_at: Option<DateTime<Utc>>,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub void_reason: Option<String>,
    /// When the money is captured.
    pub capture_method: CaptureMethod,
    /// Why the provider refused.
    pub decline_code: Option<String>,
    /// Since when the provider owes an answer to a request that may have taken effect.
    pub outcome_unknown_since: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<&Payment> for PaymentData {
    fn from(payment: &Payment) -> Self {
        Self {
            id: payment.id,
            order_id: payment.order_id,
            method: payment.method,
            provider: payment.provider.clone(),
            provider_reference: payment.provider_reference.clone(),
            status: payment.status,
            currency: payment.currency,
            amount: payment.amount,
            amount_captured: payment.amount_captured,
            amount_refunded: payment.amount_refunded,
            amount_refund_claimed: payment.amount_refund_claimed,
            capture_requested_amount: payment.capture_requested_amount,
            amount_capturing: payment.amount_capturing,
            void_requested_at: payment.void_requested_at,
            void_reason: payment.void_reason.clone(),
            capture_method: payment.capture_method,
            decline_code: payment.decline_code.clone(),
            outcome_unknown_since: payment.outcome_unknown_since,
            created_at: payment.created_at,
            updated_at: payment.updated_at,
        }
    }
}

/// A refund as it is after what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefundData {
    /// Its id.
    pub id: RefundId,
    /// The payment.
    pub payment_id: PaymentId,
    /// The order of that payment.
    pub order_id: OrderId,
    /// How much, minor units.
    #[schema(value_type = Amount)]
    pub amount: i64,
    /// Where it stands.
    pub status: RefundStatus,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// Why the provider refused.
    pub failure_code: Option<String>,
    /// Since when the provider owes an answer to a request that may have taken effect.
    pub outcome_unknown_since: Option<DateTime<Utc>>,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Which units it is for, where it names them.
    pub lines: Vec<EventLine>,
}

impl From<&Refund> for RefundData {
    fn from(refund: &Refund) -> Self {
        Self {
            id: refund.id,
            payment_id: refund.payment_id,
            order_id: refund.order_id,
            amount: refund.amount,
            status: refund.status,
            reason: refund.reason.clone(),
            failure_code: refund.failure_code.clone(),
            outcome_unknown_since: refund.outcome_unknown_since,
            created_at: refund.created_at,
            updated_at: refund.updated_at,
            lines: EventLine::of(&refund.lines),
        }
    }
}
