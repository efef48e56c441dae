//! Customers who were charged twice. Row 8.
//!
//! Automattic/woocommerce-payments PR #11994, woocommerce-gateway-stripe PR #3725, mollie/PrestaShop PR #1251: a second submit, a
//! second tab or a second method was charged as well, because the guard asked the provider and let through what it could
//! not find out. Here an order has at most one live payment, whatever state that is in, and an unknown outcome is as live
//! as any.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    api::{Answer, id, payment, tally},
    app::TestApp,
    payments::{is_unknown, moves, paying},
};

/// A second method, as from another tab.
async fn pay_by_wallet(test: &TestApp, order_id: &str) -> Answer {
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
    assert_eq!(tally(&attempts), BTreeMap::from([((201, ""), 1), ((409, "payment_in_progress"), 7)]));
    assert_eq!(test.count("SELECT count(*) FROM payment").await, 1);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn card_and_wallet_at_once_are_one_payment_and_one_capture() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/payments");
    let mut wallet = payment("pm_sandbox_wallet");
    wallet["method"] = json!("wallet");
    let card = payment("pm_card_visa");
    let (first, second) = tokio::join!(test.api.post(&path, &card), test.api.post(&path, &wallet));
    let (paid, refused) = if first.status == 201 { (first, second) } else { (second, first) };
    let payment_id = id(&paid.expect(201));
    assert_eq!(refused.problem(409, "payment_in_progress")["payment_id"], payment_id);
    test.order_becomes(&order_id, "fulfilled").await;
    let again = test.api.post(&path, &wallet).await;
    assert_eq!(again.problem(409, "payment_already_succeeded")["payment_id"], payment_id);
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(1), &json!(1)));
    test.finish().await;
}

/// Whoever writes: the row itself is refused.
#[tokio::test]
async fn the_database_refuses_a_second_live_payment() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let pay = "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
               SELECT gen_random_uuid(), id, 'wallet', 'stripe', 'x', 'processing', currency, total_amount, 'automatic'
               FROM orders";
    assert_eq!(test.database.meet(pay, pay).await, Err("payment_one_live_key".into()));
    // Only one that moved no money and never will makes room.
    for status in ["requires_action", "authorized", "failed"] {
        let statement = "UPDATE payment SET status = $1, next_lookup_at = now()";
        sqlx::query(statement).bind(status).execute(&mut *test.conn().await).await.unwrap();
        let answer = test.api.pay(&order_id, "pm_card_visa").await;
        match status {
            "failed" => drop(answer.expect(201)),
            "authorized" => drop(answer.problem(409, "payment_already_succeeded")),
            _ => drop(answer.problem(409, "payment_in_progress")),
        }
    }
    assert_eq!(test.count("SELECT count(*) FROM payment").await, 2);
    test.finish().await;
}
