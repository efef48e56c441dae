//! What the idempotency key of a request does, beyond making it take effect once.

use std::{sync::Arc, time::Duration};

use holdfast::app::App;
use serde_json::json;

use crate::support::{
    api::order,
    app::TestApp,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::{self, Locks},
};

#[tokio::test]
async fn a_refusal_that_is_final_is_refused_again_whatever_has_changed() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/cancel");
    test.api.cancel(&order_id).await.expect(200);
    let first = test.api.post_as("cancel", &path, &json!({})).await;
    let text = first.text.clone();
    first.problem(409, "invalid_state_transition");
    let again = test.api.post_as("cancel", &path, &json!({})).await;
    assert_eq!((again.status, again.replayed(), &again.text), (409, true, &text));
    test.api.post_as("cancel", &path, &json!({ "reason": "x" })).await.problem(422, "idempotency_key_reused");
    test.finish().await;
}

#[tokio::test]
async fn a_refusal_that_may_end_is_not_kept() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let body = order(&[("a", 2)]);
    test.api.post_as("k", "/v1/orders", &body).await.problem(409, "insufficient_stock");
    // Neither is one of a request that was never looked at: the same key may carry what was meant.
    test.api.post_as("k", "/v1/orders", &order(&[("a", 0)])).await.problem(422, "validation_failed");
    test.api.post_as("k", "/v1/orders", &order(&[("b", 1)])).await.problem(422, "unknown_sku");
    test.stock("a", 2).await;
    let placed = test.api.post_as("k", "/v1/orders", &body).await;
    assert_eq!((placed.status, placed.replayed()), (201, false));
    test.finish().await;
}

/// There is nothing else that could tell the second request from one for another refund.
#[tokio::test]
async fn a_refund_that_is_asked_for_twice_under_one_key_is_one() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.payment_becomes(&payment_id, "captured").await;
    let path = format!("/v1/payments/{payment_id}/refunds");
    let first = test.api.post_as("refund", &path, &json!({ "amount": 300 })).await;
    let again = test.api.post_as("refund", &path, &json!({ "amount": 300 })).await;
    assert_eq!((first.status, again.status, again.replayed(), &again.text), (201, 201, true, &first.text));
    assert_eq!(test.count("SELECT count(*) FROM refund").await, 1);
    test.finish().await;
}

/// Whether an order was placed needs no lock to be said.
#[tokio::test]
async fn a_placed_order_is_answered_again_while_zookeeper_is_away() {
    let mut test = TestApp::start().await;
    test.stock("a", 5).await;
    let proxy = TcpProxy::start(zookeeper::shared()).await;
    let manager = Locks::new(zookeeper::shared()).manager_through(proxy.address()).await;
    let mut app = App { locks: Arc::new(manager), ..test.app.clone() };
    app.settings.lock_timeout = Duration::from_millis(500);
    let api = test.serve(app).await;
    let (path, body) = ("/v1/orders", order(&[("a", 1)]));
    let first = api.post_as("k", path, &body).await;
    assert_eq!(first.status, 201);
    proxy.allow(Traffic::None);
    proxy.cut();
    let again = api.post_as("k", path, &body).await;
    assert_eq!((again.status, again.replayed(), &again.text), (201, true, &first.text));
    assert_eq!(again.header("location"), first.header("location"));
    api.post_as("k", path, &order(&[("a", 2)])).await.problem(422, "idempotency_key_reused");
    api.post_as("new", path, &body).await.problem(503, "lock_unavailable");
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 1);
    test.finish().await;
}
