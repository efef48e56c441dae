//! The sandbox: a payment provider for tests and demos that speaks the part of Stripe's API that Holdfast uses.
//!
//! Money is pretended, its effects are not: what was authorized, captured and refunded is counted by its effect, not by
//! its answer, so that `GET /sandbox/summary` and `GET /sandbox/payments?payment_id=pay_…` prove "charged once". `POST
//! /sandbox/payments/succeed?payment_id=pay_…` decides a payment that is `processing` before its time; `POST
//! /sandbox/refunds/succeed?payment_id=pay_…` decides refunds that are `pending`, `…/fail` has the customer's bank give back
//! what was sent. `POST /sandbox/payments/lapse?payment_id=pay_…` lets go of what is authorized, as time does after a week,
//! `…/confirm` is the customer who acts, or tries again after a refusal, `…/refuse` the one who does not pass. What a
//! payment token does is the table in `tokens`. Where an address is configured, every change is told to it by a webhook,
//! signed as Stripe signs.
//!
//! Must not know `provider`: they meet over HTTP only. Memory is bounded: the newest [`SandboxOptions::kept`] intents and
//! idempotency keys, about 500 MB with 200,000 of each; an intent that was forgotten is answered with 404, a key that
//! was forgotten is new. Nothing outlives the process.

mod actions;
mod intents;
mod keys;
mod recent;
mod routes;
mod tokens;
mod webhooks;
mod wire;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use intents::Intents;
use keys::Keys;
use webhooks::Webhooks;
use wire::Problem;

pub use webhooks::WebhookOptions;

/// How a sandbox behaves.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The only key that it takes.
    pub secret_key: String,
    /// How long `pm_sandbox_slow` takes.
    pub slow: Duration,
    /// How long `pm_sandbox_timeout_then_success` keeps its first answer back. Longer than the client waits.
    pub answer_held_back: Duration,
    /// When `pm_sandbox_late_success_after_expiry` succeeds.
    pub late_success: Duration,
    /// Where webhooks go, if anywhere.
    pub webhooks: Option<WebhookOptions>,
    /// How many intents, and how many idempotency keys, are kept.
    pub kept: usize,
}

impl SandboxOptions {
    /// The documented behaviour.
    pub fn new(secret_key: impl Into<String>) -> Self {
        Self {
            secret_key: secret_key.into(),
            slow: Duration::from_secs(2),
            answer_held_back: Duration::from_secs(30),
            late_success: Duration::from_mins(30),
            webhooks: None,
            kept: 200_000,
        }
    }
}

impl std::fmt::Debug for SandboxOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SandboxOptions")
            .field("slow", &self.slow)
            .field("answer_held_back", &self.answer_held_back)
            .field("late_success", &self.late_success)
            .field("webhooks", &self.webhooks)
            .field("kept", &self.kept)
            .finish_non_exhaustive()
    }
}

struct Sandbox {
    options: SandboxOptions,
    shutdown: CancellationToken,
    requests: AtomicU64,
    webhooks: Option<Webhooks>,
    state: Mutex<Memory>,
}

struct Memory {
    intents: Intents,
    keys: Keys,
}

impl Sandbox {
    /// Held for one step in memory, never while waiting.
    fn state(&self) -> MutexGuard<'_, Memory> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves on `listener` until `shutdown`; requests in progress are answered first.
pub async fn serve(
    listener: TcpListener,
    options: SandboxOptions,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without it only small answers are slower.
        let _ = connection.set_nodelay(true);
    });
    let webhooks = options.webhooks.clone().map(Webhooks::new).transpose()?;
    let router = router(options, webhooks, shutdown.clone());
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(options: SandboxOptions, webhooks: Option<Webhooks>, shutdown: CancellationToken) -> Router {
    let memory = Memory { intents: Intents::new(options.kept), keys: Keys::new(options.kept) };
    let (requests, state) = (AtomicU64::new(0), Mutex::new(memory));
    let sandbox = Arc::new(Sandbox { options, shutdown, requests, webhooks, state });
    Router::new()
        .route("/v1/payment_intents", post(routes::create).get(routes::list))
        .route("/v1/payment_intents/search", get(routes::search))
        .route("/v1/payment_intents/{id}", get(routes::read))
        .route("/v1/payment_intents/{id}/capture", post(routes::capture))
        .route("/v1/payment_intents/{id}/cancel", post(routes::cancel))
        .route("/v1/refunds", post(routes::refund).get(routes::refunds))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&sandbox), authenticate))
        .route("/sandbox/summary", get(routes::summary))
        .route("/sandbox/payments", get(routes::payments))
        .route("/sandbox/payments/{what}", post(routes::decide_payment))
        .route("/sandbox/refunds/{what}", post(routes::decide_refunds))
        .fallback(routes::unknown_url)
        .method_not_allowed_fallback(routes::unknown_url)
        .with_state(sandbox)
}

/// Bearer, or Basic with the key as the user, as Stripe takes them.
async fn authenticate(State(sandbox): State<Arc<Sandbox>>, request: Request, next: Next) -> Response {
    sandbox.requests.fetch_add(1, Ordering::Relaxed);
    let key = &sandbox.options.secret_key;
    let given = request.headers().get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let basic = || format!("Basic {}", BASE64_STANDARD.encode(format!("{key}:")));
    if given == format!("Bearer {key}").as_bytes() || given == basic().as_bytes() {
        return next.run(request).await;
    }
    let message =
        if given.is_empty() { "You did not provide an API key." } else { "Invalid API Key provided." };
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message).into_response()
}
