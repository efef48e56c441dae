//! Metrics: one recorder for the process, read by whoever asks for [`render`].
//!
//! What is counted is counted where it happens. What has to be looked at (pools, memory) is looked at when somebody asks:
//! whoever owns it says how by [`at_scrape`].

use std::{
    fmt::Display,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds in seconds: from an acquisition that asks nobody to the longest that anything may take. What an alert compares
/// with is one of them: between two, a quantile is a guess.
const SECONDS: [f64; 19] = [
    0.000_01, 0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    15.0, 30.0, 60.0,
];

/// Upper bounds of what is counted in orders.
const ORDERS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How often to sort new samples into their buckets, so that they do not pile up where nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

const BUILD: &str = "holdfast_build_info";

/// One who looks.
type Look = Box<dyn Fn() + Send + Sync>;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
static LOOKS: Mutex<Vec<Look>> = Mutex::new(Vec::new());

/// Starts recording metrics, before anything is counted. Call it once, on a runtime.
pub fn record() -> Result<(), String> {
    let failed = |error: &dyn Display| format!("metrics cannot be recorded: {error}");
    let builder = PrometheusBuilder::new()
        .set_buckets(&SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_batch_orders".into()), &ORDERS))
        .map_err(|error| failed(&error))?;
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
    describe_gauge!(BUILD, "1, with the version of the program as a label.");
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let process = metrics_process::Collector::default();
    process.describe();
    at_scrape(move || process.collect());
    Ok(())
}

/// Looks whenever somebody asks for the metrics. Must be quick, and wait for nothing. Where nothing is recorded, nobody asks.
pub fn at_scrape(look: impl Fn() + Send + Sync + 'static) {
    if RECORDER.get().is_none() {
        return;
    }
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(look));
}

/// Every metric in Prometheus' text format; nothing where nothing is recorded.
pub fn render() -> String {
    let Some(recorder) = RECORDER.get() else { return String::new() };
    LOOKS.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|look| look());
    recorder.render()
}
