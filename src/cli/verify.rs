//! `holdfast verify`.

use std::process::ExitCode;

use super::wiring;
use crate::config::Config;

pub(super) async fn run(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let app = wiring::app(config).await?;
    let verification = app.verify_invariants().await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&verification)?);
    } else {
        for violation in &verification.violations {
            println!("{} is broken {} times: {}", violation.id, violation.count, violation.title);
            for row in &violation.rows {
                println!("    {row}");
            }
        }
        let broken = verification.violations.len();
        println!("verify: {} invariants checked, {broken} broken", verification.checked);
    }
    Ok(if verification.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
