//! The commands that run until they are told to stop: `api`, `worker`, `all`, `sandbox`.

use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum as _;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use super::wiring;
use crate::{
    app::App,
    config::Config,
    http::{self, OperationEndpoint},
    lifecycle::shutdown_token,
    provider::install_crypto_provider,
    sandbox::{self, SandboxOptions, WebhookOptions},
    telemetry::{self, export::Export},
    worker::{self, WorkerKind},
};

/// How long what outlived the drain time may delay the end of the process: its transaction ends with its connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves the API.
pub(super) async fn api(config: &Config) -> anyhow::Result<()> {
    let shutdown = shutdown_token()?;
    telemetry::metrics::record().map_err(anyhow::Error::msg)?;
    let traces = wiring::traces(config, "holdfast-api")?;
    let app = App { locks: wiring::locks(config).await?, ..wiring::app(config).await? };
    let api = http::api(app.clone(), &config.http, wiring::asyncapi(config).to_string(), shutdown.clone())?;
    let listener = bind("http.bind", &config.http.bind).await?;
    api.serve(listener).await;
    close(&app, traces).await;
    Ok(())
}

/// Runs workers.
pub(super) async fn worker(config: &Config, kinds: &[WorkerKind]) -> anyhow::Result<()> {
    let shutdown = shutdown_token()?;
    telemetry::metrics::record().map_err(anyhow::Error::msg)?;
    let traces = wiring::traces(config, &service_name(kinds))?;
    // Workers take no SKU locks: what they change is guarded by the order's row lock.
    let mut app = wiring::app(config).await?;
    if kinds.contains(&WorkerKind::Payment) {
        app.provider = Some(wiring::provider(config)?);
    }
    let bus = wiring::bus(config);
    if kinds.iter().any(|kind| kind.uses_bus()) {
        wiring::check_bus(config, bus.as_ref()).await?;
    }
    let directory = wiring::directory(config, &app);
    let listener = match config.worker.bind.as_str() {
        "" => None,
        address => Some(bind("worker.bind", address).await?),
    };
    // Shown until the last event is settled.
    let drained = CancellationToken::new();
    let needed = wiring::dependencies(kinds, &app, &bus);
    let endpoint = OperationEndpoint::new(needed, &config.http, drained.clone())?;
    let shown = async {
        if let Some(listener) = listener {
            endpoint.serve(listener).await;
        }
    };
    let work = async {
        let outcome = worker::run(kinds, &app, &bus, &directory, &config.worker, &shutdown).await;
        drained.cancel();
        outcome
    };
    let ((), outcome) = tokio::join!(shown, work);
    bus.close().await;
    close(&app, traces).await;
    Ok(outcome?)
}

/// Serves the API and runs all workers.
pub(super) async fn all(config: &Config) -> anyhow::Result<()> {
    let shutdown = shutdown_token()?;
    telemetry::metrics::record().map_err(anyhow::Error::msg)?;
    let traces = wiring::traces(config, "holdfast")?;
    let (locks, provider) = (wiring::locks(config).await?, Some(wiring::provider(config)?));
    let app = App { locks, provider, ..wiring::app(config).await? };
    let bus = wiring::bus(config);
    wiring::check_bus(config, bus.as_ref()).await?;
    let api = http::api(app.clone(), &config.http, wiring::asyncapi(config).to_string(), shutdown.clone())?;
    let listener = bind("http.bind", &config.http.bind).await?;
    let directory = wiring::directory(config, &app);
    let ((), worked) = tokio::join!(
        api.serve(listener),
        worker::run(&WorkerKind::ALL, &app, &bus, &directory, &config.worker, &shutdown),
    );
    bus.close().await;
    close(&app, traces).await;
    Ok(worked?)
}

/// Serves the sandbox provider.
pub(super) async fn sandbox(config: &Config) -> anyhow::Result<()> {
    let shutdown = shutdown_token()?;
    let secret_key = config.provider.secret_key.reveal().to_owned();
    anyhow::ensure!(
        !secret_key.is_empty(),
        "provider.secret_key is empty: set the key that the sandbox is to accept"
    );
    let listener = bind("sandbox.bind", &config.sandbox.bind).await?;
    let settings = &config.sandbox;
    let secret = config.provider.webhook_secrets().into_iter().next();
    let webhooks = secret.filter(|_| !settings.webhook_url.is_empty());
    let options = SandboxOptions {
        late_success: Duration::from_secs(settings.late_success_seconds),
        webhooks: webhooks.map(|secret| WebhookOptions { url: settings.webhook_url.clone(), secret }),
        ..SandboxOptions::new(secret_key)
    };
    install_crypto_provider();
    Ok(sandbox::serve(listener, options, shutdown).await?)
}

async fn bind(setting: &str, address: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {setting} = {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// What traces call a process of these workers.
fn service_name(kinds: &[WorkerKind]) -> String {
    let names: Vec<String> = kinds
        .iter()
        .filter_map(|kind| kind.to_possible_value().map(|value| value.get_name().to_owned()))
        .collect();
    let is_all = WorkerKind::ALL.iter().all(|kind| kinds.contains(kind));
    if is_all { "holdfast-worker".to_owned() } else { format!("holdfast-worker-{}", names.join("-")) }
}

/// Locks first: other processes can go on at once.
async fn close(app: &App, traces: Option<Export>) {
    app.locks.close().await;
    if timeout(CLOSE_TIMEOUT, app.store.close()).await.is_err() {
        tracing::warn!("transactions were still open: they are rolled back");
    }
    if let Some(traces) = traces {
        traces.finish().await;
    }
    tracing::info!("stopped");
}
