//! Posting messages to the merchant's endpoints, as Standard Webhooks says: signed, and to addresses that are allowed.
//!
//! Knows nothing of deliveries, and nothing of the database. The only place that connects to where somebody else says:
//! every connection goes to an address that `guard` has checked, redirects are not followed, and no proxy is asked.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use reqwest::{Response, StatusCode, header, redirect};
use tokio::time::Instant;

use crate::domain::{
    webhook::AttemptError,
    webhook_url::{self, UrlRules},
};

mod guard;
mod signature;

pub use guard::{AddressGuard, NameLookup, SystemLookup};
pub use signature::SigningSecret;

use guard::{GuardedResolver, Refused, Unresolved};

/// So much of an answer is read, to let the endpoint finish it.
const ANSWER_BYTES: usize = 64 << 10;

/// So much of it is kept.
const KEPT_BYTES: usize = 1024;

/// The longest text of an error that is kept, in bytes.
const DETAIL_BYTES: usize = 255;

/// What a deployment decides.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Which URLs are taken.
    pub urls: UrlRules,
    /// Which addresses are posted to.
    pub addresses: AddressGuard,
    /// From the connection to the end of the answer.
    pub timeout: Duration,
    /// How many idle connections to one host are kept.
    pub idle_connections: usize,
}

/// A message to an endpoint.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Where to.
    pub url: &'a str,
    /// `webhook-id`: the same in each attempt.
    pub id: &'a str,
    /// `webhook-timestamp`: when this attempt is made.
    pub time: DateTime<Utc>,
    /// What it says, JSON.
    pub body: &'a str,
    /// What it is signed with, by each.
    pub secrets: &'a [SigningSecret],
}

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// After how much time it wants to be asked again, where it says so (429, 503).
    pub retry_after: Option<Duration>,
    /// The first 1024 bytes of the body, as text.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// For programs.
    pub error: AttemptError,
    /// For people.
    pub detail: String,
}

/// Posts messages.
#[derive(Debug, Clone)]
pub struct WebhookSender {
    secure: reqwest::Client,
    /// Where URLs without TLS are taken.
    insecure: Option<reqwest::Client>,
    options: Arc<WebhookOptions>,
}

impl WebhookSender {
    /// A sender that asks `lookup` for the addresses of names. A crypto provider must be installed.
    pub fn new(options: WebhookOptions, lookup: &Arc<dyn NameLookup>) -> Result<Self, String> {
        let resolver = |is_secure| {
            let (addresses, lookup) = (options.addresses.clone(), Arc::clone(lookup));
            Arc::new(GuardedResolver { addresses, is_secure, lookup })
        };
        let secure = client(&options, resolver(true))?;
        let insecure = options.urls.allow_insecure.then(|| client(&options, resolver(false))).transpose()?;
        Ok(Self { secure, insecure, options: Arc::new(options) })
    }

    /// Fails with what is wrong with a URL, as far as it says itself.
    pub fn check_url(&self, url: &str) -> Result<(), String> {
        webhook_url::check(url, &self.options.urls, &self.options.addresses).map(drop)
    }

    /// How long an attempt takes at most.
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// Posts a message once.
    pub async fn send(&self, message: &Message<'_>) -> Result<Answered, Unanswered> {
        // The rules may be others than when the endpoint was made, and a literal address asks no resolver.
        let checked = webhook_url::check(message.url, &self.options.urls, &self.options.addresses);
        let url = checked
            .map_err(|detail| unanswered(AttemptError::AddressRefused, &format!("the URL {detail}")))?;
        let deadline = Instant::now() + self.options.timeout;
        let insecure = self.insecure.as_ref().filter(|_| url.scheme() == "http");
        let request = insecure
            .unwrap_or(&self.secure)
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.time.timestamp())
            .header("webhook-signature", signature::sign_all(message))
            .body(message.body.to_owned());
        let response = request.send().await.map_err(|error| classify(&error))?;
        let status = response.status();
        let asks_for_time =
            [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
        let retry_after = response.headers().get(header::RETRY_AFTER).filter(|_| asks_for_time);
        let retry_after = retry_after.and_then(|value| parse_retry_after(value.to_str().ok()?, message.time));
        let body = tokio::time::timeout_at(deadline, beginning(response)).await.unwrap_or_default();
        Ok(Answered { status: status.as_u16(), retry_after, body })
    }
}

/// A client that resolves names by `resolver` alone, and whose every connection goes where it is sent.
fn client(options: &WebhookOptions, resolver: Arc<GuardedResolver>) -> Result<reqwest::Client, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("holdfast-webhooks/", env!("CARGO_PKG_VERSION")))
        .timeout(options.timeout)
        .dns_resolver(resolver)
        // It would resolve the name itself.
        .no_proxy()
        // It would lead to where nobody has looked.
        .redirect(redirect::Policy::none())
        .referer(false)
        // Each attempt is written down.
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(options.idle_connections)
        .pool_idle_timeout(Duration::from_secs(30));
    builder.build().map_err(|error| format!("the client of webhooks cannot be built: {}", causes(&error)))
}

/// Seconds, or a time (RFC 9110, section 10.2.3).
fn parse_retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let seconds = text.trim().parse().map(Duration::from_secs);
    seconds.ok().or_else(|| (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().ok())
}

/// The beginning of an answer's body. The status has said what is to be known: a body that breaks off is as good as any.
async fn beginning(mut response: Response) -> String {
    let (mut kept, mut read) = (Vec::with_capacity(KEPT_BYTES), 0);
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = KEPT_BYTES - kept.len();
        kept.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        read += chunk.len();
        if read >= ANSWER_BYTES {
            break;
        }
    }
    // PostgreSQL's text holds no NUL.
    String::from_utf8_lossy(&kept).replace('\0', "\u{fffd}")
}

fn classify(error: &reqwest::Error) -> Unanswered {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return unanswered(AttemptError::AddressRefused, &refused.to_string());
        }
        if let Some(unresolved) = inner.downcast_ref::<Unresolved>() {
            return unanswered(AttemptError::NameNotResolved, &unresolved.to_string());
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        return unanswered(AttemptError::TimedOut, "the answer did not come in time");
    }
    unanswered(AttemptError::ConnectionFailed, &causes(error))
}

fn unanswered(error: AttemptError, detail: &str) -> Unanswered {
    let end = detail.floor_char_boundary(DETAIL_BYTES);
    Unanswered { error, detail: detail.get(..end).unwrap_or_default().replace('\0', "\u{fffd}") }
}

/// An error with what led to it, without the URL: it may hold a token.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    if text.is_empty() { "the request failed".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0", Some(0)),
            ("Fri, 15 Jan 2027 08:02:00 GMT", Some(120)),
            ("Fri, 15 Jan 2027 07:00:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(parse_retry_after(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
