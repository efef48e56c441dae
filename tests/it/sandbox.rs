//! The sandbox over plain HTTP: it is as strict as Stripe where the adapter relies on it.

use std::time::{Duration, Instant};

use holdfast::sandbox::SandboxOptions;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::sandbox::{SECRET_KEY, TestSandbox, http_client};

const PAYMENT: &str = "pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";

struct Answer {
    status: StatusCode,
    replayed: bool,
    body: Value,
}

async fn post(sandbox: &TestSandbox, path: &str, key: &str, form: &[(&str, &str)]) -> Answer {
    let request = http_client().post(format!("{}{path}", sandbox.url)).bearer_auth(SECRET_KEY);
    let response = request.header("Idempotency-Key", key).form(form).send().await.unwrap();
    let replayed = response.headers().get("Idempotent-Replayed").is_some_and(|value| value == "true");
    Answer { status: response.status(), replayed, body: response.json().await.unwrap_or_default() }
}

async fn get(sandbox: &TestSandbox, path: &str) -> Value {
    let request = http_client().get(format!("{}{path}", sandbox.url)).basic_auth(SECRET_KEY, Some(""));
    request.send().await.unwrap().json().await.unwrap()
}

fn form<'a>(token: &'a str, amount: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("amount", amount),
        ("currency", "usd"),
        ("payment_method", token),
        ("confirm", "true"),
        ("capture_method", "manual"),
        ("metadata[holdfast_payment_id]", PAYMENT),
    ]
}

#[tokio::test]
async fn the_first_answer_under_a_key_is_given_again_even_an_error() {
    let sandbox = TestSandbox::start().await;
    for (token, status) in
        [("pm_card_visa", 200), ("pm_card_chargeDeclined", 402), ("pm_sandbox_error_after_authorize", 500)]
    {
        let first = post(&sandbox, "/v1/payment_intents", token, &form(token, "100")).await;
        let second = post(&sandbox, "/v1/payment_intents", token, &form(token, "100")).await;
        assert_eq!((first.status.as_u16(), first.replayed), (status, false));
        assert_eq!((second.status.as_u16(), second.replayed), (status, true));
        assert_eq!(first.body, second.body);
        let other = post(&sandbox, "/v1/payment_intents", token, &form(token, "101")).await;
        assert_eq!((other.status.as_u16(), &other.body["error"]["type"]), (400, &json!("idempotency_error")));
    }
    assert_eq!(sandbox.summary().await["intents"], 3);
}

#[tokio::test]
async fn a_key_in_use_is_a_conflict_and_a_wrong_request_uses_no_key() {
    let sandbox = TestSandbox::start().await;
    let form = form("pm_sandbox_slow", "100");
    let (first, second) = tokio::join!(post(&sandbox, "/v1/payment_intents", "k", &form), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        post(&sandbox, "/v1/payment_intents", "k", &form).await
    });
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 409));

    let wrong = post(&sandbox, "/v1/payment_intents", "j", &[("amount", "0")]).await;
    assert_eq!(wrong.status, 400);
    assert_eq!(post(&sandbox, "/v1/payment_intents", "j", &form).await.status, 200);
}

#[tokio::test]
async fn requests_are_refused_in_stripes_words() {
    let sandbox = TestSandbox::start().await;
    for (field, value) in [
        ("amount", "0"),
        ("amount", "1.5"),
        ("currency", "USD"),
        ("confirm", "false"),
        ("payment_method", ""),
    ] {
        let mut form = form("pm_card_visa", "100");
        form.retain(|(name, _)| *name != field);
        form.push((field, value));
        let answer = post(&sandbox, "/v1/payment_intents", "k", &form).await;
        let error = &answer.body["error"];
        assert_eq!((answer.status.as_u16(), &error["type"]), (400, &json!("invalid_request_error")));
        assert_eq!(error["param"], field);
    }
    let missing = get(&sandbox, "/v1/payment_intents/pi_missing").await;
    assert_eq!(missing["error"]["code"], "resource_missing");
    let unknown = get(&sandbox, "/v1/customers").await;
    assert!(unknown["error"]["message"].as_str().unwrap().contains("/v1/customers"));
    for request in [
        http_client().get(format!("{}/v1/payment_intents", sandbox.url)),
        http_client().get(format!("{}/v1/payment_intents", sandbox.url)).bearer_auth("sk_test_wrong"),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn intents_are_listed_and_searched_and_the_charge_is_shown_where_asked_for() {
    let sandbox = TestSandbox::start().await;
    for key in ["a", "b", "c"] {
        post(&sandbox, "/v1/payment_intents", key, &form("pm_card_visa", "100")).await;
    }
    let page = get(&sandbox, "/v1/payment_intents?limit=2").await;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let query = "metadata%5B%22holdfast_payment_id%22%5D%3A%22pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b%22";
    let found = get(&sandbox, &format!("/v1/payment_intents/search?query={query}")).await;
    assert_eq!(found["data"].as_array().unwrap().len(), 3);
    let id = found["data"][0]["id"].as_str().unwrap();
    assert!(get(&sandbox, &format!("/v1/payment_intents/{id}")).await["latest_charge"].is_string());
    let expanded = get(&sandbox, &format!("/v1/payment_intents/{id}?expand%5B%5D=latest_charge")).await;
    assert_eq!(expanded["latest_charge"]["amount_refunded"], 0);
    // Three keys made three payments of one payment id: counted, not hidden.
    assert_eq!(sandbox.summary().await["authorizations_per_payment_max"], 3);
    assert_eq!(sandbox.payment(PAYMENT).await["intents"], 3);
}

#[tokio::test]
async fn only_the_newest_are_kept() {
    let sandbox =
        TestSandbox::start_with(SandboxOptions { kept: 2, ..SandboxOptions::new(SECRET_KEY) }).await;
    for key in ["a", "b", "c", "a"] {
        let answer = post(&sandbox, "/v1/payment_intents", key, &form("pm_card_visa", "100")).await;
        assert!(!answer.replayed);
    }
    assert_eq!(get(&sandbox, "/v1/payment_intents").await["data"].as_array().unwrap().len(), 2);
    assert_eq!(sandbox.summary().await["intents"], 4);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_an_answer_held_back() {
    let sandbox = TestSandbox::start().await;
    let url = sandbox.url.clone();
    let request = http_client().post(format!("{url}/v1/payment_intents")).bearer_auth(SECRET_KEY);
    let held = tokio::spawn(request.form(&form("pm_sandbox_timeout_then_success", "100")).send());
    while sandbox.summary().await["authorized"] == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    sandbox.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(held.await.unwrap().unwrap().status(), 504);
}
