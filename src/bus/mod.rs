//! The event bus: topics that events are published to, and consumers' queues that they are delivered from.
//!
//! At least once: an event that is confirmed is in every queue that wants it; it is delivered again until it is settled.
//! Nothing here knows what an event means. `worker::outbox_relay` is the only caller of [`EventBus::publish`], and
//! `worker::dead_letters` of [`EventBus::redeliver`].

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::domain::event::{Envelope, EventType};

mod deliveries;
mod rabbitmq;

pub use deliveries::{Deliveries, Next};
pub use rabbitmq::{
    Argument, Arguments, Binding, Definitions, Difference, Exchange, Found, Inspected, Policy, Queue,
    RabbitMqBus, RabbitMqOptions,
};

/// What became of one published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Stored, in every queue that wants it.
    Confirmed,
    /// No queue took it.
    Returned(String),
    /// The broker refused it.
    Nacked,
    /// No answer: it may be stored or not. Publish it again under the same id.
    Unknown(String),
}

/// The broker cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BusError {
    /// Not connected, or the connection broke, or an answer did not come in time.
    #[error("event bus is unavailable: {0}")]
    Unavailable(String),
    /// An exchange or a queue exists with other properties than ours: an operator must act.
    #[error("event bus topology is wrong: {0}")]
    Topology(String),
}

/// A named consumer and the events it wants. Each event reaches the consumer, whichever process takes it.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The consumer's name, also the name of its queue and its mark in the inbox.
    pub consumer: &'static str,
    /// The events it wants.
    pub events: &'static [EventType],
}

/// How long a delivery waits before it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryTier {
    /// One second.
    Second,
    /// Five seconds.
    FiveSeconds,
    /// Thirty seconds.
    HalfMinute,
    /// Five minutes.
    FiveMinutes,
    /// Half an hour.
    HalfHour,
}

impl RetryTier {
    /// Every tier, shortest first.
    pub const ALL: [Self; 5] =
        [Self::Second, Self::FiveSeconds, Self::HalfMinute, Self::FiveMinutes, Self::HalfHour];

    /// How long.
    pub const fn delay(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::FiveSeconds => 5,
            Self::HalfMinute => 30,
            Self::FiveMinutes => 300,
            Self::HalfHour => 1800,
        })
    }
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Its effect is committed.
    Ack,
    /// Not now: deliver it again after the tier's delay, with `attempt` one higher.
    Retry(RetryTier),
    /// Untouched: deliver it again at once, to anybody (the process is draining). Brokers before 4.3 count it as a delivery
    /// that failed, as they count everything that comes back.
    Release,
}

/// One event on its way to a consumer.
#[derive(Debug)]
pub struct Delivery {
    /// The event, or why these bytes are not one.
    pub envelope: Result<Envelope, String>,
    /// The raw body, for the dead-letter table.
    pub body: Vec<u8>,
    /// 1 the first time; grows with every retry and every redelivery that the broker counts.
    pub attempt: u32,
    /// How often the broker has taken it back unsettled: from processes that died, lost their connection, or gave it back.
    pub redeliveries: u32,
    /// Whether it was sent to be handled alone.
    pub is_isolated: bool,
    /// Settles it. Dropping it unsettled makes the broker deliver it again.
    pub settle: Box<dyn Settle>,
}

/// The end of one delivery.
#[async_trait]
pub trait Settle: Send + Sync + fmt::Debug {
    /// Settles the delivery. An error means that it will come again, which the inbox makes harmless.
    async fn settle(self: Box<Self>, settlement: Settlement) -> Result<(), BusError>;
}

/// A message that the broker gave up on (its delivery limit was passed), waiting to be stored in PostgreSQL.
#[derive(Debug)]
pub struct DeadDelivery {
    /// The consumer that could not take it.
    pub consumer: String,
    /// Why, as the broker says it.
    pub reason: String,
    /// The message.
    pub delivery: Delivery,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// Its name, without what all names begin with.
    pub queue: String,
    /// Messages that are ready to be delivered.
    pub messages: u32,
    /// Who consumes from it.
    pub consumers: u32,
}

/// Publishes and delivers events. One for each process; safe to share.
#[async_trait]
pub trait EventBus: Send + Sync + fmt::Debug {
    /// Makes the exchanges and queues that are missing, for these consumers; says which one differs if one does.
    async fn declare(&self, subscriptions: &[Subscription]) -> Result<(), BusError>;

    /// Publishes a window of events, in order, and waits for the outcome of every one: `outcomes[i]` is of `events[i]`.
    /// An error means that the outcome of all is unknown.
    async fn publish(&self, events: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError>;

    /// Sends an event to one consumer alone, once more, as its first attempt, and waits for the outcome. `is_isolated`: it is
    /// to be handled alone.
    async fn redeliver(
        &self,
        consumer: &str,
        event: &Envelope,
        is_isolated: bool,
    ) -> Result<PublishOutcome, BusError>;

    /// Delivers what `subscription` wants, at most `prefetch` unsettled at a time, until the deliveries are dropped.
    /// Reconnects by itself, for ever, with back-off.
    async fn subscribe(&self, subscription: &Subscription, prefetch: u16) -> Deliveries;

    /// Delivers the messages that the broker gave up on, for every consumer.
    async fn subscribe_dead(&self) -> Deliveries<DeadDelivery>;

    /// Whether the broker takes messages now: an answer within `timeout`.
    async fn ping(&self, timeout: Duration) -> Result<(), BusError>;

    /// How the queues stand that this process knows.
    async fn measure_queues(&self) -> Result<Vec<QueueDepth>, BusError>;

    /// Closes the connections. Deliveries that are not settled come again elsewhere.
    async fn close(&self);
}
