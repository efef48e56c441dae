//! What the bus says when a healthy broker does not do what was asked.

use std::time::Duration;

use holdfast::{
    bus::{BusError, EventBus, PublishOutcome, RabbitMqBus, RabbitMqOptions, Settlement, Subscription},
    domain::event::{Envelope, EventType},
};
use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueDeleteOptions,
    },
    types::FieldTable,
};
use tokio::time::{Instant, sleep};

use crate::support::broker::{self, PATIENCE, channel, event, events, next, publish, shared, take};

const MAIL: Subscription = Subscription { consumer: "mail", events: &[EventType::OrderCreated] };

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_nobody_wants_is_confirmed_and_kept_aside() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL]).await.expect("a new topology");
    let event = event(EventType::PaymentVoided, 1);
    publish(&bus, std::slice::from_ref(&event)).await;
    let (_connection, channel) = channel(shared()).await;
    let body = get(&channel, &format!("{}.unroutable", options.prefix)).await;
    assert_eq!(body, serde_json::to_vec(&event.data).expect("JSON"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_way_aside_exactly_the_unwanted_events_are_returned() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL]).await.expect("a new topology");
    // The first window opens the channel, which declares the binding that the next line removes.
    publish(&bus, &events(EventType::OrderCreated, 1)).await;
    let (_connection, channel) = channel(shared()).await;
    let name = format!("{}.unroutable", options.prefix);
    let unbound = channel.queue_unbind(name.as_str().into(), name.into(), "".into(), FieldTable::default());
    unbound.await.expect("the binding was there");

    for round in 0..5 {
        let unwanted = |index: i64| index % 3 == round % 3 || index > 180;
        let window: Vec<Envelope> = (0..200)
            .map(|index| {
                let wanted = if unwanted(index) { EventType::OrderExpired } else { EventType::OrderCreated };
                event(wanted, index)
            })
            .collect();
        let outcomes = bus.publish(&window).await.expect("the broker is up");
        for (event, outcome) in window.iter().zip(outcomes) {
            match outcome {
                PublishOutcome::Confirmed => assert_eq!(event.event_type, EventType::OrderCreated),
                PublishOutcome::Returned(reason) => {
                    assert_eq!(event.event_type, EventType::OrderExpired);
                    assert!(reason.contains("NO_ROUTE") && reason.contains("order.expired.v1"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_the_event() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[]).await.expect("a new topology");
    let created = EventType::OrderCreated.as_str();
    let _full = broker::reject_all_but_one(shared(), &options.prefix, created).await;

    let mut window = events(EventType::OrderCreated, 3);
    window.push(event(EventType::OrderCanceled, 4));
    let outcomes = bus.publish(&window).await.expect("the broker is up");
    let [first, second, third, other] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!((first, other), (&PublishOutcome::Confirmed, &PublishOutcome::Confirmed));
    assert_eq!((second, third), (&PublishOutcome::Nacked, &PublishOutcome::Nacked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_is_made_again() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL]).await.expect("a new topology");
    publish(&bus, &events(EventType::OrderCreated, 1)).await;
    let (_connection, channel) = channel(shared()).await;
    let orders = format!("{}.orders", options.prefix);
    channel.exchange_delete(orders.into(), ExchangeDeleteOptions::default()).await.expect("it was there");
    let outcomes = bus.publish(&events(EventType::OrderCreated, 2)).await.expect("the broker is up");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, PublishOutcome::Unknown(_))), "{outcomes:?}");
    publish(&bus, &events(EventType::OrderCreated, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_or_exchange_with_other_properties_is_named() {
    let options = broker::options(shared());
    RabbitMqBus::new(options.clone()).declare(&[MAIL]).await.expect("a new topology");
    let other = RabbitMqBus::new(RabbitMqOptions { delivery_limit: 5, ..options.clone() });
    let error = other.declare(&[MAIL]).await.expect_err("another delivery limit");
    let text = error.to_string();
    assert!(matches!(error, BusError::Topology(_)), "{text}");
    assert!(
        text.contains(&format!("{}.mail", options.prefix)) && text.contains("x-delivery-limit"),
        "{text}"
    );

    let options = broker::options(shared());
    let (_connection, channel) = channel(shared()).await;
    let orders = format!("{}.orders", options.prefix);
    let declared = channel.exchange_declare(
        orders.as_str().into(),
        ExchangeKind::Direct,
        ExchangeDeclareOptions { durable: true, ..Default::default() },
        FieldTable::default(),
    );
    declared.await.expect("a new exchange");
    let error = RabbitMqBus::new(options).publish(&events(EventType::OrderCreated, 1)).await;
    let error = error.expect_err("it is of another type");
    assert!(matches!(error, BusError::Topology(_)) && error.to_string().contains(&orders), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_event_is_delivered_with_the_reason() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    bus.declare(&[MAIL]).await.expect("a new topology");
    let (_connection, channel) = channel(shared()).await;
    let queue = format!("{}.mail", options.prefix);
    let published = channel.basic_publish(
        "".into(),
        queue.into(),
        BasicPublishOptions::default(),
        b"not an event",
        BasicProperties::default(),
    );
    published.await.expect("the broker is up");
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.envelope, Err("has no attribute id".to_owned()));
    assert_eq!(delivery.body, b"not an event");
    let retry = Settlement::Retry(holdfast::bus::RetryTier::Second);
    delivery.settle.settle(retry).await.expect("even that can be retried");
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.attempt, delivery.body.as_slice()), (2, b"not an event".as_slice()));
    delivery.settle.settle(Settlement::Ack).await.expect("it is dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again() {
    let options = broker::options(shared());
    let bus = RabbitMqBus::new(options.clone());
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    publish(&bus, &events(EventType::OrderCreated, 1)).await;
    take(next(&mut deliveries).await).await;
    let (_connection, channel) = channel(shared()).await;
    let queue = format!("{}.mail", options.prefix);
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("it was there");
    // Until the consumer has noticed, the event has no queue and goes aside.
    let end = Instant::now() + PATIENCE;
    loop {
        publish(&bus, &events(EventType::OrderCreated, 1)).await;
        if let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(200), deliveries.recv()).await
        {
            take(delivery).await;
            break;
        }
        assert!(Instant::now() < end, "the queue was not made again");
    }
}

#[tokio::test]
async fn ping_names_a_broker_that_cannot_be_reached() {
    let urls = vec!["amqp://user:secret@127.0.0.1:1/%2f".into()];
    let bus = RabbitMqBus::new(RabbitMqOptions { urls, ..RabbitMqOptions::default() });
    let text = bus.ping(Duration::from_secs(5)).await.expect_err("nobody listens there").to_string();
    assert!(
        text.contains("127.0.0.1:1") && text.contains("start RabbitMQ") && !text.contains("secret"),
        "{text}"
    );
    broker::bus().ping(PATIENCE).await.expect("this one is up");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_address_is_used_when_one_fails() {
    let mut options = broker::options(shared());
    options.urls.insert(0, "amqp://user:secret@127.0.0.1:1/%2f".into());
    let bus = RabbitMqBus::new(options);
    bus.ping(PATIENCE).await.expect("the second address is up");
}

/// The body of the next message of the queue.
async fn get(channel: &Channel, queue: &str) -> Vec<u8> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let message = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await;
        if let Some(message) = message.expect("the queue is there") {
            return message.delivery.data;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing came into {queue}");
}
