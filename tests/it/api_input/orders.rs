//! The wrong fields of an order.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ORDER, and, pointers, prepared, refuses, with};
use crate::support::api::send;

/// The only line of the order.
const LINE: &str = r#"{"sku":"a","quantity":1,"unit_amount":1000}"#;

fn sku(value: &str) -> String {
    with(r#""sku":"a""#, &format!(r#""sku":{value}"#))
}

fn quantity(value: &str) -> String {
    with(r#""quantity":1"#, &format!(r#""quantity":{value}"#))
}

fn amount(value: &str) -> String {
    with(r#""unit_amount":1000"#, &format!(r#""unit_amount":{value}"#))
}

/// The order with one more field in its line.
fn line(field: &str) -> String {
    with(r#""quantity":1,"#, &format!(r#""quantity":1,{field},"#))
}

/// The order with other lines.
fn lines(other: &str) -> String {
    with(LINE, other)
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

/// That each body is refused because of a field, with its pointer.
async fn all_are_invalid(cases: &[(String, &str)]) {
    all_are_refused("validation_failed", cases).await;
}

async fn all_are_refused(code: &str, cases: &[(String, &str)]) {
    let (test, before) = prepared().await;
    for (body, pointer) in cases {
        let answer = test.api.post_text("/v1/orders", body.as_str()).await;
        refuses(&test, body, answer, 422, code, pointer).await;
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
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
        (and(&format!(r#""metadata":{{"k":{deep}}}"#)), "body"),
        ("{\"a\":".into(), "/a"),
    ] {
        let answer = test.api.post_text("/v1/orders", body.clone()).await;
        refuses(&test, &body, answer, 400, "malformed_json", pointer).await;
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
async fn a_value_of_another_type_is_invalid() {
    all_are_invalid(&[
        ("[]".to_owned(), ""),
        ("null".into(), ""),
        (r#"["USD", []]"#.into(), ""),
        (with(LINE, r#"["a", 1, 1000, null]"#), "/lines/0"),
        (with(r#""USD""#, "7"), "/currency"),
        (with(r#""USD""#, "null"), "/currency"),
        (with(&format!("[{LINE}]"), "{}"), "/lines"),
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
        (and(r#""capture_method":{"manual":null}"#), "/capture_method"),
        (and(r#""capture_method":["manual"]"#), "/capture_method"),
    ])
    .await;
}

#[tokio::test]
async fn a_number_out_of_range_is_invalid() {
    let many = vec![LINE; 501].join(",");
    all_are_invalid(&[
        (quantity("0"), "/lines/0/quantity"),
        (quantity("-1"), "/lines/0/quantity"),
        (quantity("1000000001"), "/lines/0/quantity"),
        (amount("-1"), "/lines/0/unit_amount"),
        (amount("1000000000001"), "/lines/0/unit_amount"),
        (amount("9223372036854775808"), "/lines/0/unit_amount"),
        (lines(""), "/lines"),
        (lines(&many), "/lines"),
        (and(r#""reservation_ttl_seconds":0"#), "/reservation_ttl_seconds"),
        (and(r#""reservation_ttl_seconds":-1"#), "/reservation_ttl_seconds"),
        (and(r#""reservation_ttl_seconds":86401"#), "/reservation_ttl_seconds"),
    ])
    .await;
}

#[tokio::test]
async fn lines_that_add_up_to_nothing_or_too_much_do_not_go_together() {
    let two = |line: &str| format!("{line},{line}");
    all_are_refused(
        "inconsistent_fields",
        &[
            (amount("0"), "/lines/0/unit_amount"),
            (quantity("1000000000").replace("1000}", "1000000000000}"), "/lines"),
            (lines(&two(&LINE.replace(":1,", ":600000000,").replace("1000}", "1}"))), "/lines"),
            (lines(&two(&LINE.replace("1000}", "600000000000}"))), "/lines"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_unknown_a_repeated_or_a_missing_field_is_invalid() {
    all_are_invalid(&[
        (and(r#""status":"confirmed""#), "/status"),
        (and(r#""total_amount":1"#), "/total_amount"),
        (and(r#""id":"ord_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b""#), "/id"),
        (line(r#""price":1"#), "/lines/0/price"),
        (and(r#""currency":"EUR""#), "/currency"),
        (line(r#""quantity":2"#), "/lines/0/quantity"),
        (line(r#""sku":"b""#), "/lines/0/sku"),
        (and(r#""metadata":{"a":"1","a":"2"}"#), "/metadata/a"),
        (and(r#""metadata":{"a":"1","b":"2","\u0061":"1"}"#), "/metadata/a"),
        (and(r#""metadata":{"x/y~":"1","x/y~":"2"}"#), "/metadata/x~1y~0"),
        (and(r#""metadata":{"":"1","":"2"}"#), "/metadata/"),
        (with(r#""currency":"USD","#, ""), "/currency"),
        (r#"{"currency":"USD"}"#.into(), "/lines"),
        (with(r#""sku":"a","#, ""), "/lines/0/sku"),
        (with(r#""quantity":1,"#, ""), "/lines/0/quantity"),
        (with(r#","unit_amount":1000"#, ""), "/lines/0/unit_amount"),
    ])
    .await;
}

#[tokio::test]
async fn a_text_that_is_too_long_or_unusable_is_invalid() {
    let fifty_one = (0..51).map(|n| (format!("k{n}"), json!("v")));
    let metadata: Value = fifty_one.collect::<serde_json::Map<_, _>>().into();
    let long_key = format!("/metadata/{}", text(41));
    all_are_invalid(&[
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
        (and(&format!(r#""metadata":{{"{}":"v"}}"#, text(41))), &long_key),
        (and(&format!(r#""metadata":{{"k":"{}"}}"#, text(501))), "/metadata/k"),
        (and(&format!(r#""metadata":{metadata}"#)), "/metadata"),
    ])
    .await;
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let (test, before) = prepared().await;
    let body = r#"{"currency":"USD","client_reference":"","lines":[
        {"sku":"a","quantity":0,"unit_amount":1},{"sku":"a","quantity":1,"unit_amount":-1}]}"#;
    let answer = test.api.post_text("/v1/orders", body).await;
    assert_eq!(pointers(&answer), ["/client_reference", "/lines/0/quantity", "/lines/1/unit_amount"]);
    assert_eq!(test.snapshot().await, before);
    test.api.post_text("/v1/orders", ORDER).await.expect(201);
    test.finish().await;
}
