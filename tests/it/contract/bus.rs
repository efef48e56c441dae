//! What every event bus does: confirmed means delivered to every consumer that wants it, until it is settled.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use holdfast::{
    bus::{
        EventBus, Next, PublishOutcome, RabbitMqBus, RabbitMqOptions, RetryTier, Settlement, Subscription,
    },
    domain::event::EventType::{self, OrderCanceled, OrderCreated, PaymentCaptured},
};

use crate::support::{
    broker::{self, event, events, next, nothing, publish, take},
    cluster::{Cluster, NODES},
};

const BILLING: Subscription = Subscription { consumer: "billing", events: &[OrderCreated, PaymentCaptured] };
const MAIL: Subscription = Subscription { consumer: "mail", events: &[OrderCreated] };
const DELIVERY_LIMIT: u32 = 3;

async fn every_consumer_gets_what_it_wants_once_in_order(bus: &dyn EventBus) {
    bus.declare(&[BILLING, MAIL]).await.expect("a new topology");
    let mut window = Vec::new();
    for sequence in 1..=100 {
        for event_type in [OrderCreated, PaymentCaptured, OrderCanceled] {
            window.push(event(event_type, sequence));
        }
    }
    let (first, second) = window.split_at(150);
    publish(bus, first).await;
    publish(bus, second).await;

    for subscription in [BILLING, MAIL] {
        let mut deliveries = bus.subscribe(&subscription, 20).await;
        let wants = |event_type: EventType| subscription.events.contains(&event_type);
        for expected in window.iter().filter(|event| wants(event.event_type)) {
            let delivery = next(&mut deliveries).await;
            assert_eq!(delivery.attempt, 1);
            assert_eq!(take(delivery).await, *expected);
        }
        nothing(&mut deliveries).await;
    }
}

async fn concurrent_windows_all_arrive(bus: &dyn EventBus) {
    bus.declare(&[MAIL]).await.expect("a new topology");
    let windows = [events(OrderCreated, 50), events(OrderCreated, 50), events(OrderCreated, 50)];
    tokio::join!(publish(bus, &windows[0]), publish(bus, &windows[1]), publish(bus, &windows[2]));
    let mut deliveries = bus.subscribe(&MAIL, 20).await;
    let mut arrived = HashSet::new();
    for _ in 0..150 {
        arrived.insert(take(next(&mut deliveries).await).await.id);
    }
    assert!(windows.iter().flatten().all(|event| arrived.contains(&event.id)));
}

async fn what_is_not_settled_comes_again(bus: &dyn EventBus) {
    bus.declare(&[MAIL]).await.expect("a new topology");
    let event = event(OrderCreated, 1);
    publish(bus, std::slice::from_ref(&event)).await;

    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    drop(next(&mut deliveries).await);
    let again = next(&mut deliveries).await;
    assert_eq!((again.attempt, again.envelope.as_ref()), (2, Ok(&event)), "after a dropped delivery");

    drop(deliveries);
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    let third = next(&mut deliveries).await;
    assert_eq!((third.attempt, third.envelope.as_ref()), (3, Ok(&event)), "after a dropped consumer");
    again.settle.settle(Settlement::Ack).await.expect_err("its consumer is gone");
    third.settle.settle(Settlement::Ack).await.expect("the last one is the one that counts");
    nothing(&mut deliveries).await;
}

async fn what_is_released_comes_again_at_once(bus: &dyn EventBus) {
    bus.declare(&[MAIL]).await.expect("a new topology");
    let event = event(OrderCreated, 1);
    publish(bus, std::slice::from_ref(&event)).await;
    let mut deliveries = bus.subscribe(&MAIL, 1).await;
    next(&mut deliveries).await.settle.settle(Settlement::Release).await.expect("it is given back");
    assert_eq!(take(next(&mut deliveries).await).await, event);
}

