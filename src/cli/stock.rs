//! `holdfast stock`.

use std::{fs::File, path::PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::wiring;
use crate::config::Config;

/// Stock files.
#[derive(Debug, Subcommand)]
pub(super) enum StockCommand {
    /// Sets the levels that a CSV file names, all of them or, if a line is wrong, none.
    ///
    /// Columns: sku, `on_hand`, and if wanted `location_id`, `safety_stock`, `backorder_limit`.
    Import {
        /// The file.
        file: PathBuf,
    },
}

pub(super) async fn run(config: &Config, command: StockCommand) -> anyhow::Result<()> {
    let StockCommand::Import { file } = command;
    let app = wiring::app(config).await?;
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let opened = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    let imported = app
        .import_stock(opened, &name, "holdfast stock import")
        .await
        .with_context(|| format!("nothing of {} was imported", file.display()))?;
    println!("{}: {} levels set, {} units on hand", file.display(), imported.levels, imported.on_hand);
    Ok(())
}
