//! Bad input at the API: each is refused with the status, the code and the field, and nothing is written.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    api::{Answer, id, order, send},
    app::TestApp,
};

const ORDER: &str = r#"{"currency":"USD","lines":[{"sku":"a","quantity":1,"unit_amount":1000}]}"#;

/// Where the answer says that the fault is.
fn pointers(answer: &Answer) -> Vec<&str> {
    let errors = answer.body["errors"].as_array();
    errors.into_iter().flatten().map(|error| error["pointer"].as_str().unwrap()).collect()
}

/// That an answer refuses, names this field first, and that nothing was written.
async fn refuses(test: &TestApp, input: &str, answer: Answer, status: u16, code: &str, pointer: &str) {
    let shown: String = input.chars().take(200).collect();
    let first = pointers(&answer).first().copied().unwrap_or_default();
    assert_eq!((answer.status, answer.code(), first), (status, code, pointer), "{shown}: {}", answer.text);
    assert!(answer.text.len() < 64 * 1024, "{shown}: {}", answer.text);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 0, "{shown}");
}

/// A test with stock of SKU `a`, and what its tables hold.
async fn prepared() -> (TestApp, std::collections::BTreeMap<String, String>) {
    let test = TestApp::start().await;
    test.stock("a", 1_000_000_000).await;
    let before = test.snapshot().await;
    (test, before)
}

/// The order with one part of its text replaced.
fn with(part: &str, other: &str) -> String {
    assert!(ORDER.contains(part), "{part}");
    ORDER.replacen(part, other, 1)
}

/// The order with one more field.
fn and(field: &str) -> String {
    format!("{{{field},{}", &ORDER[1..])
}

