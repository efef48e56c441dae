//! The exchanges and queues, and what each is for.
//!
//! Owns every name and every argument. Must not publish or consume. Invariants: declaring is idempotent; every queue
//! that holds an event is a quorum queue; a message leaves a queue only after the next place has stored it
//! (at-least-once dead-lettering). Arguments of a queue never change once it exists, so a change of one here needs a
//! new queue name or an operator: the broker refuses it, and that is [`BusError::Topology`].
//!
//! ```text
//! <prefix>.orders|payments|inventory ──type──▶ <prefix>.<consumer> ──limit passed──▶ <prefix>.dead-letter
//!          │ nobody wants it                       ▲      │ retry
//!          ▼                                       │      ▼
//! <prefix>.unroutable                              └── <prefix>.retry.1s|5s|30s|5m
//! ```

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::connection::{REQUEST_TIMEOUT, describe};
use crate::{
    bus::{BusError, RetryTier, Subscription},
    domain::event::Topic,
};

/// Events that no consumer wants are normal: a type may have no consumer in this deployment. They are kept for a
/// look, not for delivery, so the queue forgets the oldest by number and by age instead of filling the disk.
const UNROUTABLE_MAX_LENGTH: i64 = 10_000;
const UNROUTABLE_TTL: Duration = Duration::from_hours(24);

/// Queues without a dead-letter exchange must not lose a message to the limit that newer brokers set by default.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The names of one deployment, and the subscriptions that this process has asked for.
#[derive(Debug)]
pub(super) struct Topology {
    prefix: String,
    delivery_limit: u32,
    /// Declared again with every new connection: a broker that lost its data gets its queues back before the first
    /// event, which otherwise nobody would receive.
    subscriptions: Mutex<Vec<Subscription>>,
}

impl Topology {
    pub(super) fn new(prefix: String, delivery_limit: u32) -> Self {
        Self { prefix, delivery_limit, subscriptions: Mutex::default() }
    }

    /// Remembers a subscription.
    pub(super) fn add(&self, subscription: Subscription) {
        let mut known = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| other.consumer != subscription.consumer);
        known.push(subscription);
    }

    /// The exchange that events of this topic are published to.
    pub(super) fn exchange(&self, topic: Topic) -> String {
        self.name(topic.as_str())
    }

    /// The queue of a consumer.
    pub(super) fn queue(&self, consumer: &str) -> String {
        self.name(consumer)
    }

    /// The consumer of a queue.
    pub(super) fn consumer<'a>(&self, queue: &'a str) -> &'a str {
        queue.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or(queue)
    }

    /// The exchange and the queue of a tier.
    pub(super) fn retry(&self, tier: RetryTier) -> String {
        self.name(match tier {
            RetryTier::Second => "retry.1s",
            RetryTier::FiveSeconds => "retry.5s",
            RetryTier::HalfMinute => "retry.30s",
            RetryTier::FiveMinutes => "retry.5m",
        })
    }

    /// The exchange and the queue of messages whose delivery limit was passed.
    pub(super) fn dead_letter(&self) -> String {
        self.name("dead-letter")
    }

    /// The exchange and the queue of events that no consumer wants.
    fn unroutable(&self) -> String {
        self.name("unroutable")
    }

    /// Every queue that this process knows.
    pub(super) fn queues(&self) -> Vec<String> {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let consumers = subscriptions.iter().map(|subscription| self.queue(subscription.consumer));
        let retries = RetryTier::ALL.into_iter().map(|tier| self.retry(tier));
        consumers.chain(retries).chain([self.dead_letter(), self.unroutable()]).collect()
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.prefix)
    }

    /// Declares everything that this process needs.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), BusError> {
        let declare = Declare { channel };
        self.declare_shared(&declare).await?;
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for subscription in subscriptions {
            self.declare_subscription(&declare, &subscription).await?;
        }
        Ok(())
    }

    /// Declares what one queue needs, so that a wrong queue of another consumer does not stop this one.
    pub(super) async fn declare_for(&self, channel: &Channel, queue: &str) -> Result<(), BusError> {
        let declare = Declare { channel };
        self.declare_shared(&declare).await?;
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match subscriptions.iter().find(|subscription| self.queue(subscription.consumer) == queue) {
            Some(subscription) => self.declare_subscription(&declare, subscription).await,
            None => Ok(()),
        }
    }

    /// What all subscriptions share.
    async fn declare_shared(&self, declare: &Declare<'_>) -> Result<(), BusError> {
        self.declare_ends(declare).await?;
        self.declare_retries(declare).await?;
        let mut unroutable = FieldTable::default();
        unroutable.insert("alternate-exchange".into(), text(self.unroutable()));
        for topic in Topic::ALL {
            declare.exchange(&self.exchange(topic), ExchangeKind::Topic, unroutable.clone()).await?;
        }
        Ok(())
    }

    /// Where messages go that cannot go on.
    async fn declare_ends(&self, declare: &Declare<'_>) -> Result<(), BusError> {
        let unroutable = self.unroutable();
        declare.exchange(&unroutable, ExchangeKind::Fanout, FieldTable::default()).await?;
        let mut arguments = quorum();
        arguments.insert("x-max-length".into(), UNROUTABLE_MAX_LENGTH.into());
        arguments.insert("x-overflow".into(), text("drop-head"));
        arguments.insert("x-message-ttl".into(), milliseconds(UNROUTABLE_TTL));
        declare.queue(&unroutable, arguments).await?;
        declare.bind(&unroutable, &unroutable, "").await?;

        let dead_letter = self.dead_letter();
        declare.exchange(&dead_letter, ExchangeKind::Fanout, FieldTable::default()).await?;
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), NO_DELIVERY_LIMIT.into());
        declare.queue(&dead_letter, arguments).await?;
        declare.bind(&dead_letter, &dead_letter, "").await
    }

    /// One queue for each tier, because a time-out for each message would let a long one block the short ones behind
    /// it. What expires goes through the default exchange to the queue that its routing key names.
    async fn declare_retries(&self, declare: &Declare<'_>) -> Result<(), BusError> {
        for tier in RetryTier::ALL {
            let name = self.retry(tier);
            declare.exchange(&name, ExchangeKind::Fanout, FieldTable::default()).await?;
            let mut arguments = quorum();
            arguments.insert("x-message-ttl".into(), milliseconds(tier.delay()));
            dead_letter_to(&mut arguments, "");
            declare.queue(&name, arguments).await?;
            declare.bind(&name, &name, "").await?;
        }
        Ok(())
    }

    /// A consumer's queue. No maximum length: a full queue would refuse the event for every other consumer too.
    /// Bindings of events that the consumer no longer wants stay: another version of it may still run.
    async fn declare_subscription(
        &self,
        declare: &Declare<'_>,
        subscription: &Subscription,
    ) -> Result<(), BusError> {
        let queue = self.queue(subscription.consumer);
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), i64::from(self.delivery_limit).into());
        dead_letter_to(&mut arguments, &self.dead_letter());
        // Tells whose message it was.
        arguments.insert("x-dead-letter-routing-key".into(), text(queue.as_str()));
        declare.queue(&queue, arguments).await?;
        for event in subscription.events {
            declare.bind(&queue, &self.exchange(event.topic()), event.as_str()).await?;
        }
        Ok(())
    }
}

