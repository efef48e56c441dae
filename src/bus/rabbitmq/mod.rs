//! The event bus on RabbitMQ.
//!
//! Owns the two connections of the process: publishing and consuming are apart, because a broker that is low on
//! memory or disk blocks the connections that publish, and a consumer must still be able to acknowledge. Must not
//! know what an event means. Invariants: nothing connects before it is used; an event is reported as confirmed only
//! if every queue that wants it has stored it; a message leaves a consumer's queue only by its settlement.
//!
//! [`connection`] makes connections, [`monitor`] tells of them and makes them again, [`definitions`] says what there is on the broker, [`topology`] names and declares it,
//! [`inspect`] compares it, [`policy`] is what an operator may tune, [`envelope`] translates, [`publisher`] publishes,
//! [`consumer`] consumes, [`settle`] ends a delivery, [`trace`] follows an event on its way, [`depths`] looks at the queues, [`asyncapi`] tells consumers of all this.

mod asyncapi;
mod connection;
mod consumer;
mod definitions;
mod depths;
mod difference;
mod envelope;
mod inspect;
mod monitor;
mod policy;
mod publisher;
mod settle;
mod topology;
mod trace;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use lapin::{Acker, message::Delivery as Message, uri::AMQPUri};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    connection::{CLOSE_TIMEOUT, Link, LinkOptions, request},
    consumer::Supervisor,
    publisher::Publisher,
    settle::RabbitMqSettle,
    topology::Topology,
};
pub use self::{
    definitions::{Argument, Arguments, Binding, Definitions, Exchange, Queue},
    difference::Difference,
    inspect::{Found, Inspected},
    policy::Policy,
};
use super::{
    BusError, DeadDelivery, Deliveries, Delivery, EventBus, PublishOutcome, QueueDepth, Subscription,
};
use crate::domain::event::Envelope;

/// Storing dead letters is one short transaction each; more in flight would not be faster.
const DEAD_PREFETCH: u16 = 16;

/// Where the broker is and how to use it.
#[derive(Clone)]
pub struct RabbitMqOptions {
    /// `amqp://user:password@host:port/vhost` of every node. They are tried in turn.
    pub urls: Vec<String>,
    /// What the names of all exchanges and queues begin with.
    pub prefix: String,
    /// How long the confirms of one window may take before its outcome counts as unknown.
    pub confirm_timeout: Duration,
    /// How often the two ends show that they live. Twice this without a sign ends a connection.
    pub heartbeat_seconds: u16,
    /// What the broker's list of connections shows.
    pub connection_name: String,
    /// How often the broker redelivers a message before it is a dead letter. Part of the queues once they exist.
    pub delivery_limit: u32,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            prefix: "holdfast".into(),
            confirm_timeout: Duration::from_secs(10),
            heartbeat_seconds: 10,
            connection_name: "holdfast".into(),
            delivery_limit: 10,
        }
    }
}

impl RabbitMqOptions {
    /// What the program declares for these consumers.
    pub fn definitions(&self, subscriptions: &[Subscription]) -> Definitions {
        Definitions::new(&self.topology(), subscriptions)
    }

    /// The policies by which an operator may tune the queues of these consumers.
    pub fn policies(&self, subscriptions: &[Subscription]) -> Vec<Policy> {
        let vhost = self.urls.first().and_then(|url| url.parse::<AMQPUri>().ok()).map(|uri| uri.vhost);
        Policy::all(&self.topology(), &vhost.unwrap_or_else(|| "/".into()), subscriptions)
    }

    fn topology(&self) -> Topology {
        Topology::new(self.prefix.clone(), self.delivery_limit)
    }
}

impl std::fmt::Debug for RabbitMqOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URLs, which hold passwords.
        f.debug_struct("RabbitMqOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// [`EventBus`] on RabbitMQ 3.10 and later.
pub struct RabbitMqBus {
    publish_link: Arc<Link>,
    consume_link: Arc<Link>,
    topology: Arc<Topology>,
    confirm_timeout: Duration,
    /// Publishers that are in no window. Windows that are published at the same time have a channel each; the one used last
    /// is used first, so that there are as many as were ever needed at a time.
    idle: Mutex<Vec<Publisher>>,
    /// Apart from them, so that a retry does not wait for a window.
    retries: Arc<Publisher>,
    closed: CancellationToken,
    consumers: TaskTracker,
}

impl std::fmt::Debug for RabbitMqBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitMqBus").field("topology", &self.topology).finish_non_exhaustive()
    }
}

