//! One HTTP request to Stripe: options, headers, sending, reading.
//!
//! Knows nothing of payments; what a failure means is decided in `failure`. The secret key leaves this module only in the `Authorization` header; neither it nor a
//! request's body is ever part of an error or a log line.

use std::{fmt, time::Duration};

use reqwest::{
    Method, Response, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
    redirect,
};

use super::failure::{Failure, causes, classify, invalid, unsent};
use crate::{provider::ProviderError, telemetry::spans};

/// The version of Stripe's API that the wire types are written for; without it Stripe uses the account's default.
const STRIPE_VERSION: &str = "2025-04-30.basil";

/// Far above any answer about one payment: what is longer did not come from Stripe.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How to reach Stripe, or a server that speaks its API.
#[derive(Clone)]
pub struct StripeOptions {
    /// Without `/v1`, e.g. `https://api.stripe.com`.
    pub base_url: String,
    /// `sk_…` or `rk_…`.
    pub secret_key: String,
    /// From the start of a request to the end of its answer.
    pub timeout: Duration,
    /// To establish a connection; part of `timeout`.
    pub connect_timeout: Duration,
}

impl fmt::Debug for StripeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeOptions")
            .field("base_url", &self.base_url)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// A request. The path starts below `/v1`.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) form: Vec<(&'a str, String)>,
    pub(super) idempotency_key: Option<String>,
    /// Instead of the client's own.
    pub(super) timeout: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: impl Into<String>, query: Vec<(&'a str, String)>) -> Self {
        let (path, form) = (path.into(), Vec::new());
        Self { method: Method::GET, path, query, form, idempotency_key: None, timeout: None }
    }

    pub(super) fn post(path: impl Into<String>, key: String, form: Vec<(&'a str, String)>) -> Self {
        let (path, query) = (path.into(), Vec::new());
        Self { method: Method::POST, path, query, form, idempotency_key: Some(key), timeout: None }
    }
}

/// An answer that says that the request took effect.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// It was given before, to an earlier request with the same idempotency key.
    pub(super) replayed: bool,
}

/// The HTTP client.
pub(super) struct Client {
    http: reqwest::Client,
    base_url: String,
    host: String,
}

impl Client {
    pub(super) fn new(options: &StripeOptions) -> Result<Self, ProviderError> {
        let url = check_base_url(options)?;
        install_crypto_provider();
        let mut builder = reqwest::Client::builder()
            .default_headers(headers(&options.secret_key)?)
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .timeout(options.timeout)
            .connect_timeout(options.connect_timeout.min(options.timeout))
            // A redirect would carry the key to an address that nobody configured.
            .redirect(redirect::Policy::none())
            .referer(false)
            // Who calls decides about a second try, with what it knows about the payment.
            .retry(reqwest::retry::never());
        if url.scheme() == "http" {
            // No TLS: do not fail, or lose time, over the machine's certificates.
            builder = builder.tls_certs_only([]);
        }
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| invalid(&causes(&error)))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        Ok(Self { http, base_url: options.base_url.trim_end_matches('/').to_owned(), host })
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Sends a request. `Ok` only for a 2xx answer that arrived as a whole.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let address = format!("{} {}/v1{}", call.method, self.base_url, call.path);
        let span = spans::call(call.method.as_str(), &template(&call.path), &self.host);
        let mut request = self.http.request(call.method, format!("{}/v1{}", self.base_url, call.path));
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(key) = &call.idempotency_key {
            request = request.header("Idempotency-Key", key).form(&call.form);
        }
        if let Some(timeout) = call.timeout {
            request = request.timeout(timeout);
        }
        if let Some(parent) = span.trace_parent() {
            request = request.header("traceparent", parent.to_string());
        }
        let response = request.send().await.map_err(|error| {
            span.fail("no_answer");
            Failure::Other(unsent(&error, &address))
        })?;
        let status = response.status();
        span.answered(status.as_u16(), !status.is_success());
        let request_id = text(response.headers(), "Request-Id").unwrap_or("none").to_owned();
        let replayed = text(response.headers(), "Idempotent-Replayed") == Some("true");
        tracing::debug!(address, status = status.as_u16(), request_id, replayed, "payment provider answered");
        let body = body(response, &address).await.map_err(Failure::Other)?;
        if status.is_success() {
            return Ok(Answer { body, replayed });
        }
        Err(classify(status, &body, &format!("{address}: HTTP {status}, request {request_id}")))
    }
}

/// A path segment from an id that Stripe gave us. No dots, no slashes, not empty: it never names another resource.
pub(super) fn segment(reference: &str) -> Result<&str, ProviderError> {
    let usable = (1..=255).contains(&reference.len())
        && reference.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    usable.then_some(reference).ok_or_else(|| ProviderError::Rejected {
        code: "invalid_reference".into(),
        message: "a provider reference is 1 to 255 letters, digits and underscores".into(),
    })
}

/// The path with a name in the place of each id: `/v1/payment_intents/{id}/capture`.
fn template(path: &str) -> String {
    let is_id = |segment: &str| {
        let kind = segment.split_once('_').map(|(kind, _)| kind);
        kind.is_some_and(|kind| ["pi", "re", "ch"].contains(&kind))
    };
    let segments = path.split('/').map(|segment| if is_id(segment) { "{id}" } else { segment });
    format!("/v1{}", segments.collect::<Vec<_>>().join("/"))
}

fn check_base_url(options: &StripeOptions) -> Result<Url, ProviderError> {
    let url = Url::parse(&options.base_url).map_err(|error| invalid(&format!("base_url: {error}")))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain || url.fragment().is_some() {
        return Err(invalid("base_url must be http(s)://host[:port], without user, query and fragment"));
    }
    let live = ["sk_live_", "rk_live_"].iter().any(|prefix| options.secret_key.starts_with(prefix));
    if live && url.scheme() == "http" {
        return Err(invalid("a live secret key is sent over https only"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

fn headers(secret_key: &str) -> Result<HeaderMap, ProviderError> {
    let usable = !secret_key.is_empty() && secret_key.bytes().all(|byte| byte.is_ascii_graphic());
    let mut key = HeaderValue::from_str(&format!("Bearer {secret_key}"))
        .ok()
        .filter(|_| usable)
        .ok_or_else(|| invalid("secret_key is empty, or has characters that no key has"))?;
    key.set_sensitive(true);
    Ok(HeaderMap::from_iter([
        (AUTHORIZATION, key),
        (HeaderName::from_static("stripe-version"), HeaderValue::from_static(STRIPE_VERSION)),
    ]))
}

/// The whole answer. One that breaks off leaves open what it said.
async fn body(mut response: Response, address: &str) -> Result<Vec<u8>, ProviderError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| ProviderError::Unknown(format!("{address}: answer broke off: {}", causes(&error))))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(ProviderError::Unknown(format!("{address}: answer is longer than 1 MiB")));
        }
    }
    Ok(body)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Chooses ring for every TLS connection of this process, unless a choice was made before. A `reqwest` client cannot be
/// built without one.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails only if somebody else was faster, and then there is one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
