//! Bad input at the API: each is refused with the status, the code and the field, and nothing is written.

mod everywhere;
mod lists;
mod orders;
mod requests;

use std::collections::BTreeMap;

use crate::support::{api::Answer, app::TestApp};

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
async fn prepared() -> (TestApp, BTreeMap<String, String>) {
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
