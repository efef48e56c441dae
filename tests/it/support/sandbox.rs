//! A payment provider's sandbox on a free port, for the length of a test.

use std::time::Duration;

use holdfast::{
    provider::{StripeOptions, StripeProvider, install_crypto_provider},
    sandbox::{self, SandboxOptions},
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET_KEY: &str = "sk_test_of_the_tests";

pub(crate) struct TestSandbox {
    pub(crate) url: String,
    shutdown: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl TestSandbox {
    pub(crate) async fn start() -> Self {
        Self::start_with(SandboxOptions {
            slow: Duration::from_millis(1_500),
            ..SandboxOptions::new(SECRET_KEY)
        })
        .await
    }

    pub(crate) async fn start_with(options: SandboxOptions) -> Self {
        install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(sandbox::serve(listener, options, shutdown.clone()));
        Self { url, shutdown, server }
    }

    /// A provider that waits as long as it takes.
    pub(crate) fn provider(&self) -> StripeProvider {
        provider(&self.url, SECRET_KEY, Duration::from_secs(20))
    }

    /// A provider that gives up early.
    pub(crate) fn impatient_provider(&self) -> StripeProvider {
        provider(&self.url, SECRET_KEY, Duration::from_millis(300))
    }

    pub(crate) async fn summary(&self) -> Value {
        get(&format!("{}/sandbox/summary", self.url)).await
    }

    pub(crate) async fn payment(&self, payment_id: impl std::fmt::Display) -> Value {
        get(&format!("{}/sandbox/payments?payment_id={payment_id}", self.url)).await
    }

    /// Lets something happen at the provider without a request of ours, e.g. `refunds/fail`.
    pub(crate) async fn decide(&self, what: &str, payment_id: impl std::fmt::Display) -> Value {
        let url = format!("{}/sandbox/{what}?payment_id={payment_id}", self.url);
        http_client().post(url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Ends when the server has ended.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap().unwrap();
    }
}

pub(crate) fn provider(base_url: &str, secret_key: &str, timeout: Duration) -> StripeProvider {
    StripeProvider::new(StripeOptions {
        base_url: base_url.into(),
        secret_key: secret_key.into(),
        timeout,
        connect_timeout: Duration::from_secs(2),
    })
    .unwrap()
}

/// A plain HTTP client.
pub(crate) fn http_client() -> reqwest::Client {
    install_crypto_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(url: &str) -> Value {
    http_client().get(url).send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}
