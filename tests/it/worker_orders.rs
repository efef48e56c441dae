//! The life of an order with all workers: from the shelf to the parcel, and every way to end before.

use std::time::Duration;

use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
};

/// The types of an order's events, in order.
async fn history(test: &TestApp, order_id: &str) -> Vec<String> {
    let query = "SELECT type FROM outbox_sent WHERE subject = 'order/' || $1 ORDER BY sequence";
    sqlx::query_scalar(query).bind(order_id).fetch_all(&mut *test.conn().await).await.unwrap()
}

async fn impatient() -> TestApp {
    let provider_timeout = Duration::from_millis(500);
    TestApp::start_with(Setup { provider_timeout, workers: &WorkerKind::ALL, ..Setup::default() }).await
}

#[tokio::test]
async fn a_paid_order_is_confirmed_captured_and_shipped() {
    let setup = Setup { zookeeper: true, workers: &WorkerKind::ALL, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 5).await;
    test.stock("b", 5).await;
    let order_id = test.placed(&[("a", 2), ("b", 1), ("a", 1)]).await;
    assert_eq!(test.api.level("a").await, (5, 3, 0));
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    let order = test.order_becomes(&order_id, "fulfilled").await;
    let fulfilled: Vec<_> =
        order["lines"].as_array().unwrap().iter().map(|l| &l["quantity_fulfilled"]).collect();
    assert_eq!(fulfilled, [2, 1, 1]);
    assert_eq!(order["payments"][0]["id"], payment_id);
    assert_eq!(order["payments"][0]["amount_captured"], 4000);
    assert_eq!((&order["shipments"][0]["status"], &order["shipments"][1]), (&json!("shipped"), &Value::Null));
    assert_eq!((test.api.level("a").await, test.api.level("b").await), ((2, 0, 0), (4, 0, 0)));
    test.drain().await;
    let happened = history(&test, &order_id).await;
    // The shipment is made by whichever of two events comes first.
    let but_shipment: Vec<_> = happened.iter().filter(|event| *event != "shipment.created.v1").collect();
    assert_eq!(happened.len(), but_shipment.len() + 1);
    let expected = [
        "order.created.v1",
        "payment.created.v1",
        "payment.authorized.v1",
        "order.confirmed.v1",
        "payment.captured.v1",
        "shipment.packed.v1",
        "shipment.shipped.v1",
        "order.fulfilled.v1",
    ];
    assert_eq!(but_shipment, expected);
    assert_eq!(test.count("SELECT count(*) FROM stock_movement WHERE type = 'ship'").await, 2);
    test.api.cancel(&order_id).await.problem(409, "invalid_state_transition");
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(1), &json!(1)));
    test.finish().await;
}

#[tokio::test]
async fn a_refused_payment_leaves_the_order_to_be_paid_again() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    for (token, code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_unknown", "resource_missing"),
    ] {
        let payment_id = test.paying(&order_id, token).await;
        let payment = test.payment_becomes(&payment_id, "failed").await;
        assert_eq!(payment["decline_code"], code);
        assert_eq!(test.api.order(&order_id).await["status"], "pending_payment");
        assert_eq!(test.api.level("a").await, (5, 1, 0));
    }
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    let order = test.order_becomes(&order_id, "fulfilled").await;
    assert_eq!(order["payments"].as_array().unwrap().len(), 4);
    assert_eq!(order["payments"][3]["id"], payment_id);
    assert_eq!(test.sandbox.summary().await["captured"], 1);
    test.finish().await;
}

#[tokio::test]
async fn answers_of_the_provider_that_do_not_come_charge_once() {
    let test = impatient().await;
    test.stock("a", 5).await;
    let mut paid = Vec::new();
    for token in [
        "pm_sandbox_timeout_then_success",
        "pm_sandbox_error_after_authorize",
        "pm_sandbox_error_after_capture",
        // Slower than the service waits.
        "pm_sandbox_slow",
    ] {
        let order_id = test.placed(&[("a", 1)]).await;
        paid.push((test.paying(&order_id, token).await, order_id, token));
    }
    for (payment_id, order_id, token) in paid {
        test.order_becomes(&order_id, "fulfilled").await;
        let counts = test.sandbox.payment(&payment_id).await;
        assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)), "{token}");
        assert_eq!(test.payment_becomes(&payment_id, "captured").await["outcome_unknown_since"], Value::Null);
    }
    test.finish().await;
}

