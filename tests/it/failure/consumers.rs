//! A consumer whose events end it, panic or do not fit, whose broker or database breaks, or which is told to stop: every other
//! event takes effect, once, and what cannot is a dead letter.

use std::time::Duration;

use devstack::Signal;
use holdfast::{
    bus::{EventBus as _, RabbitMqBus, RabbitMqOptions, Subscription},
    domain::{
        event::{Aggregate, Envelope, EventType, example},
        ids::{EventId, OrderId},
    },
};
use serde_json::json;
use tokio::{task::block_in_place, time::sleep};

use crate::support::{
    broker::publish,
    programs::troubled_consumer,
    system::{Servers, System},
};

/// As the program calls itself.
const TROUBLED: Subscription = Subscription { consumer: "troubled", events: &[EventType::OrderCanceled] };

const EFFECTS: &str = "SELECT count(*) FROM effect";
const DOUBLED: &str = "SELECT count(*) - count(DISTINCT event_id) FROM effect";
const LETTERS: &str = "SELECT count(*) FROM dead_letter";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_ends_its_process_takes_no_other_with_it() {
    let (system, bus) = start(&[]).await;
    let mut events: Vec<Envelope> = (0..40).map(|_| event("none")).collect();
    events[7] = event("abort");
    publish(&bus, &events).await;
    // Twice beside others, three times alone; the next time it is not begun any more.
    restart_until_buried(&system, 1, 5).await;
    system.wait_for_count(EFFECTS, 39).await;
    let letter: (String, uuid::Uuid) = sqlx::query_as("SELECT reason_code, event_id FROM dead_letter")
        .fetch_one(&system.database)
        .await
        .unwrap();
    assert_eq!(letter, ("delivery_limit".to_owned(), events[7].id.uuid()));
    assert_eq!(system.count("SELECT count(*) FROM quarantine").await, 0);
    // And it stalls nobody.
    publish(&bus, &[event("none")]).await;
    system.wait_for_count(EFFECTS, 40).await;
    assert_eq!((system.count(DOUBLED).await, system.count(LETTERS).await), (0, 1));
    bus.close().await;
}

/// The broker's limit is so low that it gives up all that was in hand before anything is handled alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_gave_up_beside_such_an_event_is_sent_once_more_by_itself() {
    let (system, bus) = start(&[("HOLDFAST__BUS__RABBITMQ__DELIVERY_LIMIT", "1")]).await;
    system.worker("worker-relay", &["relay"]);
    // Slow ones, so that they are in hand when it strikes.
    let mut events: Vec<Envelope> = (0..6).map(|_| event("slow")).collect();
    events.insert(0, event("abort"));
    publish(&bus, &events).await;
    let over = || async {
        system.count(EFFECTS).await == 6
            && system.count("SELECT count(*) FROM dead_letter WHERE replay_requested_at IS NULL").await == 1
            && system.count(LETTERS).await == 1
            && system.count("SELECT count(*) FROM dead_letter WHERE replays = 1").await == 1
    };
    for _ in 0..3000 {
        if over().await {
            break;
        }
        restart_if_dead(&system);
        sleep(Duration::from_millis(20)).await;
    }
    assert!(over().await, "{}", system.log("worker-relay"));
    let dead: uuid::Uuid =
        sqlx::query_scalar("SELECT event_id FROM dead_letter").fetch_one(&system.database).await.unwrap();
    assert_eq!((dead, system.count(DOUBLED).await), (events[0].id.uuid(), 0));
    assert!(system.log("worker-relay").contains("has killed nothing by itself"));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_panic_or_do_not_fit_stall_nobody() {
    let (system, bus) = start(&[]).await;
    let mut events: Vec<Envelope> = (0..30).map(|_| event("none")).collect();
    events[3] = event("panic");
    events[11].data = json!({ "order_id": 7 });
    publish(&bus, &events).await;
    system.wait_for_count(EFFECTS, 28).await;
    system.wait_for_count(LETTERS, 2).await;
    let letters: Vec<(String, uuid::Uuid, i32)> =
        sqlx::query_as("SELECT reason_code, event_id, attempts FROM dead_letter ORDER BY reason_code")
            .fetch_all(&system.database)
            .await
            .unwrap();
    assert_eq!(
        letters,
        [
            ("panicked".to_owned(), events[3].id.uuid(), 3),
            ("schema_violation".to_owned(), events[11].id.uuid(), 1)
        ]
    );
    // A later event of the same order builds on it; one of another consumer's would not.
    let mut later = event("none");
    (later.subject, later.sequence) = (events[3].subject.clone(), events[3].sequence + 1);
    publish(&bus, &[later.clone(), event("none")]).await;
    system.wait_for_count(LETTERS, 3).await;
    system.wait_for_count(EFFECTS, 29).await;
    let blocked = "SELECT count(*) FROM dead_letter l JOIN dead_letter e ON e.id = l.blocked_by
                   WHERE l.reason_code = 'order_blocked' AND e.reason_code = 'panicked'";
    assert_eq!((system.count(blocked).await, system.count(DOUBLED).await), (1, 0));
    assert!(system.stack.pid("consumer").is_some(), "a panic ends no process");
    bus.close().await;
}

