//! Webhooks of the provider with all workers running: early, late, three at once, and of what somebody did elsewhere.

use std::time::Duration;

use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    sandbox::{SECRET_KEY, http_client},
};

async fn started(setup: Setup) -> TestApp {
    let test = TestApp::start_with(Setup { webhooks: true, workers: &WorkerKind::ALL, ..setup }).await;
    test.stock("a", 5).await;
    test
}

/// Waits until so many events have come and have taken effect.
async fn processed(test: &TestApp, events: i64) {
    let done = async || {
        let processed = "SELECT count(*) FROM provider_event WHERE processed_at IS NOT NULL";
        test.count(processed).await == events
            && test.count("SELECT count(*) FROM provider_event").await == events
    };
    eventually(&format!("{events} events took effect"), PATIENCE, done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_before_the_answer_settles_the_payment_and_the_answer_changes_nothing() {
    let test = started(Setup::default()).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_webhook_before_response").await;
    test.order_becomes(&order_id, "fulfilled").await;
    test.drain().await;
    // The event of the authorization follows from no event: it was the webhook's look-up that found it.
    let by_look_up = "SELECT count(*) FROM outbox_sent
                      WHERE type = 'payment.authorized.v1' AND causation_id IS NULL";
    assert_eq!(test.count(by_look_up).await, 1);
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'authorized'").await, 1);
    let counts = test.sandbox.payment(&payment_id).await;
    assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)));
    processed(&test, 2).await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_webhook_three_times_at_once_takes_effect_once() {
    let test = started(Setup::default()).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_webhook_x3").await;
    let order = test.order_becomes(&order_id, "fulfilled").await;
    assert_eq!(order["payments"][0]["amount_captured"], 1000);
    processed(&test, 2).await;
    for status in ["authorized", "captured"] {
        let query = "SELECT count(*) FROM payment_event WHERE status = $1";
        let count: i64 =
            sqlx::query_scalar(query).bind(status).fetch_one(&mut *test.conn().await).await.unwrap();
        assert_eq!(count, 1, "{status}");
    }
    let counts = test.sandbox.payment(&payment_id).await;
    assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)));
    assert_eq!(test.count("SELECT count(*) FROM shipment").await, 1);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_comes_after_the_order_expired_goes_back() {
    let test = started(Setup { payment_pin: Duration::ZERO, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 5)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_late_success_after_expiry").await;
    processed(&test, 1).await;
    test.run_out(&order_id, 1.0).await;
    test.order_becomes(&order_id, "expired").await;
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    assert_eq!(test.payment_becomes(&payment_id, "processing").await["amount_captured"], 0);
    // Somebody else gets the stock, and nobody takes it away again.
    test.placed(&[("a", 5)]).await;
    test.sandbox.decide("payments/succeed", &payment_id).await;
    test.payment_becomes(&payment_id, "voided").await;
    assert_eq!(test.api.order(&order_id).await["status"], "expired");
    assert_eq!(test.api.level("a").await, (5, 5, 0));
    let summary = test.sandbox.summary().await;
    let expected = (&json!(1), &json!(1), &json!(0));
    assert_eq!((&summary["authorized"], &summary["voided"], &summary["captured"]), expected);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_made_elsewhere_is_recorded() {
    let test = started(Setup { ship_at_once: false, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    let payment = test.payment_becomes(&payment_id, "captured").await;
    processed(&test, 2).await;
    let reference = payment["provider_reference"].as_str().unwrap();
    let refund = async |amount: &str| {
        let request = http_client().post(format!("{}/v1/refunds", test.sandbox.url)).bearer_auth(SECRET_KEY);
        let answer = request.form(&[("payment_intent", reference), ("amount", amount)]).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    refund("400").await;
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(1000), &json!(400)));
    refund("300").await;
    processed(&test, 4).await;
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(1000), &json!(700)));
    // It is about a charge, which names the payment by the provider's id only.
    let event: Value =
        sqlx::query_scalar("SELECT to_jsonb(e) FROM provider_event e WHERE type = 'charge.refunded' LIMIT 1")
            .fetch_one(&mut *test.conn().await)
            .await
            .unwrap();
    assert_eq!(event["provider_reference"], payment["provider_reference"]);
    test.finish().await;
}

/// Waits until the one refund has this status.
async fn refund_becomes(test: &TestApp, status: &str) -> Value {
    let refund = async || -> Value {
        let refund = "SELECT to_jsonb(r) FROM refund r ORDER BY id DESC LIMIT 1";
        sqlx::query_scalar(refund).fetch_one(&mut *test.conn().await).await.unwrap()
    };
    eventually(&format!("the refund is {status}"), PATIENCE, async || refund().await["status"] == status)
        .await;
    refund().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_fails_after_it_was_sent_gives_its_claim_back() {
    let test = started(Setup { ship_at_once: false, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 2)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.payment_becomes(&payment_id, "captured").await;
    let line_id = test.api.order(&order_id).await["lines"][0]["id"].clone();
    let path = format!("/v1/payments/{payment_id}/refunds");
    let lines = json!({ "lines": [{ "line_id": line_id, "quantity": 2 }] });
    test.api.post(&path, &lines).await.expect(201);
    test.payment_becomes(&payment_id, "refunded").await;
    refund_becomes(&test, "succeeded").await;
    // The customer's bank gives it back.
    test.sandbox.decide("refunds/fail", &payment_id).await;
    assert_eq!(refund_becomes(&test, "failed").await["failure_code"], "expired_or_canceled_card");
    let payment = test.payment_becomes(&payment_id, "captured").await;
    assert_eq!(
        (&payment["amount_refunded"], &payment["amount_refund_claimed"]),
        (&json!(0), &json!(0)),
        "{payment}"
    );
    let told = "SELECT count(*) FROM (SELECT type FROM outbox UNION ALL SELECT type FROM outbox_sent) e
                WHERE type = 'refund.failed.v1'";
    assert_eq!(test.count(told).await, 1);
    // The same units again, by another refund.
    test.api.post(&path, &lines).await.expect(201);
    test.payment_becomes(&payment_id, "refunded").await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_that_the_provider_has_taken_on_is_pending_until_it_is_sent() {
    let test = started(Setup { ship_at_once: false, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_refund_pending").await;
    test.payment_becomes(&payment_id, "captured").await;
    let path = format!("/v1/payments/{payment_id}/refunds");
    let refund = async |amount: i64, decision: &str, becomes: &str| {
        test.api.post(&path, &json!({ "amount": amount })).await.expect(201);
        let accepted = "SELECT count(*) FROM refund WHERE status = 'pending' AND accepted_at IS NOT NULL";
        eventually("the provider has it", PATIENCE, async || test.count(accepted).await == 1).await;
        test.drain().await;
        let payment = test.payment_becomes(&payment_id, "captured").await;
        assert_eq!(payment["amount_refund_claimed"], amount);
        test.sandbox.decide(decision, &payment_id).await;
        refund_becomes(&test, becomes).await;
    };
    refund(300, "refunds/fail", "failed").await;
    assert_eq!(test.payment_becomes(&payment_id, "captured").await["amount_refund_claimed"], 0);
    refund(400, "refunds/succeed", "succeeded").await;
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!(payment["amount_refunded"], 400);
    test.finish().await;
}
