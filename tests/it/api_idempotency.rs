//! What the idempotency key of a request does, beyond making it take effect once.

use serde_json::json;

use crate::support::{
    api::{order, send},
    app::TestApp,
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

#[tokio::test]
async fn every_post_needs_one_key() {
    let test = TestApp::start().await;
    let order_id = "ord_00000000000000000000000000000000";
    for path in ["/v1/orders", &format!("/v1/orders/{order_id}/cancel"), "/v1/inventory/adjustments"] {
        let post = || test.api.request(reqwest::Method::POST, path).json(&json!({}));
        send(post()).await.problem(400, "idempotency_key_missing");
        let twice = post().header("Idempotency-Key", "a").header("Idempotency-Key", "b");
        send(twice).await.problem(400, "idempotency_key_invalid");
    }
    test.finish().await;
}
