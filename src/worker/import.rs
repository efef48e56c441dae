//! The import worker: does the rows of stock imports, chunk by chunk, the oldest import first. Any number of processes may
//! do so at a time: each passes over the imports that another one works on.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter};
use tokio_util::sync::CancellationToken;

use super::{
    bounded::{STEP, bounded},
    pause,
};
use crate::{
    app::App,
    config::ImportWorker,
    domain::stock_import::{ImportStatus, StockImport},
};

const ROWS: &str = "holdfast_import_rows_total";
const IMPORTS: &str = "holdfast_imports_total";

pub(super) async fn run(app: App, settings: ImportWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    describe_counter!(
        ROWS,
        Unit::Count,
        "Rows of stock imports that have ended, dry runs left out, by outcome."
    );
    describe_counter!(IMPORTS, Unit::Count, "Stock imports that have ended.");
    // From the start: where it is missing, nobody imports.
    counter!(IMPORTS).increment(0);
    loop {
        match bounded(STEP, app.run_stock_import(None)).await {
            Ok(None) => {}
            Ok(Some(import)) => {
                if import.status == ImportStatus::Completed {
                    let (id, applied, failed) = (import.id, import.rows_applied, import.rows_failed);
                    count(&import);
                    tracing::info!(import_id = %id, applied, failed, dry_run = import.dry_run, "stock imported");
                }
                // There may be more, in this import or in the next.
                if !shutdown.is_cancelled() {
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "an import could not go on, trying again"),
        }
        if pause(interval, &shutdown).await {
            return;
        }
    }
}

fn count(import: &StockImport) {
    counter!(IMPORTS).increment(1);
    if import.dry_run {
        return;
    }
    for (outcome, rows) in [("applied", import.rows_applied), ("failed", import.rows_failed)] {
        counter!(ROWS, "outcome" => outcome).increment(u64::try_from(rows).unwrap_or_default());
    }
}
