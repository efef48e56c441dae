//! Logs: `tracing` to standard error, for people or for machines. Standard output belongs to the commands' results.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Telemetry};

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
