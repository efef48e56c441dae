//! The webhook worker: makes deliveries of events, and delivers them to the merchant's endpoints. Any number of processes may do
//! so at a time: each takes what no other has claimed.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    bounded::{STEP, bounded},
    pause,
};
use crate::{
    app::{App, DueWebhook, WebhookSchedule},
    config::WebhookWorker,
};

mod metrics;

/// How often what is left of endpoints that are no more is canceled, and monitoring is told how things stand.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Makes deliveries of events, as they come.
pub(super) async fn fan_out(app: App, settings: WebhookWorker, shutdown: CancellationToken) {
    let interval = Duration::from_millis(settings.interval_ms);
    loop {
        match bounded(STEP, app.fan_out_webhooks()).await {
            Ok(true) if !shutdown.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "events cannot become webhooks, trying again"),
        }
        if pause(interval, &shutdown).await {
            return;
        }
    }
}

/// Cancels what is left of endpoints that are no more, and tells monitoring how things stand.
pub(super) async fn keep_up(app: App, shutdown: CancellationToken) {
    metrics::describe();
    loop {
        match bounded(STEP, app.cancel_webhook_deliveries()).await {
            Ok(canceled) => {
                metrics::canceled(canceled);
                if canceled > 0 && !shutdown.is_cancelled() {
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "pending webhooks cannot be canceled, trying again"),
        }
        match bounded(STEP, app.webhook_backlog()).await {
            Ok(backlog) => metrics::stand(backlog),
            Err(error) => tracing::debug!(%error, "the webhooks cannot be looked at"),
        }
        if pause(UPKEEP_INTERVAL, &shutdown).await {
            return;
        }
    }
}

/// Delivers what is due. When it is told to stop, attempts that are under way are finished for as long as `drain`; the claims of
/// others run out, and they are made again.
pub(super) async fn deliver(app: App, settings: WebhookWorker, shutdown: CancellationToken, drain: Duration) {
    let interval = Duration::from_millis(settings.interval_ms);
    let schedule = Arc::new(WebhookSchedule {
        retry_seconds: settings.retry_seconds(),
        disable_after_days: settings.disable_after_days.into(),
    });
    let most = usize::from(settings.concurrency);
    let mut attempts = JoinSet::new();
    while !shutdown.is_cancelled() {
        while attempts.try_join_next().is_some() {}
        let mut claimed = 0;
        if attempts.len() < most {
            let claim = app.claim_webhooks(most - attempts.len(), settings.endpoint_concurrency);
            match bounded(STEP, claim).await {
                Ok(due) => {
                    claimed = due.len();
                    for due in due {
                        attempts.spawn(attempt(app.clone(), due, Arc::clone(&schedule)));
                    }
                }
                Err(error) => tracing::warn!(%error, "webhooks cannot be claimed, trying again"),
            }
        }
        // Whoever has room looks again soon; whoever has none when there is.
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(_) = attempts.join_next(), if claimed > 0 || attempts.len() >= most => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
    let finish = async { while attempts.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, finish).await.is_err() {
        tracing::warn!("webhooks were still under way: they are sent again");
    }
}

async fn attempt(app: App, due: DueWebhook, schedule: Arc<WebhookSchedule>) {
    match bounded(STEP, app.deliver_webhook(&due, &schedule)).await {
        Ok(attempted) => metrics::attempted(&attempted),
        // The claim runs out, and it is sent again.
        Err(error) => tracing::warn!(%error, "what came of a webhook was not recorded"),
    }
}