#[tokio::test]
async fn canceling_a_captured_order_that_has_not_shipped_refunds_it() {
    let setup = Setup { ship_at_once: false, workers: &WorkerKind::ALL, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 2)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.payment_becomes(&payment_id, "captured").await;
    let packed = async || test.api.order(&order_id).await["shipments"][0]["status"] == "pending";
    eventually("a shipment waits to be packed", PATIENCE, packed).await;
    assert_eq!(test.api.level("a").await, (5, 0, 2));
    test.api.cancel(&order_id).await.expect(200);
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    let payment = test.payment_becomes(&payment_id, "refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(2000), &json!(2000)));
    let order = test.api.order(&order_id).await;
    assert_eq!(
        (&order["status"], &order["shipments"][0]["status"]),
        (&json!("canceled"), &json!("canceled"))
    );
    assert_eq!(test.count("SELECT count(*) FROM refund WHERE status = 'succeeded'").await, 1);
    test.finish().await;
}

#[tokio::test]
async fn canceling_an_authorized_order_voids_it() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let mut body = crate::support::api::order(&[("a", 2)]);
    body["capture_method"] = json!("manual");
    let order_id = crate::support::api::id(&test.api.post("/v1/orders", &body).await.expect(201));
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "confirmed").await;
    test.drain().await;
    assert_eq!(test.payment_becomes(&payment_id, "authorized").await["amount_captured"], 0);
    test.api.cancel(&order_id).await.expect(200);
    test.payment_becomes(&payment_id, "voided").await;
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["voided"], &summary["captured"]), (&json!(1), &json!(0)));
    test.finish().await;
}

#[tokio::test]
async fn an_order_that_is_not_paid_in_time_expires_and_frees_its_stock() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 2).await;
    let mut body = crate::support::api::order(&[("a", 2)]);
    body["reservation_ttl_seconds"] = json!(1);
    let order_id = crate::support::api::id(&test.api.post("/v1/orders", &body).await.expect(201));
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    test.order_becomes(&order_id, "expired").await;
    assert_eq!(test.api.level("a").await, (2, 0, 0));
    test.api.pay(&order_id, "pm_card_visa").await.problem(409, "invalid_state_transition");
    test.api.cancel(&order_id).await.problem(409, "invalid_state_transition");
    test.placed(&[("a", 2)]).await;
    test.finish().await;
}

#[tokio::test]
async fn a_customer_who_never_acts_gives_the_stock_back() {
    let payment_pin = Duration::from_mins(5);
    let test =
        TestApp::start_with(Setup { payment_pin, workers: &WorkerKind::ALL, ..Setup::default() }).await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_requires_action").await;
    test.payment_becomes(&payment_id, "requires_action").await;
    test.api.cancel(&order_id).await.problem(409, "payment_in_progress");
    test.run_out(&order_id, 301.0).await;
    test.order_becomes(&order_id, "expired").await;
    test.payment_becomes(&payment_id, "voided").await;
    assert_eq!(test.api.level("a").await, (1, 0, 0));
    test.finish().await;
}

#[tokio::test]
async fn an_event_that_a_newer_program_wrote_keeps_nobody_else_back() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    // In every shard, more than the relay reads at a time, and older than all that follows.
    let newer = "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
                 SELECT gen_random_uuid(), n % 16, gen_random_uuid(), 1, 'order.teleported.v1', 'order/x', '{}'
                 FROM generate_series(1, 1600) n";
    sqlx::query(newer).execute(&mut *test.conn().await).await.unwrap();
    let order_id = test.placed(&[("a", 1)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "fulfilled").await;
    let held_back = "SELECT count(*) FROM outbox WHERE type = 'order.teleported.v1'";
    assert_eq!(test.count(held_back).await, 1600);
    sqlx::query("DELETE FROM outbox WHERE type = 'order.teleported.v1'")
        .execute(&mut *test.conn().await)
        .await
        .unwrap();
    test.finish().await;
}