/// Buried it would wait for somebody to replay it, while the one that it builds on takes effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_waits_while_an_earlier_one_of_its_order_is_replayed() {
    let (system, bus) = start(&[]).await;
    let mut first = event("none");
    first.data = json!({ "order_id": 7 });
    publish(&bus, std::slice::from_ref(&first)).await;
    system.wait_for_count(LETTERS, 1).await;
    // Nobody sends it yet.
    system.execute("UPDATE dead_letter SET replay_requested_at = now(), replay_requested_by = 'x'").await;
    let mut later = event("none");
    (later.subject, later.sequence) = (first.subject.clone(), first.sequence + 1);
    publish(&bus, &[later]).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!((system.count(EFFECTS).await, system.count(LETTERS).await), (0, 1));
    // As it is once the replay has taken effect.
    system.execute("DELETE FROM dead_letter").await;
    system.wait_for_count(EFFECTS, 1).await;
    assert_eq!(system.count(LETTERS).await, 0);
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_was_begun_and_gives_the_rest_to_others_at_once() {
    let (system, bus) = start(&[]).await;
    publish(&bus, &(0..40).map(|_| event("slow")).collect::<Vec<_>>()).await;
    system.wait_for_count(EFFECTS, 4).await;
    system.spawn_program("other", &troubled_consumer(), &[], &[]);
    system.wait_for_log("other", "consuming queue=\"holdfast.troubled\"").await;
    system.stack.signal("consumer", Signal::TERM).unwrap();
    // What is in flight takes half a second; what is in hand would take more.
    assert!(system.wait_exit("consumer", Duration::from_secs(5)).await, "{}", system.log("consumer"));
    let left = system.count(EFFECTS).await;
    assert!(left < 40, "nothing was left to give back");
    let began = tokio::time::Instant::now();
    system.wait_for_count(EFFECTS, 40).await;
    assert!(began.elapsed() < Duration::from_secs(15), "the rest took {:?}", began.elapsed());
    assert!(!system.log("consumer").contains("was not settled"), "{}", system.log("consumer"));
    assert_eq!((system.count(DOUBLED).await, system.count(LETTERS).await), (0, 0));
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_in_the_middle_of_handling_doubles_nothing() {
    let (system, bus) = start(&[]).await;
    // Longer than it takes until the connections end, on a busy machine too: 4 at a time, half a second each.
    let slow = |count| (0..count).map(|_| event("slow")).collect::<Vec<_>>();
    publish(&bus, &slow(100)).await;
    system.wait_for_count(EFFECTS, 1).await;
    for _ in 0..3 {
        block_in_place(|| system.stack.rabbitmqctl("rabbitmq", &["close_all_connections", "test"])).unwrap();
        system.wait_for_log("consumer", "was not settled").await;
        publish(&bus_of(&system), &slow(20)).await;
    }
    system.wait_for_count(EFFECTS, 160).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        (system.count(EFFECTS).await, system.count(DOUBLED).await, system.count(LETTERS).await),
        (160, 0, 0)
    );
    assert_eq!(system.count("SELECT count(*) FROM inbox").await, 160);
    bus.close().await;
}

/// 400 ms without a database were enough for another bus to discard events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_ends_at_once_under_load_makes_no_dead_letter() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.start_roles().await;
    system.begin_replay(80, &["--pay", "card", "--concurrency", "4"]).await;
    for round in 1..=3 {
        system.wait_for_orders(15 * round).await;
        // As `pg_ctl -m immediate`: no checkpoint, no goodbye.
        block_in_place(|| {
            system.stack.signal("postgres", Signal::QUIT)?;
            system.stack.wait_exit("postgres", Duration::from_secs(20))?;
            std::thread::sleep(Duration::from_millis(400));
            system.stack.restart("postgres")
        })
        .unwrap();
    }
    system.finish_replay().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

/// The consumer in a process of its own, and a publisher.
async fn start(settings: &[(&str, &str)]) -> (System, RabbitMqBus) {
    let system = System::start(Servers::RabbitMq, settings).await;
    system.execute("CREATE TABLE effect (event_id uuid NOT NULL)").await;
    system.spawn_program("consumer", &troubled_consumer(), &[], &[]);
    system.wait_for_log("consumer", "consuming queue=\"holdfast.troubled\"").await;
    let limit = settings.iter().find(|(name, _)| name.ends_with("DELIVERY_LIMIT"));
    let delivery_limit = limit.map_or(20, |(_, limit)| limit.parse().unwrap());
    let bus = RabbitMqBus::new(RabbitMqOptions { delivery_limit, ..options(&system) });
    bus.declare(&[TROUBLED]).await.unwrap();
    (system, bus)
}

fn bus_of(system: &System) -> RabbitMqBus {
    RabbitMqBus::new(RabbitMqOptions { delivery_limit: 20, ..options(system) })
}

fn options(system: &System) -> RabbitMqOptions {
    RabbitMqOptions { urls: system.stack.addresses().amqp_urls.clone(), ..RabbitMqOptions::default() }
}

/// An event of an order of its own.
fn event(reason: &str) -> Envelope {
    let order_id = OrderId::new();
    Envelope {
        id: EventId::new(),
        subject: Aggregate::Order(order_id).subject(),
        data: json!({ "order_id": order_id, "reason": reason }),
        ..example(EventType::OrderCanceled)
    }
}

/// Starts the consumer again whenever it has ended, until so many events are dead letters; it may end `deaths` times.
async fn restart_until_buried(system: &System, letters: i64, deaths: usize) {
    let mut died = 0;
    for _ in 0..3000 {
        if system.count(LETTERS).await == letters {
            assert_eq!(died, deaths, "{}", system.log("consumer"));
            return;
        }
        died += usize::from(restart_if_dead(system));
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no dead letter after {died} deaths: {}", system.log("consumer"));
}

fn restart_if_dead(system: &System) -> bool {
    let is_dead = system.stack.pid("consumer").is_none();
    if is_dead {
        block_in_place(|| system.stack.restart("consumer")).unwrap();
    }
    is_dead
}
