//! An event is delivered twice, to two processes, or to one that died in between: it takes effect once (G4).

use std::time::Duration;

use holdfast::{
    bus::{EventBus as _, RabbitMqBus, RabbitMqOptions},
    domain::event::Envelope,
    worker::CONSUMERS,
};
use serde_json::Value;
use sqlx::Row as _;

use crate::support::{
    broker, eventually,
    system::{PATIENCE, Servers, System},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_delivered_to_two_workers_takes_effect_once() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.spawn("sandbox", &["sandbox"], &[]);
    system.worker("worker-relay", &["relay"]);
    system.worker("worker-a", &["payment", "fulfilment"]);
    system.api("api").await;
    let order = system.place("api", "twice", "book", 1).await.id().to_owned();
    let payment = system.pay("api", &order, "pm_sandbox_slow").await.id().to_owned();

    // It stops while it waits for the provider: the event is delivered to it, and neither handled nor settled.
    let asked = || async { system.summary().await["requests"].as_u64().unwrap() > 0 };
    eventually("worker-a asks the provider", PATIENCE, asked).await;
    system.stack.pause("worker-a").unwrap();
    system.worker("worker-b", &["payment", "fulfilment"]);
    system.wait_for_log("worker-b", "consuming queue=\"holdfast.payment\"").await;
    let bus = bus(&system);
    let created =
        sent(&system).await.into_iter().find(|event| event.event_type.as_str() == "payment.created.v1");
    let created = created.unwrap();
    // The broker hands them out in turn: some go to the one that is stopped.
    broker::publish(&bus, &vec![created.clone(); 4]).await;
    let paid = "SELECT count(*) FROM payment WHERE status IN ('authorized', 'captured')";
    system.wait_for_count(paid, 1).await;
    system.stack.resume("worker-a").unwrap();
    let handled = || async { handled(&system, "payment", &created.id.to_string()) == 5 };
    eventually("five deliveries are handled", PATIENCE, handled).await;
    system.wait_for_order("api", &order, "fulfilled").await;
    let url = format!("{}/sandbox/payments?payment_id={payment}", system.url("sandbox"));
    let counts: Value = system.http.get(url).send().await.unwrap().json().await.unwrap();
    for count in ["intents", "authorizations", "captures"] {
        assert_eq!(counts[count], 1, "{count}: {counts}");
    }

    // Every event of the order's life once more, and again.
    system.wait_for_empty_outbox().await;
    let events = sent(&system).await;
    let wanted: usize = events.iter().map(|event| consumers(event).len()).sum();
    eventually("all is handled", PATIENCE, || async { handled_in_all(&system) == wanted + 4 }).await;
    let before = effects(&system).await;
    broker::publish(&bus, &events).await;
    broker::publish(&bus, &events).await;
    eventually("all is handled again", PATIENCE, || async { handled_in_all(&system) == 3 * wanted + 4 })
        .await;
    assert_eq!(effects(&system).await, before);
    assert_eq!(system.count("SELECT count(*) FROM shipment").await, 1);
    assert_eq!(system.count("SELECT count(*) FROM inbox").await, i64::try_from(wanted).unwrap());
    bus.close().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_between_commit_and_ack_does_nothing_twice() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    let gate = system.close_inbox_gate("fulfilment").await;
    let order = system.place("api", "killed", "book", 1).await.id().to_owned();
    system.pay("api", &order, "pm_card_visa").await.id();
    system.wait_at_gate().await;
    system.stack.pause("worker-fulfilment").unwrap();
    gate.open().await;
    let committed = "SELECT count(*) FROM inbox WHERE consumer = 'fulfilment'";
    system.wait_for_count(committed, 1).await;
    let event: String = sqlx::query_scalar(
        "SELECT 'evt_' || replace(event_id::text, '-', '') FROM inbox
                                            WHERE consumer = 'fulfilment' LIMIT 1",
    )
    .fetch_one(&system.database)
    .await
    .unwrap();
    assert_eq!(handled(&system, "fulfilment", &event), 0);
    system.crash("worker-fulfilment");
    // Delivered again after its effect, and found to be done.
    let again = || async { handled(&system, "fulfilment", &event) == 1 };
    eventually("the event comes again", PATIENCE, again).await;
    system.wait_for_order("api", &order, "fulfilled").await;
    assert_eq!(system.count("SELECT count(*) FROM shipment").await, 1);

    // And wherever else they may be hit.
    system.begin_replay(60, &["--pay", "card", "--concurrency", "4"]).await;
    for kill in 0..8 {
        system.wait_for_orders(6 * (kill + 1)).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..200))).await;
        system.crash(["worker-payment", "worker-fulfilment"][usize::try_from(kill % 2).unwrap()]);
    }
    system.finish_replay().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

