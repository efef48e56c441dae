//! Workers against clients, against each other and against the clock: every end is legal, and money and stock agree.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use holdfast::{
    bus::{EventBus, PublishOutcome},
    domain::event::Envelope,
    store::outbox,
    worker::{CONSUMERS, WorkerKind},
};
use serde_json::json;

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
};

/// Publishes every event of the outbox `copies` times at once, without taking it out.
async fn publish_copies(test: &TestApp, copies: usize) -> Vec<Envelope> {
    let shards: Vec<i16> = (0..16).collect();
    let pending = outbox::list_pending(&mut *test.conn().await, &shards, 0, 1000).await.unwrap();
    let events: Vec<Envelope> = pending.rows.into_iter().map(|(_, envelope)| envelope).collect();
    let copied: Vec<Envelope> = std::iter::repeat_n(&events, copies).flatten().cloned().collect();
    let outcomes = test.bus.publish(&copied).await.unwrap();
    assert_eq!(outcomes, vec![PublishOutcome::Confirmed; copied.len()]);
    events
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_delivered_many_times_at_once_takes_effect_once() {
    let mut test = TestApp::start().await;
    test.stock("a", 10).await;
    let mut payments = Vec::new();
    for _ in 0..5 {
        let order_id = test.placed(&[("a", 1)]).await;
        payments.push(test.paying(&order_id, "pm_card_visa").await);
    }
    test.start_workers(&[WorkerKind::Payment, WorkerKind::Fulfilment]);
    let subscriptions: Vec<_> = CONSUMERS.iter().map(|consumer| consumer.subscription()).collect();
    test.bus.declare(&subscriptions).await.unwrap();
    // Each round publishes what the consumers made of the round before; the relay does not run.
    for (round, wanted) in ["authorized", "captured"].into_iter().enumerate() {
        move_on_until_next(&test, round).await;
        publish_copies(&test, 4).await;
        for payment_id in &payments {
            test.payment_becomes(payment_id, wanted).await;
        }
    }
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'authorized'").await, 5);
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'captured'").await, 5);
    // The relay publishes all of it once more.
    test.start_workers(&[WorkerKind::Relay]);
    eventually("everything has shipped", PATIENCE, async || test.api.level("a").await == (5, 0, 0)).await;
    test.drain().await;
    assert_eq!(test.count("SELECT count(*) FROM shipment").await, 5);
    assert_eq!(test.count("SELECT count(*) FROM stock_movement WHERE type = 'ship'").await, 5);
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(5), &json!(5)));
    test.finish().await;
}

/// Takes the events before this round's out of the outbox, as the relay does once they are confirmed.
async fn move_on_until_next(test: &TestApp, round: usize) {
    let next = ["payment.created.v1", "payment.authorized.v1"][round];
    let query = "WITH gone AS (
            DELETE FROM outbox o USING outbox n WHERE n.aggregate_id = o.aggregate_id AND n.type = $1
              AND o.sequence < n.sequence RETURNING o.*)
        INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, correlation_id,
                                 causation_id, data, created_at, sent_at, position)
        SELECT id, event_id, shard, aggregate_id, sequence, type, subject, correlation_id, causation_id, data,
               created_at, now(), id FROM gone";
    sqlx::query(query).bind(next).execute(&mut *test.conn().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canceling_while_the_payment_is_worked_on_ends_legally() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 100).await;
    let orders = join_all((0..24).map(|_| test.placed(&[("a", 1)]))).await;
    let raced = orders.iter().enumerate().map(async |(n, order_id)| {
        let payment_id = test.paying(order_id, "pm_card_visa").await;
        // Some meet the payment while it is processed, some while it is captured, some after.
        tokio::time::sleep(Duration::from_millis(u64::try_from(n).unwrap() * 10)).await;
        let canceled = test.api.cancel(order_id).await;
        let legal = [(200, ""), (409, "payment_in_progress"), (409, "invalid_state_transition")];
        assert!(legal.contains(&(canceled.status, canceled.code())), "{}", canceled.text);
        (order_id, payment_id, canceled.status == 200)
    });
    let ended = join_all(raced).await;
    test.drain().await;
    let mut shipped = 0;
    for (order_id, payment_id, canceled) in ended {
        let order = test.api.order(order_id).await;
        let payment = &test.sandbox.payment(&payment_id).await;
        let kept =
            payment["amount_captured"].as_i64().unwrap() - payment["amount_refunded"].as_i64().unwrap();
        let (status, expected) = if canceled { ("canceled", 0) } else { ("fulfilled", 1000) };
        assert_eq!((order["status"].as_str().unwrap(), kept), (status, expected), "{order}");
        shipped += i64::from(!canceled);
    }
    assert_eq!(test.api.level("a").await, (100 - shipped, 0, 0));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiring_while_the_payment_is_worked_on_ends_legally() {
    let payment_pin = Duration::ZERO;
    let test =
        TestApp::start_with(Setup { payment_pin, workers: &WorkerKind::ALL, ..Setup::default() }).await;
    test.stock("a", 100).await;
    let orders = join_all((0..24).map(|_| test.placed(&[("a", 1)]))).await;
    let raced = orders.iter().enumerate().map(async |(n, order_id)| {
        let payment_id = test.paying(order_id, "pm_card_visa").await;
        tokio::time::sleep(Duration::from_millis(u64::try_from(n).unwrap() * 5)).await;
        test.run_out(order_id, 0.0).await;
        (order_id, payment_id)
    });
    let ended = join_all(raced).await;
    test.drain().await;
    let mut shipped = 0;
    for (order_id, payment_id) in ended {
        let order = test.api.order(order_id).await;
        let payment = test.sandbox.payment(&payment_id).await;
        let kept =
            payment["amount_captured"].as_i64().unwrap() - payment["amount_refunded"].as_i64().unwrap();
        let fulfilled = order["status"] == "fulfilled";
        assert!(fulfilled || order["status"] == "expired", "{order}");
        assert_eq!(kept, if fulfilled { 1000 } else { 0 }, "{order} {payment}");
        shipped += i64::from(fulfilled);
    }
    assert_eq!(test.api.level("a").await, (100 - shipped, 0, 0));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_every_worker_share_the_work() {
    let mut test = TestApp::start_with_workers().await;
    let other: Arc<dyn EventBus> = test.another_bus();
    test.start_workers_on(&WorkerKind::ALL, other);
    test.stock("a", 100).await;
    let orders = join_all((0..20).map(|_| test.placed(&[("a", 1)]))).await;
    join_all(orders.iter().map(|order_id| test.paying(order_id, "pm_card_visa"))).await;
    eventually("everything has shipped", PATIENCE, async || test.api.level("a").await == (80, 0, 0)).await;
    test.drain().await;
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(20), &json!(20)));
    test.finish().await;
}
