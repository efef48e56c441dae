//! What the bus does while the broker dies, hangs, throws it out or takes no messages.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use devstack::Stack;
use futures_util::FutureExt;
use holdfast::{
    bus::{
        BusError, EventBus, PublishOutcome, RabbitMqBus, RabbitMqOptions, RetryTier, Settlement, Subscription,
    },
    domain::{
        event::{Envelope, EventType},
        ids::EventId,
    },
};
use tokio::{
    task::block_in_place,
    time::{sleep, timeout},
};

use crate::support::broker::{self, BROKER, PATIENCE, events, fragile, next, publish, take};

const MAIL: Subscription = Subscription { consumer: "mail", events: &[EventType::OrderCreated] };

/// Publishes windows as the outbox relay does: what is not confirmed is published again under its id.
async fn relay(bus: &dyn EventBus, windows: usize, pause: Duration) -> (Vec<Envelope>, usize) {
    let (mut confirmed, mut failures) = (Vec::new(), 0);
    for _ in 0..windows {
        let mut window = events(EventType::OrderCreated, 50);
        while !window.is_empty() {
            match bus.publish(&window).await {
                Ok(outcomes) => {
                    let mut rest = Vec::new();
                    for (event, outcome) in window.into_iter().zip(outcomes) {
                        if outcome == PublishOutcome::Confirmed {
                            confirmed.push(event);
                        } else {
                            rest.push(event);
                        }
                    }
                    failures += usize::from(!rest.is_empty());
                    window = rest;
                }
                Err(BusError::Unavailable(_)) => failures += 1,
                Err(error) => panic!("{error}"),
            }
        }
        sleep(pause).await;
    }
    (confirmed, failures)
}

