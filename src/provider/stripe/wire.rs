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
    provider::{ProviderError, ProviderPayment, ProviderRefund, ProviderRefundStatus, ProviderStatus},
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
    /// The newest ten, where we asked for them.
    refunds: Option<Page<Refund>>,
}

impl Charge {
    /// What has been sent back of the captured money. Stripe's count may have what is on its way in it, and what came back
    /// because a refund failed; the refunds themselves say which.
    fn sent_back(&self) -> i64 {
        let counted = self.refunded_of_captured();
        let Some(Page { data, has_more: false }) = &self.refunds else { return counted };
        let sum = |of: &dyn Fn(&Refund) -> bool| -> i64 {
            data.iter().filter(|refund| of(refund)).map(|refund| refund.amount).sum()
        };
        let is_pending = |refund: &Refund| refund.status() == ProviderRefundStatus::Pending;
        let is_sent = |refund: &Refund| refund.status() == ProviderRefundStatus::Succeeded;
        let alive = sum(&|refund| is_pending(refund) || is_sent(refund));
        let sent_by_us = sum(&|refund| is_sent(refund) && refund.refund_id().is_some());
        (counted.min(alive) - sum(&is_pending)).max(sent_by_us)
    }

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
    #[serde(default)]
    pub(super) has_more: bool,
}

/// A refund, as far as we read it.
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    amount: i64,
    status: Option<String>,
    failure_reason: Option<String>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

impl Refund {
    /// Our refund that it was made for.
    fn refund_id(&self) -> Option<RefundId> {
        self.metadata.get(REFUND_ID)?.parse().ok()
    }

    /// Where it stands. What we do not know is not final.
    fn status(&self) -> ProviderRefundStatus {
        match self.status.as_deref() {
            Some("succeeded") => ProviderRefundStatus::Succeeded,
            Some("failed" | "canceled") => {
                let code = self.failure_reason.clone().unwrap_or_else(|| "refund_failed".into());
                ProviderRefundStatus::Failed { code }
            }
            _ => ProviderRefundStatus::Pending,
        }
    }

    /// Our view of it, if it is ours.
    pub(super) fn ours(&self) -> Option<ProviderRefund> {
        self.refund_id().map(|id| ProviderRefund { id, status: self.status() })
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

    /// Whether Stripe has more refunds of it than the answer shows.
    pub(super) fn lacks_refunds(&self) -> bool {
        let refunds = self.charge().and_then(|charge| charge.refunds.as_ref());
        refunds.is_some_and(|page| page.has_more)
    }

    /// Puts a longer list of its refunds in place of the one that it came with.
    pub(super) fn set_refunds(&mut self, refunds: Page<Refund>) {
        if let Some(LatestCharge::Expanded(charge)) = &mut self.latest_charge {
            charge.refunds = Some(refunds);
        }
    }

    fn charge(&self) -> Option<&Charge> {
        match &self.latest_charge {
            Some(LatestCharge::Expanded(charge)) => Some(charge),
            _ => None,
        }
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
            Some(LatestCharge::Expanded(charge)) => charge.sent_back(),
            _ => return Err(unreadable("it has money, and no charge that says what was refunded")),
        };
        let in_order = 0 <= amount_refunded && amount_refunded <= self.amount_received;
        if !in_order || self.amount_received > self.amount {
            return Err(unreadable("amounts contradict each other"));
        }
        let refunds = self.charge().and_then(|charge| charge.refunds.as_ref());
        let refunds = refunds.map(|page| page.data.iter().filter_map(Refund::ours).collect());
        Ok(ProviderPayment {
            status,
            amount: self.amount,
            amount_captured: self.amount_received,
            amount_refunded,
            refunds: refunds.unwrap_or_default(),
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
            refunds: Vec::new(),
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
