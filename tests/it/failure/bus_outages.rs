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
        BusError, Deliveries, EventBus, Inspected, PublishOutcome, RabbitMqBus, RabbitMqOptions, RetryTier,
        Settlement,
    },
    domain::{event::EventType, ids::EventId},
};
use tokio::{
    task::{JoinHandle, block_in_place},
    time::{sleep, timeout},
};

use crate::support::{
    broker::{self, BROKER, PATIENCE, events, fragile, next, publish, take},
    traffic::{MAIL, Publishing, collect, publish_all},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_confirmed_event_is_lost_when_the_broker_is_killed_and_all_go_on_once_it_answers() {
    let stack = fragile().await;
    let options = RabbitMqOptions { confirm_timeout: Duration::from_secs(5), ..broker::options(&stack) };
    let bus = Arc::new(RabbitMqBus::new(options.clone()));
    bus.declare(&[MAIL]).await.expect("a new topology");
    // The broker keeps the register of its quorum queues in a file that it flushes late. One that is killed before
    // comes back with a queue that never confirms, whoever publishes.
    sleep(Duration::from_secs(5)).await;
    let publishing = Publishing::begin(bus.clone()).await;
    // A consumer that has not caught up, with connections of its own.
    let consumer = RabbitMqBus::new(options);
    let mut deliveries = consumer.subscribe(&MAIL, 1).await;
    let mut settled = HashSet::from([take(next(&mut deliveries).await).await.id]);
    block_in_place(|| stack.kill(BROKER)).expect("it ran");
    let before = publishing.confirmed();
    sleep(Duration::from_secs(2)).await;
    block_in_place(|| stack.restart(BROKER)).expect("it comes back");
    let back = Instant::now();
    let delivered = async {
        loop {
            let delivery = next(&mut deliveries).await;
            let id = delivery.envelope.as_ref().expect("an event").id;
            // What was on its way when the connection broke cannot be settled.
            if delivery.settle.settle(Settlement::Ack).await.is_ok() {
                settled.insert(id);
                return back.elapsed();
            }
        }
    };
    let confirmed = async {
        publishing.wait_for_more(1).await;
        back.elapsed()
    };
    let (confirmed_after, delivered_after) = tokio::join!(confirmed, delivered);
    drop(deliveries);
    consumer.close().await;
    publishing.wait_for_more(1000).await;
    let mut published = publishing.end().await;
    assert!(
        published.failures > 0 && published.confirmed.len() > before,
        "it was killed while nothing was published"
    );
    published.confirmed.retain(|id| !settled.contains(id));
    let again = collect(bus.as_ref(), &published.confirmed).await;
    eprintln!(
        "broker killed: {} events confirmed, none lost, {again} twice; it answered, and {} ms later the publisher had a confirm, \
         {} ms later the consumer a delivery settled",
        published.confirmed.len(),
        confirmed_after.as_millis(),
        delivered_after.as_millis()
    );
    // The aim is three seconds; the rest is for a machine on which everything runs at once.
    let slowest = confirmed_after.max(delivered_after);
    assert!(slowest < Duration::from_secs(6), "confirmed {confirmed_after:?}, delivered {delivered_after:?}");
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
        for id in publish_all(&bus, 50).await {
            assert_eq!(take(next(&mut deliveries).await).await.id, id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_memory_alarm_holds_up_publishing_but_not_consuming() {
    an_alarm_holds_up_publishing_but_not_consuming(|stack, is_on| {
        let watermark = if is_on { "1" } else { "512MB" };
        stack.rabbitmqctl(BROKER, &["set_vm_memory_high_watermark", "absolute", watermark])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_alarm_holds_up_publishing_but_not_consuming() {
    an_alarm_holds_up_publishing_but_not_consuming(|stack, is_on| {
        // In bytes: more than any disk has.
        let free = if is_on { "1000000000000000" } else { "50000000" };
        stack.rabbitmqctl(BROKER, &["set_disk_free_limit", free])
    })
    .await;
}

async fn an_alarm_holds_up_publishing_but_not_consuming(alarm: fn(&Stack, bool) -> anyhow::Result<String>) {
    let stack = fragile().await;
    let limit = Duration::from_secs(2);
    let bus = RabbitMqBus::new(RabbitMqOptions { confirm_timeout: limit, ..broker::options(&stack) });
    bus.declare(&[MAIL]).await.expect("a new topology");
    publish(&bus, &events(EventType::OrderCreated, 40)).await;
    block_in_place(|| alarm(&stack, true)).expect("the broker is up");
    // Whatever fails in here must not leave the alarm to the next test.
    let during = during_an_alarm(&bus, limit);
    let survived = timeout(PATIENCE, AssertUnwindSafe(during).catch_unwind()).await;
    block_in_place(|| alarm(&stack, false)).expect("the broker is up");
    let clear = Instant::now();
    let (mut deliveries, retry) =
        survived.expect("it took too long").expect("it went wrong during the alarm");
    timeout(PATIENCE, retry).await.expect("it ends with the alarm").unwrap().expect("the copy is stored");
    loop {
        let delivery = next(&mut deliveries).await;
        // Besides it, what was written during the alarm.
        let is_copy = delivery.attempt == 2;
        assert_eq!(delivery.redeliveries, 0);
        take(delivery).await;
        if is_copy {
            break;
        }
    }
    drop(deliveries);
    let confirmed = publish_all(&bus, 50).await;
    eprintln!("alarm over: all is confirmed {} ms later", clear.elapsed().as_millis());
    collect(&bus, &confirmed).await;
}

/// 40 events are in the queue.
async fn during_an_alarm(
    bus: &RabbitMqBus,
    limit: Duration,
) -> (Deliveries, JoinHandle<Result<(), BusError>>) {
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
    assert!(error.to_string().contains("low on memory or disk"), "{error}");
    // A connection that publishes nothing is not held up: what is declared can be looked at.
    assert!(bus.inspect(&[MAIL], false).await.expect("it answers").iter().all(Inspected::is_ok));
    let mut deliveries = bus.subscribe(&MAIL, 5).await;
    for _ in 0..39 {
        take(next(&mut deliveries).await).await;
    }
    // Given back it would come at once, and count towards the delivery limit each time.
    let last = next(&mut deliveries).await;
    let retry = tokio::spawn(last.settle.settle(Settlement::Retry(RetryTier::Second)));
    timeout(limit * 2, deliveries.recv()).await.expect_err("it waits for the end of the alarm");
    assert!(!retry.is_finished());
    (deliveries, retry)
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
    let confirmed = publish_all(&bus, 50).await;
    collect(&bus, &confirmed).await;
}
