//! The expiry worker: looks for orders whose time has run out, and expires them. Any number of processes may do so at a
//! time: each passes over the orders that another one works on.

use std::time::{Duration, Instant};

use metrics::{Unit, describe_gauge, gauge};
use tokio_util::sync::CancellationToken;

use super::{
    bounded::{STEP, bounded},
    pause,
};
use crate::{
    app::{App, Cause},
    config::ExpiryWorker,
};

/// How often to look how far behind it is.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

const BEHIND: &str = "holdfast_expiry_behind_seconds";

pub(super) async fn run(app: App, settings: ExpiryWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    let batch = i64::from(settings.batch);
    describe_gauge!(BEHIND, Unit::Seconds, "How long ago the oldest hold should have ended that has not.");
    let mut told: Option<Instant> = None;
    loop {
        if told.is_none_or(|at| at.elapsed() >= TELL_INTERVAL) {
            tell(&app).await;
            told = Some(Instant::now());
        }
        match bounded(STEP, app.expire_orders(None, batch, &Cause::default())).await {
            Ok(0) => {}
            Ok(expired) => {
                tracing::info!(expired, "orders expired");
                // A full batch means that there may be more.
                if i64::try_from(expired).unwrap_or(i64::MAX) >= batch && !shutdown.is_cancelled() {
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "orders could not be expired, trying again"),
        }
        if pause(interval, &shutdown).await {
            return;
        }
    }
}

async fn tell(app: &App) {
    match bounded(STEP, app.overdue_seconds()).await {
        Ok(seconds) => gauge!(BEHIND).set(seconds),
        Err(error) => tracing::debug!(%error, "how far behind cannot be told"),
    }
}