/// Takes deliveries until all of these have come.
async fn collect(bus: &dyn EventBus, expected: &[Envelope]) {
    let mut missing: HashSet<EventId> = expected.iter().map(|event| event.id).collect();
    let mut deliveries = bus.subscribe(&MAIL, 20).await;
    while !missing.is_empty() {
        let delivery = next(&mut deliveries).await;
        missing.remove(&delivery.envelope.as_ref().expect("an event").id);
        let _ = delivery.settle.settle(Settlement::Ack).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_confirmed_event_is_lost_when_the_broker_is_killed() {
    let stack = fragile().await;
    let options = RabbitMqOptions { confirm_timeout: Duration::from_secs(5), ..broker::options(&stack) };
    let bus = Arc::new(RabbitMqBus::new(options));
    bus.declare(&[MAIL]).await.expect("a new topology");
    // The broker keeps the register of its quorum queues in a file that it flushes late. One that is killed before
    // comes back with a queue that never confirms, whoever publishes.
    sleep(Duration::from_secs(5)).await;
    let publishing = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { relay(bus.as_ref(), 60, Duration::from_millis(10)).await }
    });
    sleep(Duration::from_millis(300)).await;
    block_in_place(|| stack.kill(BROKER)).expect("it ran");
    sleep(Duration::from_millis(500)).await;
    block_in_place(|| stack.restart(BROKER)).expect("it comes back");
    let back = Instant::now();
    let (confirmed, failures) = publishing.await.expect("it publishes until all is confirmed");
    assert_eq!(confirmed.len(), 60 * 50);
    assert!(failures > 1, "the broker was killed while nothing was published");
    assert!(back.elapsed() < Duration::from_secs(8), "publishing went on after {:?}", back.elapsed());
    collect(bus.as_ref(), &confirmed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_consumer_survives_a_restart_and_being_thrown_out() {
    let stack = fragile().await;
    let bus = RabbitMqBus::new(broker::options(&stack));
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    bus.declare(&[MAIL]).await.expect("a new topology");
    let breaks: [fn(&Stack) -> anyhow::Result<String>; 2] = [
        |stack| stack.rabbitmqctl(BROKER, &["close_all_connections", "test"]),
        |stack| stack.restart(BROKER).map(|()| String::new()),
    ];
    for broken in breaks {
        let window = events(EventType::OrderCreated, 2);
        publish(&bus, &window).await;
        let held = next(&mut deliveries).await;
        block_in_place(|| broken(&stack)).expect("the broker is back");
        held.settle.settle(Settlement::Ack).await.expect_err("its channel is gone");
        let begun = Instant::now();
        let mut missing: HashSet<EventId> = window.iter().map(|event| event.id).collect();
        while !missing.is_empty() {
            let delivery = next(&mut deliveries).await;
            let id = delivery.envelope.as_ref().expect("an event").id;
            // One that was on its way when the connection broke cannot be settled, and comes again.
            if delivery.settle.settle(Settlement::Ack).await.is_ok() {
                missing.remove(&id);
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
        let (confirmed, _) = relay(&bus, 1, Duration::ZERO).await;
        for event in confirmed {
            assert_eq!(take(next(&mut deliveries).await).await.id, event.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_memory_alarm_holds_up_publishing_but_not_consuming() {
    let stack = fragile().await;
    let limit = Duration::from_secs(2);
    let bus = RabbitMqBus::new(RabbitMqOptions { confirm_timeout: limit, ..broker::options(&stack) });
    bus.declare(&[MAIL]).await.expect("a new topology");
    publish(&bus, &events(EventType::OrderCreated, 40)).await;
    let watermark = |value: &str| {
        let result = stack.rabbitmqctl(BROKER, &["set_vm_memory_high_watermark", "absolute", value]);
        result.expect("the broker is up");
    };
    block_in_place(|| watermark("1"));
    // Whatever fails in here must not leave the alarm to the next test.
    let during = async {
        for _ in 0..3 {
            let begun = Instant::now();
            let outcome = bus.publish(&events(EventType::OrderCreated, 2)).await;
            assert!(begun.elapsed() < limit + Duration::from_secs(1), "it hung for {:?}", begun.elapsed());
            match outcome {
                Err(BusError::Unavailable(_)) => {}
                Ok(outcomes) => {
                    assert!(matches!(outcomes[..], [PublishOutcome::Unknown(_), _]), "{outcomes:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        let error = bus.ping(Duration::from_secs(1)).await.expect_err("it takes no messages");
        assert!(error.to_string().contains("low on memory"), "{error}");
        let mut deliveries = bus.subscribe(&MAIL, 5).await;
        for _ in 0..39 {
            take(next(&mut deliveries).await).await;
        }
        let begun = Instant::now();
        let last = next(&mut deliveries).await;
        last.settle
            .settle(Settlement::Retry(RetryTier::Second))
            .await
            .expect_err("the copy cannot be stored");
        assert!(begun.elapsed() < limit * 2, "it hung for {:?}", begun.elapsed());
        assert_eq!(next(&mut deliveries).await.attempt, 2, "it stayed in its queue");
    };
    let survived = timeout(PATIENCE, AssertUnwindSafe(during).catch_unwind()).await;
    block_in_place(|| watermark("512MB"));
    survived.expect("it took too long").expect("it went wrong during the alarm");
    let (confirmed, _) = relay(&bus, 1, Duration::ZERO).await;
    collect(&bus, &confirmed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_broker_makes_the_outcome_unknown() {
    let stack = fragile().await;
    let bus = RabbitMqBus::new(RabbitMqOptions {
        confirm_timeout: Duration::from_secs(1),
        heartbeat_seconds: 2,
        ..broker::options(&stack)
    });
    bus.declare(&[MAIL]).await.expect("a new topology");
    publish(&bus, &events(EventType::OrderCreated, 1)).await;
    stack.pause(BROKER).expect("it ran");
    let begun = Instant::now();
    let outcomes = bus.publish(&events(EventType::OrderCreated, 3)).await;
    let elapsed = begun.elapsed();
    let ping = bus.ping(Duration::from_millis(500)).await;
    stack.resume(BROKER).expect("it was paused");
    let outcomes = outcomes.expect("it was connected");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, PublishOutcome::Unknown(_))), "{outcomes:?}");
    assert!(elapsed < Duration::from_secs(2), "it hung for {elapsed:?}");
    let text = ping.expect_err("it was frozen").to_string();
    assert!(text.contains("127.0.0.1:"), "{text}");
    let (confirmed, _) = relay(&bus, 1, Duration::ZERO).await;
    collect(&bus, &confirmed).await;
}
