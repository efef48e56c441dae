//! Tells monitoring how much waits in the broker's queues, and who consumes from them. Each relay looks, now and then; all tell
//! the same.

use std::{sync::Arc, time::Duration};

use metrics::{Unit, describe_gauge, gauge};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pause;
use crate::bus::{BusError, EventBus};

const INTERVAL: Duration = Duration::from_secs(10);

const MESSAGES: &str = "holdfast_queue_messages";
const CONSUMERS: &str = "holdfast_queue_consumers";

pub(super) async fn run(bus: Arc<dyn EventBus>, shutdown: CancellationToken) {
    describe_gauge!(MESSAGES, Unit::Count, "Messages that are ready in a queue of the broker.");
    describe_gauge!(CONSUMERS, Unit::Count, "Who consumes from a queue of the broker.");
    loop {
        let silent = |_| Err(BusError::Unavailable("no answer in time".into()));
        match timeout(INTERVAL, bus.measure_queues()).await.unwrap_or_else(silent) {
            Ok(depths) => {
                for depth in depths {
                    gauge!(MESSAGES, "queue" => depth.queue.clone()).set(depth.messages);
                    gauge!(CONSUMERS, "queue" => depth.queue).set(depth.consumers);
                }
            }
            Err(error) => tracing::debug!(%error, "the queues cannot be looked at"),
        }
        if pause(INTERVAL, &shutdown).await {
            return;
        }
    }
}
