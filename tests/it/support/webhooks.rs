//! Webhooks as Stripe sends them: signed bodies.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    api::{Answer, Api, send},
    setup::WEBHOOK_SECRETS,
};

/// Where they go.
pub(crate) const PATH: &str = "/v1/provider-webhooks/stripe";

/// The header of a body that was signed so many seconds from now.
pub(crate) fn signature(secret: &str, seconds_from_now: i64, body: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let time = now + seconds_from_now;
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let mac = mac.chain_update(format!("{time}.{body}")).finalize().into_bytes();
    let hex = mac.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    format!("t={time},v1={hex}")
}

/// An event about a payment intent.
pub(crate) fn event(id: &str, kind: &str, reference: &str, payment_id: &str) -> String {
    event_of(
        id,
        kind,
        &json!({ "id": reference, "object": "payment_intent", "amount": 1, "receipt_email": "jo@example.org",
            "metadata": { "holdfast_payment_id": payment_id } }),
    )
}

/// An event about anything.
pub(crate) fn event_of(id: &str, kind: &str, object: &Value) -> String {
    json!({ "id": id, "object": "event", "type": kind, "created": 1_900_000_000, "data": { "object": object } })
        .to_string()
}

impl Api {
    /// Sends a webhook with this header.
    pub(crate) async fn webhook_signed(&self, signature: &str, body: &str) -> Answer {
        let request = self.bare(Method::POST, PATH).header("Stripe-Signature", signature);
        send(request.body(body.to_owned())).await
    }

    /// Sends a webhook as the provider does.
    pub(crate) async fn webhook(&self, body: &str) -> Answer {
        self.webhook_signed(&signature(WEBHOOK_SECRETS[0], 0, body), body).await
    }
}