/// Declares one object at a time, and says which one it was if that fails.
struct Declare<'a> {
    channel: &'a Channel,
}

impl Declare<'_> {
    async fn exchange(&self, name: &str, kind: ExchangeKind, arguments: FieldTable) -> Result<(), BusError> {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let answer = self.channel.exchange_declare(short(name)?, kind, options, arguments);
        checked(&format!("exchange {name}"), answer).await
    }

    async fn queue(&self, name: &str, arguments: FieldTable) -> Result<(), BusError> {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let answer = self.channel.queue_declare(short(name)?, options, arguments);
        checked(&format!("queue {name}"), answer).await.map(drop)
    }

    async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) -> Result<(), BusError> {
        let answer = self.channel.queue_bind(
            short(queue)?,
            short(exchange)?,
            short(routing_key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        checked(&format!("binding of queue {queue} to exchange {exchange}"), answer).await
    }
}

async fn checked<T>(what: &str, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, BusError> {
    match timeout(REQUEST_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let text = format!("{what}: {}", describe(&error));
            Err(if is_mismatch(&error) { BusError::Topology(text) } else { BusError::Unavailable(text) })
        }
        Err(_) => Err(BusError::Unavailable(format!("{what}: no answer in {REQUEST_TIMEOUT:?}"))),
    }
}

/// Whether an operator must act: it exists with other properties (406), belongs to another connection (405), is not
/// ours to touch (403), or the exchange is of another type (530).
fn is_mismatch(error: &lapin::Error) -> bool {
    const OPERATOR_CODES: [u16; 4] = [403, 405, 406, 530];
    matches!(error.kind(), ErrorKind::ProtocolError(error) if OPERATOR_CODES.contains(&error.get_id()))
}

/// A name as AMQP carries it: at most 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(name).map_err(|_| BusError::Topology(format!("{name}: longer than 255 bytes")))
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// Dead-lettering that keeps the message until the target has stored it. The broker demands `reject-publish` for it.
fn dead_letter_to(arguments: &mut FieldTable, exchange: &str) {
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
}

fn text(value: impl Into<String>) -> AMQPValue {
    AMQPValue::LongString(value.into().into())
}

fn milliseconds(duration: Duration) -> AMQPValue {
    // Invariant: the longest is a day.
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_names_its_consumer() {
        let topology = Topology::new("shop.eu".into(), 10);
        assert_eq!(topology.consumer(&topology.queue("payment")), "payment");
        assert_eq!(topology.consumer("other"), "other");
    }
}
