//! Private RabbitMQ brokers, and the events and deliveries of a test.
//!
//! Two brokers serve the whole run, because starting one takes seconds: the shared one that nobody disturbs, where each
//! test has its own prefix, and one that tests break, one at a time.

use std::{sync::LazyLock, time::Duration};

use devstack::{Stack, StackOptions};
use holdfast::{
    bus::{Deliveries, Delivery, EventBus, PublishOutcome, RabbitMqBus, RabbitMqOptions, Settlement},
    domain::{
        event::{Envelope, EventType, example},
        ids::EventId,
    },
};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{events, stack};

/// Longer than anything takes here; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the broker in its stack.
pub(crate) const BROKER: &str = "rabbitmq";

/// The broker that nobody disturbs.
pub(crate) fn shared() -> &'static Stack {
    stack::shared()
}

/// The broker that the caller may break, and must leave running.
pub(crate) async fn fragile() -> MutexGuard<'static, Stack> {
    static FRAGILE: LazyLock<Mutex<Stack>> = LazyLock::new(|| Mutex::new(start()));
    FRAGILE.lock().await
}

fn start() -> Stack {
    stack::start(StackOptions { postgres: false, zookeeper_nodes: 0, ..StackOptions::default() })
}

/// Options for a bus on this broker, under a prefix of its own.
pub(crate) fn options(stack: &Stack) -> RabbitMqOptions {
    RabbitMqOptions {
        urls: stack.addresses().amqp_urls.clone(),
        prefix: format!("test-{}", EventId::new()),
        ..RabbitMqOptions::default()
    }
}

/// A bus on the broker that nobody disturbs.
pub(crate) fn bus() -> RabbitMqBus {
    RabbitMqBus::new(options(shared()))
}

/// A channel of the test's own, to look at the broker past the bus.
pub(crate) async fn channel(stack: &Stack) -> (Connection, Channel) {
    let connection = Connection::connect(&stack.addresses().amqp_urls[0], ConnectionProperties::default());
    let connection = connection.await.expect("the broker is up");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// An event of this type.
pub(crate) fn event(event_type: EventType, sequence: i64) -> Envelope {
    Envelope { id: EventId::new(), sequence, ..example(event_type) }
}

/// Events of this type, 1 to `count`.
pub(crate) fn events(event_type: EventType, count: i64) -> Vec<Envelope> {
    (1..=count).map(|sequence| event(event_type, sequence)).collect()
}

/// Publishes, and insists that all of it is stored.
pub(crate) async fn publish(bus: &dyn EventBus, events: &[Envelope]) {
    let outcomes = bus.publish(events).await.expect("the broker is up");
    assert_eq!(outcomes, vec![PublishOutcome::Confirmed; events.len()]);
}

/// The next delivery.
pub(crate) async fn next<T>(deliveries: &mut Deliveries<T>) -> T {
    let delivery = tokio::time::timeout(PATIENCE, deliveries.recv()).await.expect("a delivery in time");
    delivery.expect("the subscription goes on")
}

/// That nothing more is delivered.
pub(crate) async fn nothing<T: std::fmt::Debug>(deliveries: &mut Deliveries<T>) {
    let delivery = tokio::time::timeout(Duration::from_millis(300), deliveries.recv()).await;
    assert!(delivery.is_err(), "unexpected: {delivery:?}");
}

/// Acknowledges the delivery and returns its event.
pub(crate) async fn take(delivery: Delivery) -> Envelope {
    delivery.settle.settle(Settlement::Ack).await.expect("the acknowledgement is sent");
    let event = delivery.envelope.expect("an event");
    events::assert_fits(&event);
    event
}

/// A queue that has room for one message, and makes the broker refuse every other one.
pub(crate) struct FullQueue {
    channel: Channel,
    name: String,
}

/// Binds such a queue to the events of this type that are published under a prefix.
pub(crate) async fn reject_all_but_one(stack: &Stack, prefix: &str, event_type: &str) -> FullQueue {
    let (connection, channel) = channel(stack).await;
    // The channel outlives the handle of its connection.
    drop(connection);
    let name = format!("{prefix}.full");
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), 1_i64.into());
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let declared = channel.queue_declare(name.as_str().into(), QueueDeclareOptions::default(), arguments);
    declared.await.expect("a new queue");
    let exchange = format!("{prefix}.orders").into();
    let options = QueueBindOptions::default();
    let bound =
        channel.queue_bind(name.as_str().into(), exchange, event_type.into(), options, FieldTable::default());
    bound.await.expect("a binding");
    FullQueue { channel, name }
}

impl FullQueue {
    /// From now on nothing is refused.
    pub(crate) async fn delete(self) {
        let deleted = self.channel.queue_delete(self.name.into(), QueueDeleteOptions::default());
        deleted.await.expect("it was there");
    }
}
