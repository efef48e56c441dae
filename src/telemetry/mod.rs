//! What operators see of a process: logs, metrics, traces.
//!
//! Logs: `tracing` to standard error, for people or for machines. Standard output belongs to the commands' results.
//! [`metrics`](mod@metrics): one recorder for the process, read by whoever asks. [`spans`]: what is traced, and how it is named;
//! [`export`] sends it to a collector. Nothing of this may slow or stop the work that it tells of.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Telemetry};

pub mod export;
pub mod metrics;
pub mod spans;

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