#[tokio::test]
async fn what_is_not_json_is_malformed_and_the_place_is_named() {
    let (test, before) = prepared().await;
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for (body, pointer) in [
        (String::new(), "body"),
        ("{".into(), "body"),
        ("not json".into(), "body"),
        (format!("{ORDER}x"), "body"),
        (format!("{ORDER}{ORDER}"), "body"),
        (with(r#""quantity":1"#, r#""quantity":1e400"#), "/lines/0/quantity"),
        (with(r#""quantity":1"#, r#""quantity":01"#), "/lines/0/quantity"),
        (with(r#""quantity":1"#, r#""quantity":+1"#), "/lines/0/quantity"),
        (with(r#""quantity":1"#, r#""quantity":NaN"#), "/lines/0/quantity"),
        (and(r#""client_reference":"\ud800""#), "/client_reference"),
        (and("\"client_reference\":\"a\u{0}b\""), "/client_reference"),
        (and(&format!(r#""metadata":{{"k":{deep}}}"#)), "/metadata/k"),
    ] {
        let answer = test.api.post_text("/v1/orders", body.clone()).await;
        // An array where a string belongs is the wrong type, however deep it is.
        let (status, code) =
            if body.contains("[[") { (422, "validation_failed") } else { (400, "malformed_json") };
        refuses(&test, &body, answer, status, code, pointer).await;
    }
    let request = test.api.request(Method::POST, "/v1/orders").header("Idempotency-Key", "k");
    let mut bytes = and(r#""client_reference":"?""#).into_bytes();
    *bytes.iter_mut().find(|byte| **byte == b'?').unwrap() = 0xff;
    let answer = send(request.header("Content-Type", "application/json").body(bytes)).await;
    refuses(&test, "not UTF-8", answer, 400, "malformed_json", "/client_reference").await;
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_an_order_is_named() {
    let (test, before) = prepared().await;
    let line = |field: &str| with(r#""quantity":1,"#, &format!(r#""quantity":1,{field},"#));
    let quantity = |value: &str| with(r#""quantity":1"#, &format!(r#""quantity":{value}"#));
    let amount = |value: &str| with(r#""unit_amount":1000"#, &format!(r#""unit_amount":{value}"#));
    let sku = |value: &str| with(r#""sku":"a""#, &format!(r#""sku":{value}"#));
    let text = |length: usize| "x".repeat(length);
    let one_line = &ORDER[ORDER.find('[').unwrap() + 1..ORDER.len() - 2];
    let lines = |lines: &str| with(one_line, lines);
    let many = vec![one_line; 501].join(",");
    let two = |line: &str| format!("{line},{line}");
    let metadata: Value =
        (0..51).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        // Wrong types.
        ("[]".to_owned(), ""),
        ("null".into(), ""),
        (with(r#""USD""#, "7"), "/currency"),
        (with(r#""USD""#, "null"), "/currency"),
        (with(&ORDER[ORDER.find('[').unwrap()..ORDER.len() - 1], "{}"), "/lines"),
        (lines("7"), "/lines/0"),
        (sku("7"), "/lines/0/sku"),
        (quantity(r#""1""#), "/lines/0/quantity"),
        (quantity("1.5"), "/lines/0/quantity"),
        (quantity("1.0"), "/lines/0/quantity"),
        (quantity("1e2"), "/lines/0/quantity"),
        (quantity("null"), "/lines/0/quantity"),
        (quantity("true"), "/lines/0/quantity"),
        (quantity("9223372036854775808"), "/lines/0/quantity"),
        (quantity("99999999999999999999999999"), "/lines/0/quantity"),
        (and(r#""metadata":{"k":7}"#), "/metadata/k"),
        (and(r#""metadata":[]"#), "/metadata"),
        (and(r#""capture_method":"later""#), "/capture_method"),
        // Out of range.
        (quantity("0"), "/lines/0/quantity"),
        (quantity("-1"), "/lines/0/quantity"),
        (quantity("1000000001"), "/lines/0/quantity"),
        (amount("-1"), "/lines/0/unit_amount"),
        (amount("0"), "/lines/0/unit_amount"),
        (amount("1000000000001"), "/lines/0/unit_amount"),
        (amount("9223372036854775808"), "/lines/0/unit_amount"),
        (quantity("1000000000").replace("1000}", "1000000000000}"), "/lines"),
        (lines(&two(&one_line.replace(":1,", ":600000000,").replace("1000}", "1}"))), "/lines"),
        (lines(&two(&one_line.replace("1000}", "600000000000}"))), "/lines"),
        (lines(""), "/lines"),
        (lines(&many), "/lines"),
        (and(r#""reservation_ttl_seconds":0"#), "/reservation_ttl_seconds"),
        (and(r#""reservation_ttl_seconds":-1"#), "/reservation_ttl_seconds"),
        (and(r#""reservation_ttl_seconds":86401"#), "/reservation_ttl_seconds"),
        // Unknown, repeated and missing fields.
        (and(r#""status":"confirmed""#), "/status"),
        (and(r#""total_amount":1"#), "/total_amount"),
        (and(r#""id":"ord_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b""#), "/id"),
        (line(r#""price":1"#), "/lines/0/price"),
        (and(r#""currency":"EUR""#), "/currency"),
        (line(r#""quantity":2"#), "/lines/0/quantity"),
        (line(r#""sku":"b""#), "/lines/0/sku"),
        (with(r#""currency":"USD","#, ""), "/currency"),
        (r#"{"currency":"USD"}"#.into(), "/lines"),
        (with(r#""sku":"a","#, ""), "/lines/0/sku"),
        (with(r#""quantity":1,"#, ""), "/lines/0/quantity"),
        (with(r#","unit_amount":1000"#, ""), "/lines/0/unit_amount"),
        // Text.
        (with("USD", "usd"), "/currency"),
        (with("USD", "XXX"), "/currency"),
        (with("USD", "US"), "/currency"),
        (with("USD", ""), "/currency"),
        (sku(r#""a b""#), "/lines/0/sku"),
        (sku(r#""a\n""#), "/lines/0/sku"),
        (sku(r#""a\u0000""#), "/lines/0/sku"),
        (sku(r#""""#), "/lines/0/sku"),
        (sku(r#""é""#), "/lines/0/sku"),
        (sku(&format!("\"{}\"", text(65))), "/lines/0/sku"),
        (line(r#""location_id":"a b""#), "/lines/0/location_id"),
        (and(r#""client_reference":"""#), "/client_reference"),
        (and(r#""client_reference":"a\u0000b""#), "/client_reference"),
        (and(&format!(r#""client_reference":"{}""#, text(256))), "/client_reference"),
        (and(r#""customer_id":"a\u0000b""#), "/customer_id"),
        (and(r#""customer_id":"a\nb""#), "/customer_id"),
        (and(r#""metadata":{"k":"a\u0000b"}"#), "/metadata/k"),
        (and(r#""metadata":{"a\u0000b/c~d":"v"}"#), "/metadata/a\0b~1c~0d"),
        (and(r#""metadata":{"":"v"}"#), "/metadata/"),
        (and(&format!(r#""metadata":{{"{}":"v"}}"#, text(41))), &format!("/metadata/{}", text(41))),
        (and(&format!(r#""metadata":{{"k":"{}"}}"#, text(501))), "/metadata/k"),
        (and(&format!(r#""metadata":{metadata}"#)), "/metadata"),
    ];
    for (body, pointer) in &cases {
        let answer = test.api.post_text("/v1/orders", body.as_str()).await;
        refuses(&test, body, answer, 422, "validation_failed", pointer).await;
    }
    // Every wrong field at once.
    let body = r#"{"currency":"USD","client_reference":"","lines":[
        {"sku":"a","quantity":0,"unit_amount":1},{"sku":"a","quantity":1,"unit_amount":-1}]}"#;
    let answer = test.api.post_text("/v1/orders", body).await;
    assert_eq!(pointers(&answer), ["/client_reference", "/lines/0/quantity", "/lines/1/unit_amount"]);
    assert_eq!(test.snapshot().await, before);
    test.api.post_text("/v1/orders", ORDER).await.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn a_request_of_the_wrong_shape_is_refused() {
    let (test, before) = prepared().await;
    let post = || test.api.request(Method::POST, "/v1/orders").header("Content-Type", "application/json");
    let answer = send(post().body(ORDER)).await;
    refuses(&test, "no key", answer, 400, "idempotency_key_missing", "Idempotency-Key").await;
    for key in ["", " ", "a b", "\"\"", &"k".repeat(256), "schlüssel"] {
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

#[tokio::test]
async fn every_wrong_field_of_a_payment_is_named() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = id(&test.api.post("/v1/orders", &order(&[("a", 1)])).await.expect(201));
    let before = test.snapshot().await;
    let path = format!("/v1/orders/{order_id}/payments");
    let payment = |field: &str| format!(r#"{{"method":"card",{field}}}"#);
    for (body, pointer) in [
        (payment(r#""payment_token":"4242424242424242""#), "/payment_token"),
        (payment(r#""payment_token":"4242-4242-4242-4242""#), "/payment_token"),
        (payment(r#""payment_token":"4242 4242 4242 4242""#), "/payment_token"),
        (payment(r#""payment_token":"""#), "/payment_token"),
        (payment(r#""payment_token":"tok\u0000""#), "/payment_token"),
        (payment(r#""payment_token":7"#), "/payment_token"),
        (payment(&format!(r#""payment_token":"{}""#, "x".repeat(256))), "/payment_token"),
        (payment(r#""card_number":"x""#), "/card_number"),
        (payment(r#""payment_token":"pm_x","amount":0"#), "/amount"),
        (payment(r#""payment_token":"pm_x","amount":-1000"#), "/amount"),
        (payment(r#""payment_token":"pm_x","amount":999"#), "/amount"),
        (payment(r#""payment_token":"pm_x","amount":1001"#), "/amount"),
        (payment(r#""payment_token":"pm_x","capture_method":"never""#), "/capture_method"),
        (r#"{"payment_token":"pm_x"}"#.into(), "/method"),
        (r#"{"method":"cash","payment_token":"pm_x"}"#.into(), "/method"),
        (r#"{"method":"card"}"#.into(), "/payment_token"),
    ] {
        let answer = test.api.post_text(&path, body.as_str()).await;
        assert_eq!((answer.status, answer.code()), (422, "validation_failed"), "{body}: {}", answer.text);
        assert_eq!(pointers(&answer), [pointer], "{body}: {}", answer.text);
        assert!(!answer.text.contains("4242"), "{}", answer.text);
    }
    for (body, pointer) in [(r#"{"reason":"a\u0000"}"#, "/reason"), (r#"{"lines":[]}"#, "/lines"), ("[]", "")]
    {
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
