//! What the program declares on a broker, as data.
//!
//! Owns every argument. Must not talk to a broker. Invariants: every queue that holds an event is a quorum queue; a message
//! leaves a queue only after the next place has stored it (at-least-once dead-lettering); every queue says how often a message
//! may come back, because brokers differ in what they take for granted; no queue of a consumer has a length at which it would
//! refuse an event for every other consumer too. The broker lets no argument of a queue change once it exists, so an argument is
//! only what must hold on every broker, and what may be tuned is a [`Policy`](super::policy::Policy).

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::topology::Topology;
use crate::{
    bus::{RetryTier, Subscription},
    domain::event::Topic,
};

/// Events that no consumer wants are normal: a type may have no consumer in this deployment. They are kept for a
/// look, not for delivery, so the queue forgets the oldest by number and by age instead of filling the disk.
pub(super) const UNROUTABLE_MAX_LENGTH: i64 = 10_000;
pub(super) const UNROUTABLE_TTL: Duration = Duration::from_hours(24);

/// Queues without a dead-letter exchange must not lose a message to the limit that newer brokers set by default.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Argument {
    /// A count, or milliseconds.
    Number(i64),
    /// A word or a name.
    Text(String),
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) if text.is_empty() => f.write_str("\"\""),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Arguments by their names.
pub type Arguments = BTreeMap<&'static str, Argument>;

/// An exchange. It is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `topic` or `fanout`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its arguments.
    pub arguments: Arguments,
}

/// A queue. It is durable, and neither exclusive nor deleted by the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub purpose: String,
    /// Its arguments.
    pub arguments: Arguments,
}

/// What brings messages from an exchange into a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binding {
    /// The exchange.
    pub source: String,
    /// The queue.
    pub destination: String,
    /// Which messages.
    pub routing_key: String,
}

/// All of it, in an order in which it can be declared: exchanges, queues, bindings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Definitions {
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
    /// The queues.
    pub queues: Vec<Queue>,
    /// The bindings.
    pub bindings: Vec<Binding>,
}

impl Definitions {
    /// What these subscriptions need.
    pub(super) fn new(topology: &Topology, subscriptions: &[Subscription]) -> Self {
        let mut definitions = Self::default();
        definitions.add_unroutable(topology);
        definitions.add_dead_letter(topology);
        for tier in RetryTier::ALL {
            definitions.add_tier(topology, tier);
        }
        for topic in Topic::ALL {
            let arguments = Arguments::from([("alternate-exchange", text(topology.unroutable()))]);
            let name = topology.exchange(topic);
            definitions.exchanges.push(Exchange { name, kind: "topic", arguments });
        }
        for subscription in subscriptions {
            definitions.add_subscription(topology, subscription);
        }
        definitions
    }

    fn add_unroutable(&mut self, topology: &Topology) {
        let mut arguments = quorum();
        arguments.insert("x-max-length", Argument::Number(UNROUTABLE_MAX_LENGTH));
        arguments.insert("x-overflow", text("drop-head"));
        arguments.insert("x-message-ttl", milliseconds(UNROUTABLE_TTL));
        self.add_end(topology.unroutable(), "events that no queue wants, kept for a look", arguments);
    }

    fn add_dead_letter(&mut self, topology: &Topology) {
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit", Argument::Number(NO_DELIVERY_LIMIT));
        let purpose = "what its consumer could not take, on its way to the table dead_letter";
        self.add_end(topology.dead_letter(), purpose, arguments);
    }

    /// One queue for each tier, because a time-out for each message would let a long one block the short ones behind
    /// it. What expires goes through the default exchange to the queue that its routing key names.
    fn add_tier(&mut self, topology: &Topology, tier: RetryTier) {
        let mut arguments = quorum();
        arguments.insert("x-message-ttl", milliseconds(tier.delay()));
        dead_letter_to(&mut arguments, "");
        let purpose = format!("retries that wait for {} s", tier.delay().as_secs());
        self.add_end(topology.retry(tier), &purpose, arguments);
    }

    /// A queue that gets everything from an exchange of the same name.
    fn add_end(&mut self, name: String, purpose: &str, arguments: Arguments) {
        self.exchanges.push(Exchange { name: name.clone(), kind: "fanout", arguments: Arguments::new() });
        self.queues.push(Queue { name: name.clone(), purpose: purpose.into(), arguments });
        self.bindings.push(Binding { source: name.clone(), destination: name, routing_key: String::new() });
    }

    /// A consumer's queue. Bindings of events that the consumer no longer wants stay: another version of it may still run.
    fn add_subscription(&mut self, topology: &Topology, subscription: &Subscription) {
        let name = topology.queue(subscription.consumer);
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit", Argument::Number(topology.delivery_limit().into()));
        dead_letter_to(&mut arguments, &topology.dead_letter());
        // Tells whose message it was.
        arguments.insert("x-dead-letter-routing-key", text(name.as_str()));
        let purpose = format!("events of the consumer {}", subscription.consumer);
        self.queues.push(Queue { name: name.clone(), purpose, arguments });
        self.bindings.extend(subscription.events.iter().map(|event| Binding {
            source: topology.exchange(event.topic()),
            destination: name.clone(),
            routing_key: event.as_str().to_owned(),
        }));
    }
}

fn quorum() -> Arguments {
    Arguments::from([("x-queue-type", text("quorum"))])
}

/// Dead-lettering that keeps the message until the target has stored it. The broker demands `reject-publish` for it.
fn dead_letter_to(arguments: &mut Arguments, exchange: &str) {
    arguments.insert("x-dead-letter-exchange", text(exchange));
    arguments.insert("x-dead-letter-strategy", text("at-least-once"));
    arguments.insert("x-overflow", text("reject-publish"));
}

fn text(value: impl Into<String>) -> Argument {
    Argument::Text(value.into())
}

fn milliseconds(duration: Duration) -> Argument {
    // Invariant: the longest is a day.
    Argument::Number(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::EventType;

    #[test]
    fn every_queue_is_a_quorum_queue_that_nothing_is_lost_from() {
        let topology = Topology::new("shop".into(), 7);
        let subscription = Subscription { consumer: "mail", events: &[EventType::OrderCreated] };
        let definitions = Definitions::new(&topology, &[subscription]);
        let names: Vec<&str> = definitions.queues.iter().map(|queue| queue.name.as_str()).collect();
        let tiers = ["shop.retry.1s", "shop.retry.5s", "shop.retry.30s", "shop.retry.5m", "shop.retry.30m"];
        assert_eq!(names, [&["shop.unroutable", "shop.dead-letter"][..], &tiers, &["shop.mail"]].concat());
        for queue in &definitions.queues {
            assert_eq!(queue.arguments["x-queue-type"].to_string(), "quorum", "{queue:?}");
            let bindings = definitions.bindings.iter().filter(|one| one.destination == queue.name);
            assert_eq!(bindings.count(), 1, "{queue:?}");
            // Whatever is dropped has another copy, but what nobody wants.
            if let Some(strategy) = queue.arguments.get("x-dead-letter-strategy") {
                assert_eq!(strategy.to_string(), "at-least-once");
                assert!(!queue.arguments.contains_key("x-max-length"), "{queue:?}");
            } else {
                assert!(["shop.unroutable", "shop.dead-letter"].contains(&queue.name.as_str()), "{queue:?}");
            }
        }
        assert_eq!(definitions.queues[7].arguments["x-delivery-limit"], Argument::Number(7));
        assert_eq!(definitions.queues[6].arguments["x-message-ttl"], Argument::Number(1_800_000));
    }
}
