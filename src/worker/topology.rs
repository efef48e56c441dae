//! Keeps what the events need on the broker in place. A queue or a binding that somebody has deleted takes no event, and the broker
//! confirms those that it would have taken all the same: they lie aside, and `holdfast audit` misses them.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{pause, subscriptions};
use crate::bus::{BusError, EventBus};

/// How long a binding that was deleted may be missing at most.
const INTERVAL: Duration = Duration::from_secs(10);

/// Tries until the topology stands, because every worker relies on it.
pub(super) async fn declare(bus: &dyn EventBus, shutdown: &CancellationToken) {
    while let Err(error) = bus.declare(&subscriptions()).await {
        tracing::error!(%error, "the topology cannot be declared, trying again");
        if pause(Duration::from_secs(1), shutdown).await {
            return;
        }
    }
}

/// Declares it again and again: what is there stays as it is.
pub(super) async fn keep(bus: Arc<dyn EventBus>, shutdown: CancellationToken) {
    let mut is_told = false;
    while !pause(INTERVAL, &shutdown).await {
        let Some(declared) = shutdown.run_until_cancelled(bus.declare(&subscriptions())).await else {
            return;
        };
        match declared {
            Ok(()) => is_told = false,
            // Once: it lasts until somebody acts.
            Err(BusError::Topology(error)) if !is_told => {
                is_told = true;
                tracing::error!(error, "the topology is not as it was declared");
            }
            Err(error) => tracing::debug!(%error, "the topology cannot be declared, trying again"),
        }
    }
}
