//! The import worker: does the rows of stock imports, chunk by chunk, the oldest import first. Any number of processes may
//! do so at a time: each passes over the imports that another one works on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::{app::App, config::ImportWorker, domain::stock_import::ImportStatus};

pub(super) async fn run(app: App, settings: ImportWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    loop {
        match app.run_stock_import(None).await {
            Ok(None) => {}
            Ok(Some(import)) => {
                if import.status == ImportStatus::Completed {
                    let (id, applied, failed) = (import.id, import.rows_applied, import.rows_failed);
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
