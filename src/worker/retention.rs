//! The retention worker: makes the days of events that come ready, deletes what has been kept for long enough, and watches the
//! invariants that can be. Any number of processes may do so at a time.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    bounded::{STEP, bounded},
    pause,
};
use crate::{
    app::{App, DeletedRows, Error, RowAges, RowWalks},
    config::RetentionWorker,
};

/// How long one look may take. What it has deleted by then stays so, and the next goes on.
const LOOK: Duration = Duration::from_mins(10);

pub(super) async fn run(app: App, settings: RetentionWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    let ages = RowAges {
        idempotency_key: days(settings.idempotency_key_days),
        provider_event: days(settings.provider_event_days),
        stock_import: days(settings.stock_import_days),
        webhook_delivery: days(settings.webhook_delivery_days),
        dropped_letter: days(settings.dropped_letter_days),
    };
    let mut walks = RowWalks::default();
    loop {
        // Each check says by itself that it failed: here only that none is waited for for ever.
        if timeout(STEP, app.watch_invariants()).await.is_err() {
            tracing::warn!("the invariants were not all checked: PostgreSQL is silent");
        }
        if let Err(error) = bounded(LOOK, keep(&app, days(settings.events_days), ages, &mut walks)).await {
            tracing::warn!(%error, "what is old could not be deleted, trying again");
        }
        if pause(interval, &shutdown).await {
            return;
        }
    }
}

async fn keep(app: &App, events: Option<i32>, ages: RowAges, walks: &mut RowWalks) -> Result<(), Error> {
    app.make_event_days().await?;
    if let Some(days) = events {
        app.drop_old_events(days).await?;
    }
    let deleted = app.delete_old_rows(ages, walks).await?;
    if deleted != DeletedRows::default() {
        tracing::info!(?deleted, "old rows were deleted");
    }
    Ok(())
}

/// 0 is for ever.
fn days(setting: u16) -> Option<i32> {
    (setting > 0).then(|| setting.into())
}