impl RabbitMqBus {
    /// A bus that connects when it is first used.
    pub fn new(options: RabbitMqOptions) -> Self {
        let closed = CancellationToken::new();
        let link = |role: &'static str| {
            let link = LinkOptions {
                urls: options.urls.clone(),
                heartbeat_seconds: options.heartbeat_seconds,
                role,
                name: format!("{} {role}", options.connection_name),
            };
            Link::new(link, closed.clone())
        };
        let (publish_link, consume_link) = (link("publish"), link("consume"));
        let topology = Arc::new(Topology::new(options.prefix, options.delivery_limit));
        let confirm_timeout = options.confirm_timeout;
        let retries = Publisher::new(Arc::clone(&publish_link), Arc::clone(&topology), confirm_timeout);
        Self {
            publish_link,
            consume_link,
            topology,
            confirm_timeout,
            idle: Mutex::default(),
            retries: Arc::new(retries),
            closed,
            consumers: TaskTracker::new(),
        }
    }

    /// Compares the broker with what the program declares for these consumers, and makes what is missing if it is told to.
    /// Nothing that is there is changed. Uses the connection that no alarm of the broker blocks.
    pub async fn inspect(
        &self,
        subscriptions: &[Subscription],
        create: bool,
    ) -> Result<Vec<Inspected>, BusError> {
        let connected = self.consume_link.get().await?;
        inspect::inspect(&connected, &Definitions::new(&self.topology, subscriptions), create).await
    }

    /// A publisher that is in no window.
    fn publisher(&self) -> Publisher {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let new = || {
            let (link, topology) = (Arc::clone(&self.publish_link), Arc::clone(&self.topology));
            Publisher::new(link, topology, self.confirm_timeout)
        };
        idle.unwrap_or_else(new)
    }

    /// Consumes a queue in the background.
    fn consume<T: Send + 'static>(
        &self,
        queue: String,
        prefetch: u16,
        wrap: impl Fn(Message, mpsc::UnboundedSender<Acker>) -> T + Send + Sync + 'static,
    ) -> Deliveries<T> {
        let (deliveries, intake) = Deliveries::new(prefetch.max(1));
        let supervisor = Supervisor {
            link: Arc::clone(&self.consume_link),
            topology: Arc::clone(&self.topology),
            queue,
            closed: self.closed.clone(),
        };
        self.consumers.spawn(supervisor.supervise(intake, wrap));
        deliveries
    }

    /// What makes deliveries of the messages of a queue.
    fn wrapper(&self, queue: String) -> impl Fn(Message, mpsc::UnboundedSender<Acker>) -> Delivery + use<> {
        let (publisher, topology) = (Arc::clone(&self.retries), Arc::clone(&self.topology));
        move |message, abandon| {
            let attempt = envelope::attempt(&message.properties);
            let settle = RabbitMqSettle {
                acker: message.acker,
                abandon,
                publisher: Arc::clone(&publisher),
                topology: Arc::clone(&topology),
                queue: queue.clone(),
                properties: message.properties.clone(),
                body: message.data.clone(),
                attempt,
            };
            Delivery {
                envelope: envelope::decode(&message.properties, &message.data),
                redeliveries: envelope::redeliveries(&message.properties),
                is_isolated: envelope::is_isolated(&message.properties),
                body: message.data,
                attempt,
                settle: Box::new(settle),
            }
        }
    }

    async fn check(&self) -> Result<(), BusError> {
        let connected = self.publish_link.get().await?;
        connected.ensure_unblocked()?;
        let channel = connected.open_channel().await?;
        request("close a channel", channel.close(200, "checked".into())).await
    }
}

#[async_trait]
impl EventBus for RabbitMqBus {
    async fn declare(&self, subscriptions: &[Subscription]) -> Result<(), BusError> {
        for subscription in subscriptions {
            self.topology.add(*subscription);
        }
        self.retries.declare().await
    }

    async fn publish(&self, events: &[Envelope]) -> Result<Vec<PublishOutcome>, BusError> {
        let exchange = |topic| self.topology.exchange(topic);
        let messages = events.iter().map(|event| envelope::encode(event, exchange));
        let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
        let spans = trace::begin(events, &mut messages);
        let publisher = self.publisher();
        let outcomes = publisher.publish(messages).await;
        trace::end(spans, &outcomes);
        // A window that its caller gave up takes its channel with it: what is left of it must not meet the next one.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(publisher);
        outcomes
    }

    async fn redeliver(
        &self,
        consumer: &str,
        event: &Envelope,
        is_isolated: bool,
    ) -> Result<PublishOutcome, BusError> {
        let mut message = envelope::encode(event, |topic| self.topology.exchange(topic))?;
        if is_isolated {
            message.properties = envelope::isolate(message.properties);
        }
        // The default exchange takes it to this queue and to no other.
        (message.exchange, message.routing_key) = (String::new(), self.topology.queue(consumer));
        let outcomes = self.retries.publish(vec![message]).await?;
        let outcome = outcomes.into_iter().next();
        outcome.ok_or_else(|| BusError::Unavailable("no outcome of a message".into()))
    }

    async fn subscribe(&self, subscription: &Subscription, prefetch: u16) -> Deliveries {
        self.topology.add(*subscription);
        let queue = self.topology.queue(subscription.consumer);
        self.consume(queue.clone(), prefetch, self.wrapper(queue))
    }

    async fn subscribe_dead(&self) -> Deliveries<DeadDelivery> {
        let queue = self.topology.dead_letter();
        let (topology, delivery) = (Arc::clone(&self.topology), self.wrapper(queue.clone()));
        self.consume(queue, DEAD_PREFETCH, move |mut message, abandon| {
            let (queue, reason) = envelope::death(&message.properties, message.routing_key.as_str());
            // A retry of it is a copy, which the broker knows nothing of.
            message.properties = envelope::keep_death(message.properties, &queue, &reason);
            let consumer = topology.consumer(&queue).to_owned();
            DeadDelivery { consumer, reason, delivery: delivery(message, abandon) }
        })
    }

    async fn ping(&self, limit: Duration) -> Result<(), BusError> {
        timeout(limit, self.check()).await.unwrap_or_else(|_| {
            let target = self.publish_link.describe();
            let text = format!("no answer from RabbitMQ at {target} in {limit:?}; check that it runs");
            Err(BusError::Unavailable(text))
        })
    }

    async fn measure_queues(&self) -> Result<Vec<QueueDepth>, BusError> {
        // Not on the connection that publishes: low on memory or disk, the broker reads nothing from it.
        depths::measure(&self.consume_link, &self.topology).await
    }

    async fn close(&self) {
        self.closed.cancel();
        self.consumers.close();
        // Consumers end at once unless they are in the middle of a request.
        let _ = timeout(CLOSE_TIMEOUT, self.consumers.wait()).await;
        tokio::join!(self.publish_link.close(), self.consume_link.close());
    }
}
