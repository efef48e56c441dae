//! Logs: `tracing` to standard error, for people or for machines. Standard output belongs to the commands' results.
//! Metrics: one recorder for the process, read by whoever asks for [`metrics()`].

use std::{fmt::Display, io::IsTerminal as _, sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Telemetry};

/// Upper bounds in seconds: from an acquisition that asks nobody to one that times out.
const BUCKETS: [f64; 14] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// How often to sort new samples into their buckets, so that they do not pile up where nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts logging. Call it once.
pub fn init(telemetry: &Telemetry) -> Result<(), String> {
    let filter = EnvFilter::try_new(&telemetry.filter)
        .map_err(|error| format!("configuration: telemetry.filter is {:?}: {error}", telemetry.filter))?;
    let builder =
        fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = match telemetry.format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| format!("logging cannot start: {error}"))
}

/// Starts recording metrics, before anything is counted. Call it once, on a runtime.
pub fn record_metrics() -> Result<(), String> {
    let failed = |error: &dyn Display| format!("metrics cannot be recorded: {error}");
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).map_err(|error| failed(&error))?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| failed(&error))?;
    let upkeep = RECORDER.get_or_init(|| handle);
    tokio::spawn(async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(())
}

/// Every metric in Prometheus' text format; nothing where nothing is recorded.
pub fn metrics() -> String {
    RECORDER.get().map(PrometheusHandle::render).unwrap_or_default()
}
