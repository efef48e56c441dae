//! The names of exchanges and queues, and how they are declared.
//!
//! Owns every name; [`definitions`](super::definitions) has the rest. Must not publish or consume. Invariants: declaring is
//! idempotent and deletes nothing; what is there with other properties is named with the difference, and that is
//! [`BusError::Topology`].
//!
//! ```text
//! <prefix>.orders|payments|inventory ──type──▶ <prefix>.<consumer> ──limit passed──▶ <prefix>.dead-letter
//!          │ nobody wants it                       ▲      │ retry
//!          ▼                                       │      ▼
//! <prefix>.unroutable                              └── <prefix>.retry.1s|5s|30s|5m|30m
//! ```

use std::sync::{Mutex, PoisonError};

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::time::timeout;

use super::{
    connection::{REQUEST_TIMEOUT, describe},
    definitions::{Argument, Arguments, Binding, Definitions, Exchange, Queue},
    difference::Difference,
};
use crate::{
    bus::{BusError, RetryTier, Subscription},
    domain::event::Topic,
};

/// The names of one deployment, and the subscriptions that this process has asked for.
#[derive(Debug)]
pub(super) struct Topology {
    prefix: String,
    delivery_limit: u32,
    /// Declared again with the first channel of every connection: a broker that lost its data gets its queues back before the first
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
            RetryTier::HalfHour => "retry.30m",
        })
    }

    /// The exchange and the queue of messages whose delivery limit was passed.
    pub(super) fn dead_letter(&self) -> String {
        self.name("dead-letter")
    }

    /// The exchange and the queue of events that no consumer wants.
    pub(super) fn unroutable(&self) -> String {
        self.name("unroutable")
    }

    /// Every queue that this process knows.
    pub(super) fn queues(&self) -> Vec<String> {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let consumers = subscriptions.iter().map(|subscription| self.queue(subscription.consumer));
        let retries = RetryTier::ALL.into_iter().map(|tier| self.retry(tier));
        consumers.chain(retries).chain([self.dead_letter(), self.unroutable()]).collect()
    }

    /// How often the broker redelivers a message of a consumer.
    pub(super) fn delivery_limit(&self) -> u32 {
        self.delivery_limit
    }

    pub(super) fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.prefix)
    }

    /// Declares everything that this process needs.
    pub(super) async fn declare(&self, channel: &Channel) -> Result<(), BusError> {
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        declare_all(channel, &Definitions::new(self, &subscriptions)).await
    }

    /// Declares what one queue needs, so that a wrong queue of another consumer does not stop this one.
    pub(super) async fn declare_for(&self, channel: &Channel, queue: &str) -> Result<(), BusError> {
        let mut subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        subscriptions.retain(|subscription| self.queue(subscription.consumer) == queue);
        declare_all(channel, &Definitions::new(self, &subscriptions)).await
    }
}

async fn declare_all(channel: &Channel, definitions: &Definitions) -> Result<(), BusError> {
    for exchange in &definitions.exchanges {
        let answer = declare_exchange(channel, exchange, false).await;
        answer.map_err(|refusal| refusal.into_error("exchange", &exchange.name))?;
    }
    for queue in &definitions.queues {
        let answer = declare_queue(channel, queue, false).await;
        answer.map_err(|refusal| refusal.into_error("queue", &queue.name))?;
    }
    for binding in &definitions.bindings {
        bind(channel, binding).await?;
    }
    Ok(())
}

/// Why something could not be declared.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not there, and was to be.
    Missing,
    /// It is there, and a property differs.
    Different(Difference),
    /// It is there for somebody else, as the broker says it: an operator must act.
    Forbidden(String),
    /// No answer, or none that says anything about it.
    Unavailable(String),
}

impl Refusal {
    fn of(error: &lapin::Error) -> Self {
        let text = describe(error);
        let ErrorKind::ProtocolError(protocol) = error.kind() else { return Self::Unavailable(text) };
        match protocol.get_id() {
            404 => Self::Missing,
            406 => Difference::read(&text).map_or(Self::Forbidden(text), Self::Different),
            // Not ours to touch, of another connection, an exchange of another type.
            403 | 405 | 530 => Self::Forbidden(text),
            _ => Self::Unavailable(text),
        }
    }

    pub(super) fn into_error(self, object: &str, name: &str) -> BusError {
        match self {
            Self::Missing => BusError::Unavailable(format!("{object} {name} is missing")),
            Self::Different(difference) => BusError::Topology(format!(
                "{object} {name}: {difference}. {}",
                difference.remedy(object, name)
            )),
            Self::Forbidden(text) => BusError::Topology(format!("{object} {name}: {text}")),
            Self::Unavailable(text) => BusError::Unavailable(format!("{object} {name}: {text}")),
        }
    }
}

/// Declares an exchange; passive, it asks only whether there is one of this name.
pub(super) async fn declare_exchange(
    channel: &Channel,
    exchange: &Exchange,
    passive: bool,
) -> Result<(), Refusal> {
    let options = ExchangeDeclareOptions { durable: true, passive, ..Default::default() };
    let kind = ExchangeKind::Custom(exchange.kind.to_owned());
    let name = short(&exchange.name).map_err(|error| Refusal::Forbidden(error.to_string()))?;
    answered(channel.exchange_declare(name, kind, options, table(&exchange.arguments))).await
}

/// Declares a queue; passive, it asks only whether there is one of this name.
pub(super) async fn declare_queue(channel: &Channel, queue: &Queue, passive: bool) -> Result<(), Refusal> {
    let options = QueueDeclareOptions { durable: true, passive, ..Default::default() };
    let name = short(&queue.name).map_err(|error| Refusal::Forbidden(error.to_string()))?;
    answered(channel.queue_declare(name, options, table(&queue.arguments))).await.map(drop)
}

/// Makes a binding, or finds it there: AMQP does not say which.
pub(super) async fn bind(channel: &Channel, binding: &Binding) -> Result<(), BusError> {
    let Binding { source, destination, routing_key } = binding;
    let answer = channel.queue_bind(
        short(destination)?,
        short(source)?,
        short(routing_key)?,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    let name = format!("of queue {destination} to exchange {source}");
    answered(answer).await.map_err(|refusal| refusal.into_error("binding", &name))
}

async fn answered<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Refusal> {
    match timeout(REQUEST_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| Refusal::of(&error)),
        Err(_) => Err(Refusal::Unavailable(format!("no answer in {REQUEST_TIMEOUT:?}"))),
    }
}

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            Argument::Number(number) => (*number).into(),
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
        };
        table.insert((*name).into(), value);
    }
    table
}

/// A name as AMQP carries it: at most 255 bytes.
pub(super) fn short(name: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(name).map_err(|_| BusError::Topology(format!("{name}: longer than 255 bytes")))
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
