//! A broker that does not have what the program declares, or has it otherwise.

use std::time::{Duration, Instant};

use holdfast::{
    bus::{
        Argument, BusError, Difference, EventBus, Found, Inspected, RabbitMqBus, RabbitMqOptions, RetryTier,
        Settlement, Subscription,
    },
    domain::event::EventType::{OrderCreated, PaymentVoided},
};
use lapin::{
    Channel,
    options::{BasicGetOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::task::block_in_place;

use crate::support::{
    broker::{self, BROKER, channel, events, fragile, next, publish, shared, take},
    eventually,
    system::{PATIENCE, Servers, System},
    traffic::MAIL,
};

/// What is not as it must be.
fn wrong(inspected: &[Inspected]) -> Vec<(&str, &Found)> {
    let wrong = inspected.iter().filter(|one| !one.is_ok());
    wrong.map(|one| (one.name.as_str(), &one.found)).collect()
}

async fn delete(channel: &Channel, queue: &str) {
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("it is deleted");
}

/// Declares a queue as the program does, but for one argument.
async fn declare_other(
    channel: &Channel,
    options: &RabbitMqOptions,
    queue: &str,
    argument: &'static str,
    value: Option<i64>,
) -> lapin::Result<()> {
    let definitions = options.definitions(&[MAIL]);
    let mut declared =
        definitions.queues.into_iter().find(|one| one.name == queue).expect("it is one of them");
    declared.arguments.remove(argument);
    declared.arguments.extend(value.map(|value| (argument, Argument::Number(value))));
    let mut arguments = FieldTable::default();
    for (name, value) in declared.arguments {
        let value = match value {
            Argument::Number(number) => number.into(),
            Argument::Text(text) => AMQPValue::LongString(text.into()),
        };
        arguments.insert(name.into(), value);
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_found_and_made_only_when_it_is_asked_for() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    let definitions = options.definitions(&[MAIL]);
    let all = definitions.exchanges.len() + definitions.queues.len();
    for _ in 0..2 {
        // The second look finds what the first one left.
        let inspected = bus.inspect(&[MAIL], false).await.expect("the broker is up");
        assert_eq!(wrong(&inspected).len(), all);
        assert!(inspected.iter().all(|one| one.found == Found::Missing), "{inspected:?}");
    }
    let made = bus.inspect(&[MAIL], true).await.expect("the broker is up");
    assert!(made.iter().all(|one| one.found == Found::Created), "{made:?}");
    let (_connection, channel) = channel(shared()).await;
    let [orders, mail] = ["orders", "mail"].map(|name| format!("{}.{name}", options.prefix));
    channel
        .exchange_delete(orders.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .expect("it was made");
    let inspected = bus.inspect(&[MAIL], false).await.expect("the broker is up");
    assert_eq!(wrong(&inspected), [(orders.as_str(), &Found::Missing)]);
    let again = bus.inspect(&[MAIL], true).await.expect("the broker is up");
    let made: Vec<&str> =
        again.iter().filter(|one| one.found == Found::Created).map(|one| one.name.as_str()).collect();
    assert_eq!(made, [orders.as_str()]);
    // Its bindings went with it, and are back.
    let mut deliveries = bus.subscribe(&MAIL, 1).await;
    publish(&bus, &events(OrderCreated, 1)).await;
    take(next(&mut deliveries).await).await;
    // A binding alone that is missing is no difference that AMQP could tell, and is made with the rest.
    let unbound = channel.queue_unbind(
        mail.as_str().into(),
        orders.as_str().into(),
        OrderCreated.as_str().into(),
        FieldTable::default(),
    );
    unbound.await.expect("the binding was there");
    assert_eq!(wrong(&bus.inspect(&[MAIL], true).await.expect("the broker is up")), []);
    publish(&bus, &events(OrderCreated, 1)).await;
    take(next(&mut deliveries).await).await;
    bus.close().await;
}

/// The broker confirms an event that no queue takes: it lies aside, and nobody handles it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_makes_a_queue_or_a_binding_again_that_somebody_has_deleted() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.worker("worker-relay", &["relay"]);
    let list = |what: &str, column: &str| {
        let listed = block_in_place(|| system.stack.rabbitmqctl(BROKER, &["--quiet", what, column]));
        listed.expect("the broker is up")
    };
    let bindings = async || list("list_bindings", "routing_key").matches("order.confirmed.v1").count();
    let queue = async || list("list_queues", "name").contains("holdfast.payment");
    eventually("the topology is there", PATIENCE, async || bindings().await == 1).await;
    let (_connection, channel) = channel(&system.stack).await;
    let (queue_name, exchange, key) = ("holdfast.fulfilment", "holdfast.orders", "order.confirmed.v1");
    channel
        .queue_unbind(queue_name.into(), exchange.into(), key.into(), FieldTable::default())
        .await
        .expect("it is bound");
    delete(&channel, "holdfast.payment").await;
    assert!(bindings().await == 0 && !queue().await);
    eventually("both are there again", PATIENCE, async || bindings().await == 1 && queue().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_differs_is_named_with_the_argument_and_both_values() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.inspect(&[MAIL], true).await.expect("the broker is up");
    let mail = format!("{}.mail", options.prefix);
    let difference = |argument: &str, wanted: Option<&str>, found: Option<&str>| {
        Found::Different(Difference {
            argument: argument.into(),
            wanted: wanted.map(str::to_owned),
            found: found.map(str::to_owned),
            vhost: "/".into(),
        })
    };

    let stricter = RabbitMqBus::new(RabbitMqOptions { delivery_limit: 5, ..options.clone() });
    let inspected = stricter.inspect(&[MAIL], false).await.expect("the broker is up");
    let limit = difference("x-delivery-limit", Some("5"), Some("10"));
    assert_eq!(wrong(&inspected), [(mail.as_str(), &limit)]);
    // To make what is missing changes nothing that is there.
    let inspected = stricter.inspect(&[MAIL], true).await.expect("the broker is up");
    assert_eq!(wrong(&inspected), [(mail.as_str(), &limit)]);
    assert_eq!(wrong(&bus.inspect(&[MAIL], false).await.expect("the broker is up")), []);
    // A process that starts says the same, and what to do.
    let error = stricter.declare(&[MAIL]).await.expect_err("it differs").to_string();
    for part in [
        mail.as_str(),
        "x-delivery-limit is 10, and must be 5",
        "delete it",
        "set bus.rabbitmq.delivery_limit",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }

    let (_connection, channel) = channel(shared()).await;
    let cases = [
        ("unroutable", "x-max-length", Some(9), "x-max-length is 9, and must be 10000"),
        ("dead-letter", "x-max-length", Some(5), "x-max-length is 5, and must not be set"),
        ("retry.5s", "x-message-ttl", None, "x-message-ttl is not set, and must be 5000"),
    ];
    for (name, argument, value, _) in cases {
        let queue = format!("{}.{name}", options.prefix);
        delete(&channel, &queue).await;
        declare_other(&channel, &options, &queue, argument, value).await.expect("it is new");
    }
    let inspected = bus.inspect(&[MAIL], false).await.expect("the broker is up");
    let told: Vec<(&str, String)> =
        wrong(&inspected).iter().map(|(name, found)| (*name, found.to_string())).collect();
    let names = cases.map(|(name, ..)| format!("{}.{name}", options.prefix));
    let expected: Vec<(&str, String)> =
        names.iter().zip(cases).map(|(name, (.., told))| (name.as_str(), told.to_owned())).collect();
    assert_eq!(told, expected);
}

/// The channel is dead while the connection lives: whoever looks at the connection alone would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_queue_that_came_back_with_other_arguments_is_consumed_within_seconds_once_it_is_right() {
    let stack = fragile().await;
    let options = broker::options(&stack);
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL, OTHER]).await.expect("a new topology");
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    let mut others = bus.subscribe(&OTHER, 5).await;
    publish(&bus, &events(OrderCreated, 1)).await;
    take(next(&mut deliveries).await).await;
    take(next(&mut others).await).await;

    let mail = format!("{}.mail", options.prefix);
    // The consumer makes its queue again as soon as it sees that it is gone: who is first has it.
    let was_first = async || {
        let (_connection, channel) = channel(&stack).await;
        delete(&channel, &mail).await;
        declare_other(&channel, &options, &mail, "x-delivery-limit", Some(5)).await.is_ok()
    };
    eventually("the queue is another one", broker::PATIENCE, was_first).await;
    block_in_place(|| stack.rabbitmqctl(BROKER, &["close_all_connections", "test"])).expect("it is up");
    let is_named = async || {
        let Err(BusError::Topology(text)) = bus.publish(&events(OrderCreated, 1)).await else { return false };
        text.contains(&mail) && text.contains("x-delivery-limit is 5, and must be 10")
    };
    eventually("the queue is named", broker::PATIENCE, is_named).await;

    let (_connection, channel) = channel(&stack).await;
    delete(&channel, &mail).await;
    let right = Instant::now();
    let published = async || bus.publish(&events(OrderCreated, 1)).await.is_ok();
    eventually("it publishes again", broker::PATIENCE, published).await;
    let delivery = next(&mut deliveries).await;
    let healed = right.elapsed();
    // The other queue was never wrong.
    take(next(&mut others).await).await;
    delivery.settle.settle(Settlement::Retry(RetryTier::Second)).await.expect("its copy is stored");
    take(next(&mut deliveries).await).await;
    eprintln!("a queue is right again: {} ms later an event went through it", healed.as_millis());
    assert!(healed < Duration::from_secs(5), "{healed:?}");
    bus.close().await;
}

const OTHER: Subscription = Subscription { consumer: "other", events: &[OrderCreated] };

/// What a policy may tune, on a broker: it meets each queue once, and a limit of it that is lower counts.
#[tokio::test(flavor = "multi_thread")]
async fn each_queue_has_its_policy_and_a_lower_limit_of_it_counts() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    let queue = format!("{}.unroutable", options.prefix);
    for policy in options.policies(&[MAIL]) {
        let command = policy.to_string().replace("\"max-length\":10000", "\"max-length\":3");
        let words = words(&command);
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        block_in_place(|| shared().rabbitmqctl(BROKER, &arguments)).expect("the policy is taken");
    }
    bus.declare(&[MAIL]).await.expect("a new topology");
    let list = ["list_queues", "name", "policy", "--formatter", "json"];
    let text = block_in_place(|| shared().rabbitmqctl(BROKER, &list)).expect("the broker is up");
    let listed: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    let definitions = options.definitions(&[MAIL]);
    for declared in &definitions.queues {
        let found = listed.iter().find(|one| one["name"] == declared.name.as_str()).expect("it is declared");
        let policies = options.policies(&[MAIL]);
        let wanted =
            policies.iter().find(|policy| policy.queues.contains(&declared.name)).expect("it has one");
        assert_eq!(found["policy"], wanted.name.as_str(), "{found}");
    }
    publish(&bus, &events(PaymentVoided, 9)).await;
    let (_connection, channel) = channel(shared()).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let kept = async || {
        let asked = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
        asked.expect("it is there").message_count() == 3
    };
    eventually("the policy has cut the queue", broker::PATIENCE, kept).await;
    // And what is declared is the same to the program.
    assert_eq!(wrong(&bus.inspect(&[MAIL], false).await.expect("the broker is up")), []);
    bus.close().await;
}

/// The words of a command, as a shell reads them; none has a quote in it.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in command.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_in_the_tier_that_it_names() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL]).await.expect("a new topology");
    let tiers = [
        (RetryTier::FiveSeconds, "retry.5s"),
        (RetryTier::HalfMinute, "retry.30s"),
        (RetryTier::FiveMinutes, "retry.5m"),
        (RetryTier::HalfHour, "retry.30m"),
    ];
    let window = events(OrderCreated, 4);
    publish(&bus, &window).await;
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    let (_connection, channel) = channel(shared()).await;
    for (tier, name) in tiers {
        next(&mut deliveries).await.settle.settle(Settlement::Retry(tier)).await.expect("it is stored");
        let queue = format!("{}.{name}", options.prefix);
        let message = channel.basic_get(queue.as_str().into(), BasicGetOptions { no_ack: true }).await;
        let message = message.expect("it is there").unwrap_or_else(|| panic!("nothing waits in {queue}"));
        // Where it goes afterwards.
        assert_eq!(message.delivery.routing_key.as_str(), format!("{}.mail", options.prefix));
    }
    bus.close().await;
}