async fn a_retry_comes_back_after_its_delay_to_its_consumer_alone(bus: &dyn EventBus) {
    bus.declare(&[BILLING, MAIL]).await.expect("a new topology");
    let event = event(OrderCreated, 1);
    publish(bus, std::slice::from_ref(&event)).await;
    let mut billing = bus.subscribe(&BILLING, 5).await;
    let mut mail = bus.subscribe(&MAIL, 5).await;
    assert_eq!(take(next(&mut billing).await).await, event);

    let begun = Instant::now();
    for attempt in 1..=2 {
        let delivery = next(&mut mail).await;
        assert_eq!(delivery.attempt, attempt);
        delivery.settle.settle(Settlement::Retry(RetryTier::Second)).await.expect("it is stored for later");
        assert!(begun.elapsed() >= Duration::from_secs(1) * (attempt - 1));
    }
    let delivery = next(&mut mail).await;
    assert_eq!(delivery.attempt, 3);
    assert!((2000..4000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(take(delivery).await, event);
    nothing(&mut billing).await;
    nothing(&mut mail).await;
}

async fn what_nobody_can_take_is_a_dead_letter(bus: &dyn EventBus) {
    bus.declare(&[BILLING, MAIL]).await.expect("a new topology");
    let event = event(OrderCreated, 1);
    publish(bus, std::slice::from_ref(&event)).await;
    let mut billing = bus.subscribe(&BILLING, 5).await;
    let mut mail = bus.subscribe(&MAIL, 5).await;
    // A retry before: the broker's account of it must not be taken for the reason.
    next(&mut mail)
        .await
        .settle
        .settle(Settlement::Retry(RetryTier::Second))
        .await
        .expect("stored for later");
    for attempt in 2..=2 + DELIVERY_LIMIT {
        let delivery = next(&mut mail).await;
        assert_eq!(delivery.attempt, attempt);
        drop(delivery);
    }
    nothing(&mut mail).await;

    let mut dead_letters = bus.subscribe_dead().await;
    let dead = next(&mut dead_letters).await;
    assert_eq!((dead.consumer.as_str(), dead.reason.as_str()), ("mail", "delivery_limit"));
    assert_eq!(dead.delivery.envelope.as_ref(), Ok(&event));
    dead.delivery.settle.settle(Settlement::Retry(RetryTier::Second)).await.expect("stored for later");
    let dead = next(&mut dead_letters).await;
    assert_eq!((dead.consumer.as_str(), dead.reason.as_str()), ("mail", "delivery_limit"), "after a retry");
    assert_eq!(take(dead.delivery).await, event);
    nothing(&mut dead_letters).await;
    assert_eq!(take(next(&mut billing).await).await, event, "the other consumer has it still");
}

async fn what_is_sent_again_reaches_its_consumer_alone_as_a_first_attempt(bus: &dyn EventBus) {
    bus.declare(&[BILLING, MAIL]).await.expect("a new topology");
    let mut billing = bus.subscribe(&BILLING, 5).await;
    let mut mail = bus.subscribe(&MAIL, 5).await;
    let event = event(OrderCreated, 3);
    for is_isolated in [false, true] {
        let outcome = bus.redeliver("mail", &event, is_isolated).await.expect("the broker is up");
        assert_eq!(outcome, PublishOutcome::Confirmed);
        let delivery = next(&mut mail).await;
        assert_eq!((delivery.attempt, delivery.redeliveries, delivery.is_isolated), (1, 0, is_isolated));
        // A retry keeps nothing of that.
        delivery.settle.settle(Settlement::Retry(RetryTier::Second)).await.expect("stored for later");
        let delivery = next(&mut mail).await;
        assert_eq!((delivery.attempt, delivery.is_isolated), (2, false));
        assert_eq!(take(delivery).await, event);
    }
    let outcome = bus.redeliver("nobody", &event, false).await.expect("the broker is up");
    assert!(matches!(outcome, PublishOutcome::Returned(_)), "{outcome:?}");
    nothing(&mut billing).await;
    nothing(&mut mail).await;
}

/// The prefetch goes up and down, and to nothing, while events come and are settled: none is lost on the way, and what was
/// handed out before a change can be settled after it.
async fn a_prefetch_that_changes_loses_nothing(bus: &dyn EventBus) {
    bus.declare(&[MAIL]).await.expect("a new topology");
    let window = events(OrderCreated, 400);
    publish(bus, &window).await;
    let mut deliveries = bus.subscribe(&MAIL, 4).await;
    let (mut held, mut taken) = (Vec::new(), HashSet::new());
    for prefetch in [8, 2, 0, 30, 1, 0, 16, 3, 64, 5].into_iter().cycle().take(40) {
        deliveries.set_prefetch(prefetch);
        if prefetch == 0 {
            loop {
                match deliveries.next_until_stopped().await {
                    Next::Delivery(delivery) => held.push(delivery),
                    Next::Stopped => break,
                    Next::Closed => panic!("the bus is open"),
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(matches!(deliveries.next_until_stopped().await, Next::Stopped), "it takes no more");
            continue;
        }
        for _ in 0..5 {
            if let Ok(Some(delivery)) =
                tokio::time::timeout(Duration::from_millis(100), deliveries.recv()).await
            {
                held.push(delivery);
            }
        }
        // Later than they came, over several changes.
        while held.len() > 6 {
            taken.insert(take(held.remove(0)).await.id);
        }
    }
    for delivery in held {
        assert!(taken.insert(take(delivery).await.id));
    }
    deliveries.set_prefetch(50);
    while taken.len() < window.len() {
        assert!(taken.insert(take(next(&mut deliveries).await).await.id), "twice");
    }
    nothing(&mut deliveries).await;
}

/// Without a prefetch nothing more is handed out, and what was is counted as no failure.
async fn who_stops_keeps_what_he_has(bus: &dyn EventBus) {
    bus.declare(&[MAIL]).await.expect("a new topology");
    publish(bus, &events(OrderCreated, 10)).await;
    let mut deliveries = bus.subscribe(&MAIL, 3).await;
    let first = next(&mut deliveries).await;
    deliveries.set_prefetch(0);
    let mut rest = Vec::new();
    while let Next::Delivery(delivery) = deliveries.next_until_stopped().await {
        rest.push(delivery);
    }
    assert_eq!(rest.len(), 2, "as many as were out");
    first.settle.settle(Settlement::Ack).await.expect("its channel is open");
    for delivery in rest {
        delivery.settle.settle(Settlement::Release).await.expect("its channel is open");
    }
    let mut other = bus.subscribe(&MAIL, 20).await;
    for _ in 0..9 {
        take(next(&mut other).await).await;
    }
    nothing(&mut other).await;
}

async fn a_closed_bus_ends_its_subscriptions(bus: &dyn EventBus) {
    bus.ping(broker::PATIENCE).await.expect("the broker is up");
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    publish(bus, &events(OrderCreated, 1)).await;
    let unsettled = next(&mut deliveries).await;
    bus.close().await;
    assert!(deliveries.recv().await.is_none());
    unsettled.settle.settle(Settlement::Ack).await.expect_err("it comes again elsewhere");
    bus.publish(&events(OrderCreated, 1)).await.expect_err("it is closed");
    bus.ping(broker::PATIENCE).await.expect_err("it is closed");
}

macro_rules! on_rabbitmq {
    ($($name:ident),+ $(,)?) => {
        mod rabbitmq {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(&super::bus(super::broker::options(super::broker::shared()))).await;
                }
            )+
        }

        mod rabbitmq_cluster {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let cluster = super::Cluster::shared().await;
                    let nodes = super::rotated(stringify!($name).len());
                    super::$name(&super::bus(cluster.options(&nodes))).await;
                }
            )+
        }
    };
}

fn bus(options: RabbitMqOptions) -> RabbitMqBus {
    RabbitMqBus::new(RabbitMqOptions { delivery_limit: DELIVERY_LIMIT, ..options })
}

/// The nodes of the cluster, beginning somewhere, so that tests begin at different ones.
fn rotated(by: usize) -> [&'static str; 3] {
    let mut nodes = NODES;
    nodes.rotate_left(by % 3);
    nodes
}

on_rabbitmq! {
    every_consumer_gets_what_it_wants_once_in_order,
    concurrent_windows_all_arrive,
    what_is_not_settled_comes_again,
    what_is_released_comes_again_at_once,
    a_retry_comes_back_after_its_delay_to_its_consumer_alone,
    what_nobody_can_take_is_a_dead_letter,
    what_is_sent_again_reaches_its_consumer_alone_as_a_first_attempt,
    a_prefetch_that_changes_loses_nothing,
    who_stops_keeps_what_he_has,
    a_closed_bus_ends_its_subscriptions,
}
