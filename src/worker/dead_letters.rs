//! Stores in PostgreSQL what the broker gave up on: messages that were delivered again and again without being settled,
//! most likely because they killed the process that handled them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::runner::bury;
use crate::{app::App, bus::EventBus};

pub(super) async fn run(app: App, bus: Arc<dyn EventBus>, shutdown: CancellationToken) {
    let mut letters = bus.subscribe_dead().await;
    loop {
        let letter = tokio::select! {
            () = shutdown.cancelled() => return,
            letter = letters.recv() => letter,
        };
        let Some(letter) = letter else { return };
        let delivery = letter.delivery;
        let envelope = delivery.envelope.as_ref().ok();
        let reason = format!("given up by the broker: {}", letter.reason);
        let settlement =
            bury(&app, &letter.consumer, envelope, &delivery.body, &reason, delivery.attempt).await;
        if let Err(error) = delivery.settle.settle(settlement).await {
            tracing::info!(%error, "a dead letter was not settled: it comes again");
        }
    }
}
