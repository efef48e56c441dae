//! Between commit and exchange: the broker is away, and a relay that lost its lease does not know it (G8).

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use lapin::{
    Channel,
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::support::{
    broker, eventually,
    system::{PATIENCE, Servers, System},
    tcp_proxy::{TcpProxy, Traffic},
};

const OUTBOX: &str = "SELECT count(*) FROM outbox";
const SENT: &str = "SELECT count(*) FROM outbox_sent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_taken_while_rabbitmq_is_down() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    // The queues have been at work: RabbitMQ 3.10 that is killed at once after it made a quorum queue can come back with a
    // queue that never elects a leader.
    let before = place_and_pay(&system, 99).await;
    system.wait_for_order("api", &before, "fulfilled").await;
    system.wait_for_empty_outbox().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let sent = system.count(SENT).await;
    system.stack.kill("rabbitmq").unwrap();
    let orders = join_all((0..20).map(|order| place_and_pay(&system, order))).await;
    system.ready("api").await;
    // Two events of each order, and none has left.
    assert_eq!(system.count(OUTBOX).await, 40);
    assert_eq!(system.count(SENT).await, sent);
    tokio::task::block_in_place(|| system.stack.restart("rabbitmq")).unwrap();
    join_all(orders.iter().map(|order| system.wait_for_order("api", order, "fulfilled"))).await;
    system.wait_for_empty_outbox().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
    assert_eq!(system.summary().await["captured"], 21);
}

/// The former owner published, and learns that the broker has it only when another one owns its shards. It must leave
/// the rows alone: they are the other one's, who has published them again and is about to remove them itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_paused_past_its_lease_removes_nothing() {
    let settings = [
        ("HOLDFAST__WORKER__RELAY__LEASE_SECONDS", "6"),
        // So that its one channel is open by then.
        ("HOLDFAST__WORKER__RELAY__LANES", "1"),
        // Longer than the pause: what counts is the answer that comes late, not its absence.
        ("HOLDFAST__BUS__RABBITMQ__CONFIRM_TIMEOUT_MS", "60000"),
        ("HOLDFAST__DATABASE__LOCK_TIMEOUT_MS", "60000"),
        ("HOLDFAST__DATABASE__STATEMENT_TIMEOUT_MS", "60000"),
    ];
    let system = System::start(Servers::RabbitMq, &settings).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    let proxy = TcpProxy::start(&system.stack.addresses().servers["rabbitmq"]).await;
    start_relay(&system, "relay-a", Some(&proxy)).await;
    system.wait_for_log("relay-a", "relay leases shards=16").await;
    system.spawn("sandbox", &["sandbox"], &[]);
    system.api("api").await;
    let tap = tap(&system).await;
    let orders = join_all((0..5).map(|order| place(&system, order))).await;
    system.wait_for_empty_outbox().await;

    // The broker gets the events, and relay-a is not told so.
    proxy.allow(Traffic::RequestsOnly);
    system.stack.pause("relay-a").unwrap();
    join_all(orders.iter().map(|order| system.pay("api", order, "pm_card_visa"))).await;
    system.stack.resume("relay-a").unwrap();
    eventually("relay-a has published", PATIENCE, || async { waiting(&tap).await == 5 }).await;
    system.stack.pause("relay-a").unwrap();
    // Keeps relay-b from removing the rows.
    let mut rows = system.database.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM outbox FOR UPDATE").execute(&mut *rows).await.unwrap();
    start_relay(&system, "relay-b", None).await;
    system.wait_for_log("relay-b", "relay leases shards=16").await;
    eventually("relay-b has published", PATIENCE, || async { waiting(&tap).await == 10 }).await;
    proxy.allow(Traffic::All);
    system.stack.resume("relay-a").unwrap();
    // It tells the database that the events were sent, in vain, and finds that it leases nothing.
    system.wait_for_log("relay-a", "another process has taken over").await;
    system.wait_for_log("relay-a", "relay leases shards=0").await;
    assert_eq!(system.count(OUTBOX).await, 5);
    rows.rollback().await.unwrap();
    system.wait_for_empty_outbox().await;

    // Each event is there at least twice, and takes effect once.
    let mut ids = BTreeSet::new();
    let mut published = 0;
    while let Some(message) = tap.basic_get("tap".into(), BasicGetOptions { no_ack: true }).await.unwrap() {
        ids.insert(message.delivery.properties.message_id().clone().unwrap());
        published += 1;
    }
    assert_eq!(ids.len(), 5);
    assert!(published >= 10, "{published}");
    system.worker("workers", &["payment", "fulfilment"]);
    join_all(orders.iter().map(|order| system.wait_for_order("api", order, "fulfilled"))).await;
    system.assert_clean().await;
    system.assert_charged_once().await;
    assert_eq!(system.summary().await["captured"], 5);
}

/// A statement that is used again and again keeps its plan. One that was made while nothing waited would read the whole
/// outbox once for each of its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_events_meets_an_outbox_that_was_empty() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    start_relay(&system, "relay", None).await;
    system.wait_for_log("relay", "relay leases shards=16").await;
    sqlx::query("VACUUM ANALYZE outbox").execute(&system.database).await.unwrap();
    let reads = "SELECT COALESCE(seq_scan, 0) + COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'outbox'";
    let before = system.count(reads).await;
    // After five times the server may keep the plan.
    eventually("the relay has looked often", PATIENCE, || async { system.count(reads).await > before + 40 })
        .await;
    let burst = "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
        SELECT gen_random_uuid(), n % 16, gen_random_uuid(), 1, 'inventory.adjusted.v1', 'inventory/' || n || '/main', '{}'
        FROM generate_series(1, 20000) n";
    sqlx::query(burst).execute(&system.database).await.unwrap();
    system.wait_for_empty_outbox().await;
    assert!(!system.log("relay").contains("events wait in the outbox"), "{}", system.log("relay"));
}

async fn place(system: &System, order: usize) -> String {
    system.place("api", &format!("order-{order}"), "book", 1).await.id().to_owned()
}

async fn place_and_pay(system: &System, order: usize) -> String {
    let id = place(system, order).await;
    system.pay("api", &id, "pm_card_visa").await.id();
    id
}

/// Starts a relay, and waits until it has what it needs.
async fn start_relay(system: &System, name: &str, proxy: Option<&TcpProxy>) {
    let url = &system.stack.addresses().amqp_urls[0];
    let address = &system.stack.addresses().servers["rabbitmq"];
    let url = proxy.map_or_else(|| url.clone(), |proxy| url.replace(address.as_str(), &proxy.address()));
    system.spawn(name, &["worker", "relay"], &[("HOLDFAST__BUS__RABBITMQ__URL", &url)]);
    system.wait_for_log(name, "consuming queue=\"holdfast.dead-letter\"").await;
}

/// A queue, `tap`, that gets a copy of every payment event.
async fn tap(system: &System) -> Channel {
    let (connection, channel) = broker::channel(&system.stack).await;
    // The channel outlives the handle of its connection.
    drop(connection);
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("tap".into(), options, FieldTable::default()).await.unwrap();
    let (exchange, all) = ("holdfast.payments".into(), "#".into());
    channel
        .queue_bind("tap".into(), exchange, all, QueueBindOptions::default(), FieldTable::default())
        .await
        .unwrap();
    channel
}

async fn waiting(tap: &Channel) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = tap.queue_declare("tap".into(), passive, FieldTable::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    queue.message_count()
}
