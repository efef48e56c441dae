//! Webhooks: each change of an intent is told to one address, signed as Stripe signs.
//!
//! One event for each change, under one id however often it is sent. What is not taken with a 2xx is sent again a few
//! times; then it is lost, as a real provider's is after days: whoever relies on webhooks alone is to notice.

use std::{
    fmt::{self, Write as _},
    io,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::{
    Sandbox,
    intents::{Intent, Refund, RefundStatus, Status},
    tokens::Behaviour,
    wire,
};

/// How often an event is sent that is not taken.
const ATTEMPTS: u32 = 5;

/// The wait before the second time; it doubles.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How long the receiver has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where webhooks go.
#[derive(Clone)]
pub struct WebhookOptions {
    /// The whole address.
    pub url: String,
    /// What they are signed with.
    pub secret: String,
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Sends webhooks.
#[derive(Debug)]
pub(super) struct Webhooks {
    http: reqwest::Client,
    options: WebhookOptions,
}

impl Webhooks {
    /// Fails where the process has not chosen a crypto provider for TLS.
    pub(super) fn new(options: WebhookOptions) -> io::Result<Self> {
        // Only to a receiver that is configured: no detour by a proxy of the environment.
        let http = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build();
        Ok(Self { http: http.map_err(io::Error::other)?, options })
    }

    /// Whether the receiver took it.
    async fn deliver(&self, body: &str) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let signature = signature(&self.options.secret, now, body).ok_or("the secret cannot be used")?;
        let request = self.http.post(&self.options.url).header("Stripe-Signature", signature);
        let request = request.header("Content-Type", "application/json").body(body.to_owned());
        let answer = request.send().await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
    }

    async fn deliver_until_taken(&self, body: &str) {
        let mut wait = RETRY_AFTER;
        for attempt in 1..=ATTEMPTS {
            match self.deliver(body).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(attempt, error, "a webhook was not taken"),
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

/// `t=…,v1=…` over `t.body`.
fn signature(secret: &str, time: u64, body: &str) -> Option<String> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
    let mac = mac.chain_update(time.to_string()).chain_update(".").chain_update(body).finalize();
    let mut header = format!("t={time},v1=");
    for byte in mac.into_bytes() {
        // Writing to a string cannot fail.
        let _ = write!(header, "{byte:02x}");
    }
    Some(header)
}

/// Tells of an intent that has just changed, if anybody wants to know. The task ends when the receiver has taken it, or is
/// given up.
pub(super) fn send(sandbox: &Arc<Sandbox>, intent: &Intent) -> Option<JoinHandle<()>> {
    let (kind, object) = change(intent);
    send_event(sandbox, intent, kind, &object)
}

/// Tells of a refund that was decided.
pub(super) fn send_refund(
    sandbox: &Arc<Sandbox>,
    intent: &Intent,
    refund: &Refund,
) -> Option<JoinHandle<()>> {
    let kind = if refund.status == RefundStatus::Failed { "refund.failed" } else { "refund.updated" };
    send_event(sandbox, intent, kind, &wire::refund(intent, refund))
}

fn send_event(sandbox: &Arc<Sandbox>, intent: &Intent, kind: &str, object: &Value) -> Option<JoinHandle<()>> {
    sandbox.webhooks.as_ref()?;
    let body = event(kind, object).to_string();
    let copies = if intent.behaviour == Behaviour::WebhookThreeTimes { 3 } else { 1 };
    let sandbox = Arc::clone(sandbox);
    Some(tokio::spawn(async move {
        let Some(webhooks) = &sandbox.webhooks else { return };
        let delivered = join_all((0..copies).map(|_| webhooks.deliver_until_taken(&body)));
        sandbox.shutdown.run_until_cancelled(delivered).await;
    }))
}

/// What has changed of an intent, and what is shown of it.
fn change(intent: &Intent) -> (&'static str, Value) {
    if !intent.refunds.is_empty() {
        return ("charge.refunded", wire::latest_charge(intent));
    }
    let kind = match intent.status {
        Status::RequiresPaymentMethod => "payment_intent.payment_failed",
        Status::RequiresAction => "payment_intent.requires_action",
        Status::Processing => "payment_intent.processing",
        Status::RequiresCapture => "payment_intent.amount_capturable_updated",
        Status::Succeeded => "payment_intent.succeeded",
        Status::Canceled => "payment_intent.canceled",
    };
    (kind, wire::payment_intent(intent, false))
}

fn event(kind: &str, object: &Value) -> Value {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    json!({
        "id": format!("evt_{}", Uuid::now_v7().simple()), "object": "event", "type": kind, "created": created,
        "livemode": false, "pending_webhooks": 1, "data": {"object": object},
    })
}
