//! Requests of the wrong shape, and the wrong fields of everything but orders.

use reqwest::Method;
use serde_json::json;

use super::{ORDER, and, pointers, prepared, refuses};
use crate::support::{
    api::{id, order, send},
    app::TestApp,
};

#[tokio::test]
async fn a_request_of_the_wrong_shape_is_refused() {
    let (test, before) = prepared().await;
    let post = || test.api.request(Method::POST, "/v1/orders").header("Content-Type", "application/json");
    let answer = send(post().body(ORDER)).await;
    refuses(&test, "no key", answer, 400, "idempotency_key_missing", "Idempotency-Key").await;
    for key in ["", " ", "a b", "\"\"", "a\"b", &"k".repeat(256), "schlüssel"] {
        let answer = send(post().header("Idempotency-Key", key.as_bytes()).body(ORDER)).await;
        refuses(&test, key, answer, 400, "idempotency_key_invalid", "Idempotency-Key").await;
    }
    let keyed = || test.api.request(Method::POST, "/v1/orders").header("Idempotency-Key", "k");
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let answer = send(keyed().header("Content-Type", media_type).body(ORDER)).await;
        refuses(&test, media_type, answer, 415, "unsupported_media_type", "Content-Type").await;
    }
    refuses(&test, "none", send(keyed().body(ORDER)).await, 415, "unsupported_media_type", "Content-Type")
        .await;
    for coding in ["gzip", "identity, gzip"] {
        let request = keyed().header("Content-Type", "application/json").header("Content-Encoding", coding);
        let answer = send(request.body(ORDER)).await;
        refuses(&test, coding, answer, 415, "unsupported_media_type", "Content-Encoding").await;
    }
    let big = and(&format!(r#""client_reference":"{}""#, "x".repeat(64 * 1024)));
    let answer = test.api.post_text("/v1/orders", big).await;
    refuses(&test, "too large", answer, 413, "body_too_large", "").await;
    // Spaces count too, and up to the limit they are fine.
    let spaced = format!("{}{ORDER}", " ".repeat(64 * 1024 - ORDER.len() + 1));
    test.api.post_text("/v1/orders", spaced.clone()).await.problem(413, "body_too_large");
    assert_eq!(test.snapshot().await, before);
    test.api.post_text("/v1/orders", &spaced[1..]).await.expect(201);
    test.finish().await;
}

/// A write has no parameters but those of an import: one that is given means something that would not happen.
#[tokio::test]
async fn a_parameter_of_a_write_is_refused() {
    let (test, _) = prepared().await;
    test.api.put("/v1/purchase-limits/a", &json!({ "quantity": 5 })).await.expect(200);
    let before = test.snapshot().await;
    let order_id = "ord_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";
    for (method, path, body) in [
        (Method::POST, "/v1/orders".to_owned(), ORDER),
        (Method::POST, format!("/v1/orders/{order_id}/cancel"), "{}"),
        (Method::POST, "/v1/inventory/adjustments".into(), r#"{"items":[{"sku":"a","delta":-1}]}"#),
        (Method::POST, "/v1/api-keys".into(), r#"{"name":"a","scopes":["admin"]}"#),
        (Method::PUT, "/v1/inventory/a/main".into(), r#"{"on_hand":1}"#),
        (Method::PUT, "/v1/locations/north".into(), r#"{"priority":1}"#),
        (Method::PUT, "/v1/purchase-limits/a".into(), r#"{"quantity":1}"#),
        (Method::DELETE, "/v1/purchase-limits/a".into(), ""),
    ] {
        for (query, pointer) in [("?dry_run=true", "?dry_run"), ("?a%20b", "?a b")] {
            let request = test.api.request(method.clone(), &format!("{path}{query}"));
            let request = request.header("Content-Type", "application/json").header("Idempotency-Key", "k");
            let answer = send(request.body(body)).await;
            assert_eq!(pointers(&answer), [pointer], "{method} {path}: {}", answer.text);
            answer.problem(422, "validation_failed");
        }
    }
    assert_eq!(test.snapshot().await, before);
    // No parameter is none.
    send(test.api.request(Method::DELETE, "/v1/purchase-limits/a?")).await.expect(204);
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_a_payment_is_named() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = id(&test.api.post("/v1/orders", &order(&[("a", 1)])).await.expect(201));
    let before = test.snapshot().await;
    let path = format!("/v1/orders/{order_id}/payments");
    let payment = |field: &str| format!(r#"{{"method":"card",{field}}}"#);
    for (body, pointer) in [
        (payment(r#""payment_token":"4242 4242 4242 4242""#), "/payment_token"),
        (payment(r#""payment_token":"""#), "/payment_token"),
        (payment(r#""payment_token":"tok\u0000""#), "/payment_token"),
        (payment(r#""payment_token":7"#), "/payment_token"),
        (payment(&format!(r#""payment_token":"{}""#, "x".repeat(256))), "/payment_token"),
        (payment(r#""card_number":"x""#), "/card_number"),
        (payment(r#""payment_token":"pm_x","amount":0"#), "/amount"),
        (payment(r#""payment_token":"pm_x","amount":-1000"#), "/amount"),
        (payment(r#""payment_token":"pm_x","capture_method":"never""#), "/capture_method"),
        (r#"{"payment_token":"pm_x"}"#.into(), "/method"),
        (r#"{"method":"cash","payment_token":"pm_x"}"#.into(), "/method"),
        (r#"{"method":{"card":null},"payment_token":"pm_x"}"#.into(), "/method"),
        (payment(r#""payment_token":"pm_x","capture_method":{"manual":null}"#), "/capture_method"),
        (r#"{"method":"card"}"#.into(), "/payment_token"),
    ] {
        let answer = test.api.post_text(&path, body.as_str()).await;
        assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{body}: {}", answer.text);
        assert_eq!(pointers(&answer), [pointer], "{body}: {}", answer.text);
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    for (body, pointer, code) in [
        (payment(r#""payment_token":"4242424242424242""#), "/payment_token", "card_number_refused"),
        (payment(r#""payment_token":"4242-4242-4242-4242""#), "/payment_token", "card_number_refused"),
        (payment(r#""payment_token":"pm_x","amount":999"#), "/amount", "amount_mismatch"),
        (payment(r#""payment_token":"pm_x","amount":1001"#), "/amount", "amount_mismatch"),
    ] {
        let answer = test.api.post_text(&path, body.as_str()).await;
        assert_eq!((answer.status, answer.code()), (422, code), "{body}: {}", answer.text);
        assert_eq!(pointers(&answer), [pointer], "{body}: {}", answer.text);
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    for (body, pointer) in [
        (r#"{"reason":"a\u0000"}"#, "/reason"),
        (r#"{"lines":[]}"#, "/lines"),
        (r#"{"refund":{"none":null}}"#, "/refund"),
        ("[]", ""),
    ] {
        let answer = test.api.post_text(&format!("/v1/orders/{order_id}/cancel"), body).await;
        assert_eq!(pointers(&answer), [pointer], "{body}: {}", answer.text);
        answer.problem(422, "validation_failed");
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_a_stock_change_is_named() {
    let (test, before) = prepared().await;
    let path = "/v1/inventory/adjustments";
    let many = json!({ "items": vec![json!({ "sku": "a", "delta": -1 }); 501] }).to_string();
    for (body, pointer) in [
        (r#"{"items":[]}"#, "/items"),
        (many.as_str(), "/items"),
        (r#"{"items":[{"sku":"a","delta":0}]}"#, "/items/0/delta"),
        (r#"{"items":[{"sku":"a","delta":-1000000001}]}"#, "/items/0/delta"),
        (r#"{"items":[{"sku":"a","delta":1.5}]}"#, "/items/0/delta"),
        (r#"{"items":[{"sku":"a"}]}"#, "/items/0/delta"),
        (r#"{"items":[{"sku":"a b","delta":1}]}"#, "/items/0/sku"),
        (r#"{"items":[{"sku":"a","delta":-1,"on_hand":5}]}"#, "/items/0/on_hand"),
        (r#"{"items":[{"sku":"a","delta":-1}],"reason":"a\u0000"}"#, "/reason"),
        (r#"{"items":[{"sku":"a","delta":-1}],"reference":""}"#, "/reference"),
    ] {
        let answer = test.api.post_text(path, body).await;
        refuses(&test, body, answer, 422, "validation_failed", pointer).await;
    }
    for (path, body, pointer) in [
        ("/v1/inventory/a/main", json!({ "on_hand": -1 }), "/on_hand"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1_000_000_001 }), "/on_hand"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1.5 }), "/on_hand"),
        ("/v1/inventory/a/main", json!({}), "/on_hand"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "reserved": 1 }), "/reserved"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "safety_stock": -1 }), "/safety_stock"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "backorder_limit": i64::MAX }), "/backorder_limit"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "safety_stock": null }), "/safety_stock"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "backorder_limit": null }), "/backorder_limit"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "low_stock_threshold": -1 }), "/low_stock_threshold"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "low_stock_threshold": "1" }), "/low_stock_threshold"),
        ("/v1/inventory/a/main", json!({ "on_hand": 1, "reason": "a\0" }), "/reason"),
        ("/v1/inventory/a%20b/main", json!({ "on_hand": 1 }), "{sku}"),
        ("/v1/inventory/a%00b/main", json!({ "on_hand": 1 }), "{sku}"),
        ("/v1/inventory/a/%C3%A9", json!({ "on_hand": 1 }), "{location}"),
    ] {
        let answer = test.api.put(path, &body).await;
        refuses(&test, &body.to_string(), answer, 422, "validation_failed", pointer).await;
    }
    for path in ["/v1/inventory/%ff/main", "/v1/inventory/a/%ff"] {
        test.api.put(path, &json!({ "on_hand": 1 })).await.problem(422, "validation_failed");
        test.api.get(path).await.problem(422, "validation_failed");
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_query_parameter_is_named() {
    let (test, _) = prepared().await;
    for (query, pointer) in [
        ("limit=0", "?limit"),
        ("limit=101", "?limit"),
        ("limit=-1", "?limit"),
        ("limit=ten", "?limit"),
        ("limit=1&limit=2", "?limit"),
        ("page=2", "?page"),
        ("status=paid", "?status"),
        ("starting_after=1", "?starting_after"),
        ("starting_after=pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b", "?starting_after"),
        ("customer_id=%ff", "?customer_id"),
        ("customer_id=%00", "?customer_id"),
        ("client_reference=a%00b", "?client_reference"),
    ] {
        let answer = test.api.get(&format!("/v1/orders?{query}")).await;
        refuses(&test, query, answer, 422, "validation_failed", pointer).await;
    }
    for (query, pointer) in [("sku=a%20b", "?sku"), ("starting_after=a", "?starting_after"), ("x=1", "?x")] {
        let answer = test.api.get(&format!("/v1/inventory?{query}")).await;
        refuses(&test, query, answer, 422, "validation_failed", pointer).await;
    }
    test.finish().await;
}
