//! The API as a merchant's backend uses it: every write with its idempotency key, sent again until an answer comes.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::basket::Basket;

/// What became of one order when it was placed.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its id, if it was accepted.
    pub(super) order_id: Option<String>,
    /// Why not, if it was refused: the problem's code.
    pub(super) refused: Option<String>,
    /// How long the request took that was answered.
    pub(super) latency: Duration,
    /// What became of starting its payment: its id, or the problem's code.
    pub(super) payment: Option<Result<String, String>>,
}

/// A client of one API.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
    patience: Duration,
}

impl Client {
    pub(super) fn new(url: &str, key: &str, patience: Duration) -> anyhow::Result<Self> {
        crate::provider::install_crypto_provider();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .connect_timeout(Duration::from_secs(3));
        let http = http.build().context("the HTTP client cannot be built")?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key: key.to_owned(), patience })
    }

    /// Fails if the API cannot be used at all, before anything is sent.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let url = format!("{}/v1/orders?limit=1", self.url);
        let unreachable = || format!("the API at {} does not answer. Start it with `holdfast api`", self.url);
        let response = self.http.get(url).bearer_auth(&self.key).send().await.with_context(unreachable)?;
        anyhow::ensure!(
            response.status() != StatusCode::UNAUTHORIZED,
            "the API refuses the key: see `holdfast keys`"
        );
        Ok(())
    }

    /// Places an order.
    pub(super) async fn place(&self, basket: &Basket, ttl: i64) -> Outcome {
        let key = format!("order-{}", basket.reference);
        let (status, body, latency) = self.write("/v1/orders", &key, &basket.request(ttl)).await;
        let created = status == Some(StatusCode::CREATED);
        let text = |name: &str| body[name].as_str().unwrap_or("no_answer").to_owned();
        Outcome {
            order_id: created.then(|| text("id")),
            refused: (!created).then(|| text("code")),
            latency,
            payment: None,
        }
    }

    /// Starts an order's payment: its id, or why not.
    pub(super) async fn pay(&self, order_id: &str, reference: &str, token: &str) -> Result<String, String> {
        let method = if token.contains("wallet") { "wallet" } else { "card" };
        let body = json!({ "method": method, "payment_token": token });
        let path = format!("/v1/orders/{order_id}/payments");
        let (status, body, _) = self.write(&path, &format!("pay-{reference}"), &body).await;
        let text = |name: &str| body[name].as_str().unwrap_or("no_answer").to_owned();
        if status == Some(StatusCode::CREATED) { Ok(text("id")) } else { Err(text("code")) }
    }

    /// Reads an order. `None`: no answer this time.
    pub(super) async fn read(&self, order_id: &str) -> Option<Value> {
        let url = format!("{}/v1/orders/{order_id}", self.url);
        let response = self.http.get(url).bearer_auth(&self.key).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        response.json().await.ok()
    }

    /// Sends a write until an answer comes that sending it again would not change.
    async fn write(&self, path: &str, key: &str, body: &Value) -> (Option<StatusCode>, Value, Duration) {
        let give_up = Instant::now() + self.patience;
        let mut wait = Duration::from_millis(50);
        loop {
            let began = Instant::now();
            let request =
                self.http.request(Method::POST, format!("{}{path}", self.url)).bearer_auth(&self.key);
            let answer = match request.header("Idempotency-Key", key).json(body).send().await {
                Ok(response) => {
                    let status = response.status();
                    response.json::<Value>().await.ok().map(|body| (status, body))
                }
                Err(_) => None,
            };
            if let Some((status, body)) = answer
                && !status.is_server_error()
                && body["retryable"] != true
            {
                return (Some(status), body, began.elapsed());
            }
            if Instant::now() >= give_up {
                return (None, Value::Null, began.elapsed());
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}
