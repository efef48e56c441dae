//! What Stripe's answers look like, and what they mean to us.
//!
//! Pure: no I/O. An answer that cannot be read, or that contradicts itself, leaves the outcome unknown; it is never
//! guessed. Amounts are Stripe's current totals.

use std::collections::HashMap;

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    domain::{
        ids::{PaymentId, RefundId},
        money::Currency,
    },
    provider::{ProviderError, ProviderPayment, ProviderStatus},
};

/// The metadata field of a payment intent that holds our payment id, and by which it is found again.
pub(super) const PAYMENT_ID: &str = "holdfast_payment_id";

/// The metadata field of a refund that holds our refund id, as it is read and as it is sent.
const REFUND_ID: &str = "holdfast_refund_id";
pub(super) const REFUND_ID_FIELD: &str = "metadata[holdfast_refund_id]";

/// Currencies whose smallest unit at Stripe is not that of ISO 4217: an amount passed on as it stands would be off by a
/// factor of a hundred.
const OTHER_MINOR_UNIT: [&str; 3] = ["ISK", "MGA", "UGX"];

/// Whether Stripe counts this currency in the minor units that we do.
pub(super) fn same_minor_unit(currency: Currency) -> bool {
    !OTHER_MINOR_UNIT.contains(&currency.code())
}

/// A payment intent, as far as we read it.
#[derive(Debug, Deserialize)]
pub(super) struct PaymentIntent {
    id: String,
    status: String,
    amount: i64,
    #[serde(default)]
    amount_received: i64,
    latest_charge: Option<LatestCharge>,
    last_payment_error: Option<ApiError>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

/// An object where we asked for it to be expanded, an id where not.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum LatestCharge {
    Expanded(Charge),
    #[expect(dead_code, reason = "an id says nothing about amounts")]
    Id(String),
}

#[derive(Debug, Deserialize)]
struct Charge {
    amount: i64,
    amount_captured: i64,
    amount_refunded: i64,
}

impl Charge {
    /// What went back of the captured money. Stripe also counts what a partial capture let go of as refunded: a charge
    /// of 100 captured for 70 starts with 30 refunded.
    fn refunded_of_captured(&self) -> i64 {
        (self.amount_refunded - (self.amount - self.amount_captured)).max(0)
    }
}

/// The inner object of an error answer; also `last_payment_error` of a payment intent.
#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) payment_intent: Option<Box<PaymentIntent>>,
}

/// The outer object of an error answer.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ApiError,
}

/// A page of a list or of a search.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
}

/// A refund, as far as we read it.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    status: Option<String>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

impl Refund {
    /// Whether it was made for this refund.
    pub(super) fn belongs_to(&self, refund_id: RefundId) -> bool {
        self.metadata.get(REFUND_ID).is_some_and(|id| *id == refund_id.to_string())
    }

    /// Fails if Stripe will not send the money.
    pub(super) fn accepted(self) -> Result<(), ProviderError> {
        if !matches!(self.status.as_deref(), Some("failed" | "canceled")) {
            return Ok(());
        }
        Err(ProviderError::Rejected {
            code: "refund_failed".into(),
            message: self.failure_reason.unwrap_or_else(|| "no reason given".into()),
        })
    }
}

impl PaymentIntent {
    /// Stripe's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it was made for this payment.
    pub(super) fn belongs_to(&self, payment_id: PaymentId) -> bool {
        self.metadata.get(PAYMENT_ID).is_some_and(|id| *id == payment_id.to_string())
    }

    /// Where it stands. `None` for a status that we do not know.
    pub(super) fn status(&self) -> Option<ProviderStatus> {
        Some(match self.status.as_str() {
            "requires_capture" => ProviderStatus::Authorized,
            "succeeded" => ProviderStatus::Captured,
            "canceled" => ProviderStatus::Voided,
            "requires_action" => ProviderStatus::RequiresAction,
            "requires_payment_method" if self.last_payment_error.is_some() => ProviderStatus::Declined,
            // Without an error it was made but not confirmed yet: creating and confirming are two steps inside Stripe.
            "processing" | "requires_payment_method" | "requires_confirmation" => ProviderStatus::Processing,
            _ => return None,
        })
    }

    /// Our view of it.
    pub(super) fn into_payment(self) -> Result<ProviderPayment, ProviderError> {
        let unreadable = |what: &str| unreadable(&format!("payment intent {}: {what}", self.id));
        let status = self.status().ok_or_else(|| unreadable(&format!("unknown status {:?}", self.status)))?;
        let amount_refunded = match &self.latest_charge {
            // Nothing captured: what the charge calls refunded is money let go of, never money sent back.
            _ if self.amount_received == 0 => 0,
            Some(LatestCharge::Expanded(charge)) => charge.refunded_of_captured(),
            _ => return Err(unreadable("it has money, and no charge that says what was refunded")),
        };
        let in_order = 0 <= amount_refunded && amount_refunded <= self.amount_received;
        if !in_order || self.amount_received > self.amount {
            return Err(unreadable("amounts contradict each other"));
        }
        Ok(ProviderPayment {
            status,
            amount: self.amount,
            amount_captured: self.amount_received,
            amount_refunded,
            decline_code: match status {
                ProviderStatus::Declined => self.last_payment_error.and_then(|error| error.decline_reason()),
                _ => None,
            },
            reference: self.id,
        })
    }
}

impl ApiError {
    /// The refused payment that this card error is about. `None` if it names no payment.
    pub(super) fn declined(&mut self) -> Option<ProviderPayment> {
        let intent = self.payment_intent.take()?;
        Some(ProviderPayment {
            reference: intent.id,
            status: ProviderStatus::Declined,
            amount: intent.amount,
            amount_captured: 0,
            amount_refunded: 0,
            decline_code: self.decline_reason(),
        })
    }

    /// The issuer's reason if there is one, else Stripe's.
    pub(super) fn decline_reason(&self) -> Option<String> {
        self.decline_code.clone().or_else(|| self.code.clone())
    }

    /// Takes every mention of the payment token out of the message: Stripe quotes it.
    pub(super) fn hide(&mut self, token: &str) {
        if let Some(message) = self.message.as_mut().filter(|_| !token.is_empty()) {
            *message = message.replace(token, "<token>");
        }
    }
}

/// Reads an answer that says that the request took effect.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ProviderError> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(json).map_err(|error| unreadable(&error.to_string()))
}

fn unreadable(what: &str) -> ProviderError {
    ProviderError::Unknown(format!("cannot read the provider's answer: {what}"))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