/// The provider has set the money aside, and the transaction that says so never commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_between_the_provider_and_the_commit_charges_once() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,100\n").await;
    system.start_roles().await;
    let gate = system.close_inbox_gate("payment").await;
    let order = system.place("api", "killed", "book", 1).await.id().to_owned();
    system.pay("api", &order, "pm_card_visa").await.id();
    system.wait_at_gate().await;
    assert_eq!(system.summary().await["authorized"], 1);
    // Its server process would commit without it: both end.
    system.stack.kill("worker-payment").unwrap();
    let ended = "SELECT count(*)
                 FROM (SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' OFFSET 0) AS waiting
                 WHERE pg_terminate_backend(pid)";
    assert_eq!(system.count(ended).await, 1);
    gate.open().await;
    assert_eq!(system.count("SELECT count(*) FROM payment WHERE status = 'processing'").await, 1);
    assert_eq!(system.count("SELECT count(*) FROM inbox WHERE consumer = 'payment'").await, 0);
    tokio::task::block_in_place(|| system.stack.restart("worker-payment")).unwrap();
    system.wait_for_order("api", &order, "fulfilled").await;
    let summary = system.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&Value::from(1), &Value::from(1)));
    system.wait_for_empty_outbox().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

/// A publisher of the test's own.
fn bus(system: &System) -> RabbitMqBus {
    let urls = system.stack.addresses().amqp_urls.clone();
    RabbitMqBus::new(RabbitMqOptions { urls, ..RabbitMqOptions::default() })
}

/// Every event that the relay has published, as it was.
async fn sent(system: &System) -> Vec<Envelope> {
    let rows =
        sqlx::query("SELECT * FROM outbox_sent ORDER BY id").fetch_all(&system.database).await.unwrap();
    let envelope = |row: &sqlx::postgres::PgRow| Envelope {
        id: row.get::<uuid::Uuid, _>("event_id").into(),
        event_type: row.get::<&str, _>("type").parse().unwrap(),
        subject: row.get("subject"),
        sequence: row.get("sequence"),
        time: row.get("created_at"),
        correlation_id: row.get("correlation_id"),
        causation_id: row.get::<Option<uuid::Uuid>, _>("causation_id").map(Into::into),
        trace_parent: None,
        data: row.get("data"),
    };
    rows.iter().map(envelope).collect()
}

/// The consumers that want this event.
fn consumers(event: &Envelope) -> Vec<&'static str> {
    let subscriptions = CONSUMERS.iter().map(|consumer| consumer.subscription());
    let wanting = subscriptions.filter(|subscription| subscription.events.contains(&event.event_type));
    wanting.map(|subscription| subscription.consumer).collect()
}

/// How often a consumer has handled this event, whichever process did.
fn handled(system: &System, consumer: &str, event_id: &str) -> usize {
    let line = format!("handled consumer=\"{consumer}\" event_id={event_id}");
    logs(system).matches(&line).count()
}

fn handled_in_all(system: &System) -> usize {
    logs(system).matches(" handled consumer=").count()
}

fn logs(system: &System) -> String {
    let names = system.stack.names();
    names.iter().filter(|name| name.starts_with("worker")).map(|name| system.log(name)).collect()
}

/// Everything that an event can change.
async fn effects(system: &System) -> Value {
    let sql = "SELECT jsonb_build_object(
                   'orders', (SELECT jsonb_agg(o ORDER BY o.id) FROM orders o),
                   'reservations', (SELECT jsonb_agg(r ORDER BY r.id) FROM reservation r),
                   'payments', (SELECT jsonb_agg(p ORDER BY p.id) FROM payment p),
                   'payment_events', (SELECT count(*) FROM payment_event),
                   'refunds', (SELECT count(*) FROM refund),
                   'shipments', (SELECT jsonb_agg(s ORDER BY s.id) FROM shipment s),
                   'movements', (SELECT count(*) FROM stock_movement),
                   'inbox', (SELECT count(*) FROM inbox),
                   'events', (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_sent))";
    let mut effects: Value = sqlx::query_scalar(sql).fetch_one(&system.database).await.unwrap();
    let mut money = system.summary().await;
    money.as_object_mut().unwrap().remove("requests");
    effects["money"] = money;
    effects
}
