//! The expiry worker: looks for orders whose time has run out, and expires them. Any number of processes may do so at a
//! time: each passes over the orders that another one works on.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::pause;
use crate::{
    app::{App, Cause},
    config::ExpiryWorker,
};

pub(super) async fn run(app: App, settings: ExpiryWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    let batch = i64::from(settings.batch);
    loop {
        match app.expire_orders(None, batch, &Cause::default()).await {
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
