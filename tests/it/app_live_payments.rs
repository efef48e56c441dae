//! One live payment for an order, whatever state the first is in, and an unknown outcome is as live as any.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    app::TestApp,
    payments::{is_unknown, moves, paying},
};

/// A second method, as from another tab.
async fn pay_by_wallet(test: &TestApp, order_id: &str) -> crate::support::api::Answer {
    let body = json!({ "method": "wallet", "payment_token": "pm_sandbox_wallet" });
    test.api.post(&format!("/v1/orders/{order_id}/payments"), &body).await
}

#[tokio::test]
async fn a_second_method_is_refused_while_the_first_is_processing_authorized_or_captured() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    let order = order_id.to_string();
    let refused = pay_by_wallet(&test, &order).await.problem(409, "payment_in_progress");
    assert_eq!(refused["payment_id"], payment_id.to_string());
    test.authorize(payment_id).await.unwrap();
    let refused = pay_by_wallet(&test, &order).await.problem(409, "payment_already_succeeded");
    assert_eq!(refused["payment_id"], payment_id.to_string());
    test.capture(payment_id).await.unwrap();
    pay_by_wallet(&test, &order).await.problem(409, "payment_already_succeeded");
    assert_eq!(test.count("SELECT count(*) FROM payment").await, 1);
    assert_eq!(test.sandbox.summary().await["intents"], 1);
    test.finish().await;
}

#[tokio::test]
async fn an_unknown_outcome_blocks_a_second_method_until_it_is_settled() {
    for token in ["pm_sandbox_timeout_then_success", "pm_sandbox_error_after_authorize"] {
        let (test, order_id, payment_id) = paying(token).await;
        let order = order_id.to_string();
        assert!(is_unknown(&test.authorize(payment_id).await), "{token}");
        pay_by_wallet(&test, &order).await.problem(409, "payment_in_progress");
        assert_eq!(test.payment(payment_id).await["status"], "processing");
        test.payments_age(61.0).await;
        assert_eq!(test.reconcile().await, 1);
        let payment = test.payment(payment_id).await;
        assert_eq!(payment["outcome_unknown_since"], serde_json::Value::Null);
        pay_by_wallet(&test, &order).await.problem(409, "payment_already_succeeded");
        assert_eq!(moves(&test, payment_id).await[0], 1);
        assert_eq!(test.sandbox.summary().await["authorized"], 1);
        test.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_methods_at_once_one_is_taken() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let attempts = join_all((0..8).map(async |n| match n % 2 {
        0 => test.api.pay(&order_id, "pm_card_visa").await,
        _ => pay_by_wallet(&test, &order_id).await,
    }))
    .await;
    let mut taken = 0;
    for attempt in attempts {
        if attempt.status == 201 {
            taken += 1;
        } else {
            attempt.problem(409, "payment_in_progress");
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(test.count("SELECT count(*) FROM payment").await, 1);
    test.finish().await;
}
