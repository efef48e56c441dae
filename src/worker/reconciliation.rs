//! Reconciliation: looks for payments that are to be looked up at the provider, and has them settled. Any number of
//! processes may do so at a time: each passes over the payments that another one has claimed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    bounded::{STEP, bounded},
    pause,
};
use crate::{app::App, config::PaymentWorker};

pub(super) async fn run(app: App, settings: PaymentWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.lookup_interval_ms);
    let limit = settings.concurrency;
    loop {
        match bounded(STEP, app.reconcile_payments(limit)).await {
            // A full batch means that there may be more.
            Ok(looked_up) if looked_up == usize::from(limit) && !shutdown.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "payments cannot be looked up, trying again"),
        }
        if pause(interval, &shutdown).await {
            return;
        }
    }
}
