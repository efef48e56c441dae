//! The end of one delivery.
//!
//! Owns the acknowledgement and the copy that a retry publishes. Must not read the event. Invariants: a retry
//! acknowledges the original only after the broker has confirmed the copy, so a crash between leaves two of them and
//! never none; whatever goes wrong, the message stays with the broker.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{
    Acker, BasicProperties,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    connection::{Backoff, request},
    envelope::{Message, for_attempt},
    publisher::Publisher,
    topology::Topology,
};
use crate::bus::{BusError, PublishOutcome, RetryTier, Settle, Settlement};

/// How long a message is kept that cannot be sent to its retry queue. Less than the half hour after which brokers close the
/// channel of a message that is not settled.
const HELD: Duration = Duration::from_mins(15);

/// Settles one message of one channel.
pub(super) struct RabbitMqSettle {
    pub(super) acker: Acker,
    pub(super) abandon: mpsc::UnboundedSender<Acker>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) topology: Arc<Topology>,
    /// Where a retry comes back to.
    pub(super) queue: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    pub(super) attempt: u32,
}

impl fmt::Debug for RabbitMqSettle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMqSettle").field("queue", &self.queue).finish_non_exhaustive()
    }
}

#[async_trait]
impl Settle for RabbitMqSettle {
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<(), BusError> {
        match settlement {
            Settlement::Ack => self.ack().await,
            Settlement::Release => self.requeue().await,
            Settlement::Retry(tier) => match self.publish_copy(tier).await {
                Ok(()) => self.ack().await,
                Err(error) => {
                    self.requeue().await?;
                    Err(error)
                }
            },
        }
    }
}

impl RabbitMqSettle {
    async fn ack(&self) -> Result<(), BusError> {
        sent(request("acknowledge a message", self.acker.ack(BasicAckOptions::default())).await?)
    }

    /// Brokers before 4.3 count this towards the delivery limit.
    async fn requeue(&self) -> Result<(), BusError> {
        let options = BasicNackOptions { requeue: true, ..Default::default() };
        sent(request("give a message back", self.acker.nack(options)).await?)
    }

    /// Tries on while the broker takes no messages, with the original in hand: given back it would come again at once, and
    /// each time count towards its delivery limit.
    async fn publish_copy(&self, tier: RetryTier) -> Result<(), BusError> {
        let copy = Message {
            exchange: self.topology.retry(tier),
            routing_key: self.queue.clone(),
            properties: for_attempt(&self.properties, self.attempt.saturating_add(1)),
            body: self.body.clone(),
        };
        let deadline = Instant::now() + HELD;
        let mut backoff = Backoff::default();
        loop {
            let error = match self.publisher.publish(vec![copy.clone()]).await.as_deref() {
                Ok([PublishOutcome::Confirmed]) => return Ok(()),
                Ok(outcomes) => BusError::Unavailable(format!("{}: {outcomes:?}", copy.exchange)),
                Err(error) => error.clone(),
            };
            // Once the channel is gone the broker delivers the original again, to whoever is there.
            if Instant::now() >= deadline || !self.acker.usable() {
                return Err(error);
            }
            sleep(backoff.next()).await;
        }
    }
}

impl Drop for RabbitMqSettle {
    fn drop(&mut self) {
        if self.acker.usable() {
            // Nobody listens any more once the channel is closed, and then the broker has the message back.
            let _ = self.abandon.send(self.acker.clone());
        }
    }
}

/// The library answers `false` for a message of a channel that is gone.
fn sent(sent: bool) -> Result<(), BusError> {
    if sent { Ok(()) } else { Err(BusError::Unavailable("the channel of the message is gone".into())) }
}
