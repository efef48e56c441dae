//! The broker takes no events, refuses some or dies while they are published: orders go on, and no event is lost.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::support::{
    broker::{BROKER, reject_all_but_one},
    eventually,
    system::{PATIENCE, Servers, System},
};

/// What the API says of events, and whether it is ready at all.
async fn events(system: &System) -> (String, u16) {
    let answer = system.http.get(format!("{}/readyz", system.url("api"))).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    (body["events"].as_str().unwrap_or_default().to_owned(), status)
}

async fn place(system: &System, key: &str) -> reqwest::Response {
    let body = json!({ "currency": "USD", "lines": [{ "sku": "book", "quantity": 1, "unit_amount": 500 }] });
    let request = system.http.post(format!("{}/v1/orders", system.url("api"))).bearer_auth(&system.key);
    request.header("Idempotency-Key", key).json(&body).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_low_on_memory_delays_events_and_stops_no_order_before_its_limit() {
    let settings = [
        ("HOLDFAST__BUS__RABBITMQ__CONFIRM_TIMEOUT_MS", "1000"),
        ("HOLDFAST__ORDER__TOLD_EVENT_DELAY_SECONDS", "2"),
        ("HOLDFAST__ORDER__MAX_EVENT_DELAY_SECONDS", "15"),
    ];
    let system = System::start(Servers::RabbitMq, &settings).await;
    system.import_stock("sku,on_hand\nbook,1000000\n").await;
    system.start_roles().await;
    let first = system.place("api", "first", "book", 1).await.id().to_owned();
    system.pay("api", &first, "pm_card_visa").await;
    system.wait_for_order("api", &first, "fulfilled").await;
    system.wait_for_empty_outbox().await;
    assert_eq!(events(&system).await, ("ok".into(), 200));

    let watermark = |value: &str| {
        let set = ["set_vm_memory_high_watermark", "absolute", value];
        block_in_place(|| system.stack.rabbitmqctl(BROKER, &set)).unwrap();
    };
    watermark("1");
    let orders = join_all((0..20).map(|order| {
        let (system, reference) = (&system, format!("order-{order}"));
        async move {
            let id = system.place("api", &reference, "book", 1).await.id().to_owned();
            system.pay("api", &id, "pm_card_visa").await.id();
            id
        }
    }))
    .await;
    let is_told = || async { events(&system).await == ("delayed".into(), 200) };
    eventually("the API says that events are delayed", PATIENCE, is_told).await;
    assert_eq!(place(&system, "delayed").await.status(), 201);

    // What waits too long stops new orders, and nothing else.
    let mut key = 0;
    let mut refused = None;
    eventually("a new order is refused", PATIENCE, async || {
        key += 1;
        let answer = place(&system, &format!("late-{key}")).await;
        let is_refused = answer.status() == 503;
        refused = is_refused.then_some(answer);
        is_refused
    })
    .await;
    let refused = refused.unwrap();
    assert_eq!(refused.headers()["retry-after"], "5");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["retryable"]), (&json!("events_delayed"), &json!(true)));
    // Who was answered before is answered the same.
    assert_eq!(place(&system, "delayed").await.status(), 201);
    assert_eq!(events(&system).await, ("delayed".into(), 200));

    watermark("512MB");
    let clear = Instant::now();
    system.wait_for_empty_outbox().await;
    assert!(clear.elapsed() < Duration::from_secs(10), "it took {:?}", clear.elapsed());
    join_all(orders.iter().map(|order| system.wait_for_order("api", order, "fulfilled"))).await;
    let is_over = || async { events(&system).await == ("ok".into(), 200) };
    eventually("events are in time again", PATIENCE, is_over).await;
    assert_eq!(place(&system, "again").await.status(), 201);
    system.wait_for_empty_outbox().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_or_overtaken_when_the_broker_is_killed_while_events_are_published() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100000\n").await;
    system.start_roles().await;
    system.worker("relay-b", &["relay"]);
    let first = system.place("api", "first", "book", 1).await.id().to_owned();
    system.pay("api", &first, "pm_card_visa").await;
    system.wait_for_order("api", &first, "fulfilled").await;
    // RabbitMQ 3.10 that is killed right after it made a quorum queue can come back with one that never elects a leader.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for round in 0..2 {
        let begun = system.count("SELECT count(*) FROM outbox_sent").await;
        let orders = (0..150).map(|order| {
            let (system, reference) = (&system, format!("order-{round}-{order}"));
            async move { system.place("api", &reference, "book", 1).await.id().to_owned() }
        });
        let kill = async {
            let published = async || system.count("SELECT count(*) FROM outbox_sent").await > begun + 10;
            eventually("events are published", PATIENCE, published).await;
            block_in_place(|| system.stack.kill("rabbitmq")).unwrap();
        };
        let (placed, ()) = tokio::join!(join_all(orders), kill);
        assert_eq!(placed.len(), 150);
        block_in_place(|| system.stack.restart("rabbitmq")).unwrap();
        let back = Instant::now();
        system.wait_for_empty_outbox().await;
        assert!(back.elapsed() < Duration::from_secs(12), "it took {:?}", back.elapsed());
    }
    system.assert_in_order().await;
    system.assert_clean().await;
}

/// A queue that is full refuses events: each keeps the later ones of its order back and no others, and the tenth attempt
/// calls for somebody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_the_broker_refuses_keep_only_their_own_orders_back() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,1000\n").await;
    system.worker("worker-relay", &["relay"]);
    system.api("api").await;
    system.wait_for_empty_outbox().await;
    let full = reject_all_but_one(&system.stack, "holdfast", "order.created.v1").await;
    for order in 0..6 {
        let placed = system.place("api", &format!("order-{order}"), "book", 1).await;
        let path = format!("/v1/orders/{}/cancel", placed.id());
        system.post("api", &path, &format!("cancel-{order}"), &json!({ "reason": "test" })).await;
    }
    let refused = "SELECT count(*) FROM outbox WHERE type = 'order.created.v1' AND attempts >= 2";
    system.wait_for_count(refused, 5).await;
    // Of one order all went, of the others nothing, and what is not of orders has gone.
    assert_eq!(system.count("SELECT count(*) FROM outbox").await, 10);
    let sent = "SELECT count(*) FROM outbox_sent WHERE type IN ('order.created.v1', 'order.canceled.v1')";
    assert_eq!(system.count(sent).await, 2);
    let others = "UPDATE outbox SET attempts = 9, retry_at = NULL WHERE type = 'order.created.v1'";
    sqlx::query(others).execute(&system.database).await.unwrap();
    system.wait_for_log("worker-relay", "it is tried on").await;

    full.delete().await;
    system.wait_for_empty_outbox().await;
    system.assert_in_order().await;
    system.assert_clean().await;
}
