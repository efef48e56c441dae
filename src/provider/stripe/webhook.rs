//! Stripe's webhooks: is it Stripe that speaks, and about which payment?
//!
//! Pure: no I/O, and the time is given. Holds the secrets of the endpoint and never shows them. Reads from a body what a
//! look-up needs and nothing else, so that nothing about a person gets any further.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use super::{StripeProvider, wire::PAYMENT_ID};
use crate::{domain::provider_event::ProviderEvent, provider::WebhookError};

/// How far a signature's time may be from now, either way: what was recorded longer ago cannot be replayed.
const TOLERANCE: Duration = Duration::from_mins(5);

/// More signatures in one header than any rotation makes are not compared.
const SIGNATURES_MAX: usize = 16;

/// The endpoint that Stripe sends its events to.
#[derive(Clone)]
pub struct StripeWebhooks {
    secrets: Vec<String>,
}

impl fmt::Debug for StripeWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeWebhooks").field("secrets", &self.secrets.len()).finish()
    }
}

impl StripeWebhooks {
    /// Each event must be signed with one of these secrets: two, while one is being replaced. With none, nothing is taken.
    pub const fn new(secrets: Vec<String>) -> Self {
        Self { secrets }
    }

    /// Whose events these are: as in the `payment` table.
    pub const fn provider(&self) -> &'static str {
        StripeProvider::NAME
    }

    /// The event in a signed body; `None` for one that is about no payment.
    pub fn open(
        &self,
        signature: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Option<ProviderEvent>, WebhookError> {
        self.verify(signature, body, now).map_err(WebhookError::Signature)?;
        read(body).map_err(WebhookError::Unreadable)
    }

    /// The header is `t=SECONDS,v1=HEX[,v1=HEX…]`; what is signed is `SECONDS.BODY`.
    fn verify(&self, header: &str, body: &[u8], now: SystemTime) -> Result<(), &'static str> {
        let fields = || header.split(',').filter_map(|field| field.trim().split_once('='));
        let mut times = fields().filter(|(name, _)| *name == "t").map(|(_, value)| value);
        let (Some(time), None) = (times.next(), times.next()) else {
            return Err("it must have one t=SECONDS");
        };
        let signed: Vec<Vec<u8>> = fields()
            .filter(|(name, _)| *name == "v1")
            .filter_map(|(_, value)| from_hex(value))
            .take(SIGNATURES_MAX)
            .collect();
        let matches = self.secrets.iter().any(|secret| {
            // Every comparison takes the same time, wherever the first wrong byte is.
            signed.iter().any(|signature| {
                mac(secret, time, body).is_some_and(|mac| mac.verify_slice(signature).is_ok())
            })
        });
        if !matches {
            return Err("no v1 signature in it is of this body and of a secret of this endpoint");
        }
        // Only now: a time that nobody signed says nothing.
        let seconds = time.parse().map_err(|_| "t must be seconds since 1970")?;
        let signed_at = UNIX_EPOCH + Duration::from_secs(seconds).min(Duration::from_secs(u32::MAX.into()));
        let off = now.duration_since(signed_at).unwrap_or_else(|early| early.duration());
        if off > TOLERANCE { Err("it was signed more than five minutes from now") } else { Ok(()) }
    }
}

/// Never `None`: HMAC takes keys of any length.
fn mac(secret: &str, time: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    Some(mac.chain_update(time).chain_update(".").chain_update(body))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    (text.len() == 64).then(|| text.as_bytes().chunks_exact(2).map(pair).collect())?
}

#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    created: i64,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    object: Object,
}

/// A payment intent, or something that belongs to one.
#[derive(Deserialize)]
struct Object {
    #[serde(rename = "object")]
    kind: String,
    id: Option<String>,
    payment_intent: Option<String>,
    metadata: Option<HashMap<String, serde_json::Value>>,
}

/// What the event says. Anything but a payment intent, a charge or a refund is about something else.
fn read(body: &[u8]) -> Result<Option<ProviderEvent>, String> {
    let json = &mut serde_json::Deserializer::from_slice(body);
    let event: Event = serde_path_to_error::deserialize(json).map_err(|error| error.to_string())?;
    let object = event.data.object;
    let reference = match object.kind.as_str() {
        "payment_intent" => object.id,
        "charge" | "refund" => object.payment_intent,
        _ => None,
    };
    let Some(provider_reference) = reference else { return Ok(None) };
    if [&event.id, &event.kind, &provider_reference].into_iter().any(|text| text.contains('\0')) {
        return Err("no text of it may hold NUL".into());
    }
    let metadata = object.metadata.unwrap_or_default();
    let payment_id = metadata.get(PAYMENT_ID).and_then(serde_json::Value::as_str);
    Ok(Some(ProviderEvent {
        payment_id: payment_id.and_then(|id| id.parse().ok()),
        provider_reference,
        created_at: u32::try_from(event.created)
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds.into(), 0))
            .ok_or("created is not a time")?,
        id: event.id,
        event_type: event.kind,
    }))
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
