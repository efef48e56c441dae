//! What an operator may tune of the queues, as policies of RabbitMQ.
//!
//! Owns their names, patterns and proposed values. Must not hold what the guarantees need: those are arguments. Invariants: one
//! policy takes effect on a queue, so the patterns here meet no queue twice, and each has everything for its queues; of a limit
//! that is an argument and a policy the lower one counts, so that a policy can make it stricter and never lift it.
//!
//! AMQP knows no policies: who administers the broker sets them.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    definitions::{Argument, UNROUTABLE_MAX_LENGTH, UNROUTABLE_TTL},
    topology::Topology,
};
use crate::bus::{RetryTier, Subscription};

/// At most so many bytes of events that nobody wants, on each node.
const UNROUTABLE_MAX_BYTES: i64 = 64 * 1024 * 1024;

/// A policy for some of the queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Where its queues are.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// A regular expression of names of queues.
    pub pattern: String,
    /// What it sets.
    pub definition: BTreeMap<&'static str, Argument>,
    /// Above that of a policy for everything, which has usually 0.
    pub priority: u8,
    /// `queues`.
    #[serde(rename = "apply-to")]
    pub apply_to: &'static str,
    /// What its values mean.
    pub about: &'static str,
    /// The queues of this program that it is for.
    pub queues: Vec<String>,
}

impl Policy {
    /// The policies for what these subscriptions need.
    pub(super) fn all(topology: &Topology, vhost: &str, subscriptions: &[Subscription]) -> Vec<Self> {
        let new = |name: &str, about, queues: Vec<String>, tuned: &[(&'static str, i64)]| {
            let mut definition: BTreeMap<_, _> =
                tuned.iter().map(|(name, value)| (*name, Argument::Number(*value))).collect();
            definition.insert("queue-leader-locator", Argument::Text("balanced".into()));
            let names: Vec<String> = queues.iter().map(|name| escaped(name)).collect();
            let pattern = format!("^({})$", names.join("|"));
            let (vhost, name) = (vhost.to_owned(), topology.name(name));
            Self { vhost, name, pattern, definition, priority: 1, apply_to: "queues", about, queues }
        };
        let consumers = subscriptions.iter().map(|one| topology.queue(one.consumer)).collect();
        let limit = i64::from(topology.delivery_limit());
        let delays = RetryTier::ALL.iter().map(|tier| topology.retry(*tier)).chain([topology.dead_letter()]);
        let ttl = i64::try_from(UNROUTABLE_TTL.as_millis()).unwrap_or(i64::MAX);
        vec![
            new(
                "consumers",
                "delivery-limit: after how many failed deliveries a message is a dead letter. Lower values count at once.",
                consumers,
                &[("delivery-limit", limit)],
            ),
            new(
                "waiting",
                "Nothing but where their leaders are: a limit here would lose what waits for its next try.",
                delays.collect(),
                &[],
            ),
            new(
                "unroutable",
                "How many events that nobody wants are kept, how many bytes of them, and for how many milliseconds.",
                vec![topology.unroutable()],
                &[
                    ("max-length", UNROUTABLE_MAX_LENGTH),
                    ("max-length-bytes", UNROUTABLE_MAX_BYTES),
                    ("message-ttl", ttl),
                ],
            ),
        ]
    }
}

/// The command that sets it.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let definition = serde_json::to_string(&self.definition).map_err(|_| fmt::Error)?;
        write!(
            f,
            "rabbitmqctl set_policy --vhost {} --priority {} --apply-to {} {} {} {}",
            quoted(&self.vhost),
            self.priority,
            self.apply_to,
            quoted(&self.name),
            quoted(&self.pattern),
            quoted(&definition)
        )
    }
}

/// A word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// As a regular expression that means itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::rabbitmq::definitions::Definitions, domain::event::EventType};

    #[test]
    fn each_queue_has_one_policy_and_only_what_may_be_lost_has_a_length() {
        let topology = Topology::new("shop.eu".into(), 7);
        let subscriptions = [Subscription { consumer: "mail", events: &[EventType::OrderCreated] }];
        let policies = Policy::all(&topology, "/", &subscriptions);
        let definitions = Definitions::new(&topology, &subscriptions);
        for queue in &definitions.queues {
            let of_it: Vec<&Policy> =
                policies.iter().filter(|policy| policy.queues.contains(&queue.name)).collect();
            let [policy] = of_it.as_slice() else { panic!("{}: {of_it:?}", queue.name) };
            let has_length = policy.definition.keys().any(|key| key.starts_with("max-"));
            assert_eq!(has_length, queue.name == "shop.eu.unroutable");
        }
        let all: usize = policies.iter().map(|policy| policy.queues.len()).sum();
        assert_eq!(all, definitions.queues.len());
        assert_eq!(
            policies[0].to_string(),
            r#"rabbitmqctl set_policy --vhost '/' --priority 1 --apply-to queues 'shop.eu.consumers' '^(shop\.eu\.mail)$' '{"delivery-limit":7,"queue-leader-locator":"balanced"}'"#
        );
    }

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
