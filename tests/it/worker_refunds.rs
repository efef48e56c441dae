//! Refunds with all workers running, and what the provider's webhooks tell of them later.

use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
};

async fn started() -> TestApp {
    let setup = Setup { webhooks: true, workers: &WorkerKind::ALL, ship_at_once: false, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 5).await;
    test
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
    let test = started().await;
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
    let test = started().await;
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
