//! `holdfast stock`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;

use super::wiring;
use crate::{
    app::{App, CreateStockImport, Error},
    config::Config,
    domain::{
        ids::ImportId,
        inventory::LocationId,
        stock_file::StockFormat,
        stock_import::{ImportMode, ImportStatus, RowStatus, StockImport},
    },
    store::stock_imports,
};

/// How many failed rows are printed: all of them are to be had from the API.
const FAILURES_SHOWN: i64 = 50;

/// How often to look whether a worker that got hold of the import has gone on.
const POLL: Duration = Duration::from_millis(50);

/// Stock files.
#[derive(Debug, Subcommand)]
pub(super) enum StockCommand {
    /// Imports a stock file: CSV with a header, or NDJSON if its name ends in .ndjson or .jsonl. A row that is wrong fails
    /// alone, and is printed; the exit code is then 1.
    ///
    /// Columns: sku and `on_hand`, and if wanted `location_id`, `compare_quantity`, `safety_stock`, `backorder_limit`,
    /// `low_stock_threshold`; of mode delta sku, delta, and if wanted `location_id`.
    Import {
        /// The file.
        file: PathBuf,
        /// What the rows say: what is on hand, or by how much that changes.
        #[arg(long, value_enum, default_value_t = Mode::Set)]
        mode: Mode,
        /// Only find out what would become of the rows.
        #[arg(long)]
        dry_run: bool,
        /// Where the rows are that name no location, if not at `order.default_location`.
        #[arg(long)]
        location: Option<LocationId>,
    },
}

/// See [`ImportMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// What is on hand.
    Set,
    /// By how much it changes.
    Delta,
}

pub(super) async fn run(config: &Config, command: StockCommand) -> anyhow::Result<ExitCode> {
    let StockCommand::Import { file, mode, dry_run, location } = command;
    let app = wiring::app(config).await?;
    let create = CreateStockImport {
        file: fs::read(&file).with_context(|| format!("cannot open {}", file.display()))?,
        format: format(&file),
        mode: match mode {
            Mode::Set => ImportMode::Set,
            Mode::Delta => ImportMode::Delta,
        },
        dry_run,
        location_id: location,
        reference: Some(file.file_name().unwrap_or_default().to_string_lossy().into_owned()),
    };
    let import = match app.create_own_stock_import(create, "holdfast stock import").await {
        Err(Error::Invalid(invalid)) => {
            let errors: Vec<_> = invalid.errors.iter().map(ToString::to_string).collect();
            anyhow::bail!("nothing of {} was imported: {}", file.display(), errors.join("; "));
        }
        created => created.with_context(|| format!("nothing of {} was imported", file.display()))?,
    };
    let done = finish(&app, &import)
        .await
        .with_context(|| format!("{} is not done: `holdfast worker import` goes on with it", import.id))?;
    print_failures(&app, &done).await?;
    let (verb, id, path) = (if dry_run { "would be applied" } else { "applied" }, done.id, file.display());
    println!(
        "{path}: {} rows {verb}, {} failed ({id}, {})",
        done.rows_applied, done.rows_failed, done.status
    );
    let all = done.status == ImportStatus::Completed && done.rows_failed == 0;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn format(file: &Path) -> StockFormat {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("ndjson" | "jsonl") => StockFormat::Ndjson,
        _ => StockFormat::Csv,
    }
}

/// Does the import's rows here, unless a worker does them already. Gives it once it is done.
async fn finish(app: &App, import: &StockImport) -> Result<StockImport, Error> {
    let total = u64::try_from(import.rows_total).unwrap_or_default();
    // Invariant: the template is right.
    let style = ProgressStyle::with_template("importing {bar:40} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let worked = app.run_stock_import(Some(import.id)).await?;
        let is_elsewhere = worked.is_none();
        let now = match worked {
            Some(now) => now,
            None => find(app, import.id).await?,
        };
        bar.set_position(u64::try_from(now.rows_done).unwrap_or_default());
        if now.status.allowed().is_empty() {
            bar.finish_and_clear();
            return Ok(now);
        }
        if is_elsewhere {
            sleep(POLL).await;
        }
    }
}

async fn find(app: &App, id: ImportId) -> Result<StockImport, Error> {
    let found = stock_imports::find(&mut *app.store.conn().await?, id).await?;
    found.ok_or_else(|| Error::NotFound { kind: "import", id: id.to_string() })
}

async fn print_failures(app: &App, import: &StockImport) -> anyhow::Result<()> {
    let mut conn = app.store.conn().await?;
    let failed =
        stock_imports::list_rows(&mut conn, import.id, Some(RowStatus::Failed), 0, FAILURES_SHOWN).await?;
    for row in &failed {
        let errors: Vec<_> = row.errors.iter().map(|e| format!("{} {}", e.field, e.detail)).collect();
        eprintln!("line {}: {}", row.line, errors.join("; "));
    }
    let more = i64::from(import.rows_failed) - FAILURES_SHOWN;
    if more > 0 {
        eprintln!("and {more} more: GET /v1/inventory/imports/{}/rows?status=failed", import.id);
    }
    Ok(())
}
