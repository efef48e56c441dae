//! What stands in the logs of a process, and what must not: nothing that a client sent but its method, its path and its
//! request id, and no line that a client wrote.

use holdfast::config::Config;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    eventually,
    raw_http::RawHttp,
    system::{PATIENCE, Servers, System, WORKERS},
};

/// Stands in whatever a client may send but must not be logged.
const SECRET: &str = "canary7f3a";

/// Stands in paths: a log line, if its end were taken for an end.
const FORGED: &str = "%0d%0a%1b%5b31m%0aERROR%20forged";

async fn call(system: &System, name: &str, method: Method, path: &str, body: &str) -> u16 {
    let request = system.http.request(method, format!("{}{path}", system.url(name)));
    let request = request
        .header("Authorization", format!("Bearer {}", system.key))
        .header("Idempotency-Key", format!("{SECRET}-{path}-{}", body.len()))
        .header("Content-Type", "application/json")
        .header("Cookie", SECRET)
        .header("User-Agent", SECRET)
        .header("X-Request-Id", format!("{SECRET} \t not a usable id"));
    request.body(body.to_owned()).send().await.unwrap().status().as_u16()
}

/// All that a client may get wrong, and a database that fails under it.
async fn misbehave(system: &System, name: &str) {
    let address = system.url(name).trim_start_matches("http://").parse().unwrap();
    let order = json!({
        "currency": "USD", "customer_id": format!("{SECRET}@example.com"), "client_reference": format!("{SECRET}-{name}"),
        "lines": [{ "sku": "a", "quantity": 1, "unit_amount": 1000 }], "metadata": { "note": SECRET },
    })
    .to_string();
    assert_eq!(call(system, name, Method::POST, "/v1/orders", &order).await, 201);
    assert_eq!(call(system, name, Method::POST, "/v1/orders", &format!("{{{order}")).await, 400);
    let unknown = order.replace("currency", SECRET);
    assert_eq!(call(system, name, Method::POST, "/v1/orders", &unknown).await, 422);
    assert_eq!(call(system, name, Method::GET, &format!("/{FORGED}?a={SECRET}"), "").await, 404);
    assert_eq!(call(system, name, Method::GET, &format!("/v1/orders?customer_id={SECRET}"), "").await, 200);
    for bytes in [
        format!(
            "GET /v1/orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {SECRET}\r\nConnection: close\r\n\r\n"
        ),
        format!("GET /livez HTTP/1.1\r\nHost: api\r\nX-Request-Id: a\rERROR {SECRET}\r\n\r\n"),
        format!("GET /livez HTTP/1.1\r\nHost: api\r\nX-Request-Id: \u{1b}[31m{SECRET}\r\n\r\n"),
        format!("\u{1b}[31m{SECRET}\r\n\r\n"),
    ] {
        let answer = RawHttp::last_answer(address, bytes.as_bytes()).await;
        assert!([400, 401].contains(&answer.status), "{answer:?}");
        assert!(!answer.body.contains(SECRET), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_writes_nothing_into_the_logs() {
    let filter = Config::load(Some(std::path::Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/support/settings.toml"
    ))))
    .unwrap()
    .telemetry
    .filter;
    let system = System::start(Servers::Neither, &[("HOLDFAST__TELEMETRY__FILTER", &filter)]).await;
    system.import_stock("sku,on_hand\na,9\n").await;
    system.api("api").await;
    let bind = system.url("api-b").trim_start_matches("http://").to_owned();
    system.spawn(
        "api-b",
        &["api"],
        &[("HOLDFAST__HTTP__BIND", &bind), ("HOLDFAST__TELEMETRY__FORMAT", "json")],
    );
    system.ready("api-b").await;
    for name in ["api", "api-b"] {
        misbehave(&system, name).await;
    }
    // Requests that fail are logged, with path and request id.
    system.stack.kill("postgres").unwrap();
    for name in ["api", "api-b"] {
        let path = format!("/v1/orders/{FORGED}");
        assert_eq!(call(&system, name, Method::GET, &path, SECRET).await, 404);
        let path = format!("/v1/inventory/{FORGED}/main?a={SECRET}");
        assert_eq!(call(&system, name, Method::GET, &path, SECRET).await, 422);
        assert_eq!(call(&system, name, Method::GET, "/v1/inventory/a/main", SECRET).await, 503);
        system.wait_for_log(name, "database unavailable").await;
        system.wait_for_log(name, "/v1/inventory/a/main").await;
        let log = system.log(name);
        assert!(!log.contains(SECRET), "{log}");
        for forged in ["\r", "\u{1b}", "ERROR forged"] {
            assert!(!log.contains(forged), "{forged:?}: {log}");
        }
    }
    for line in system.log("api-b").lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string(), "{line}");
    }
}

/// An order that is paid with a token, refused, paid again and refunded, of somebody with an address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_customer_is_in_the_log_of_any_process() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\na,9\n").await;
    system.start_roles().await;
    let order = json!({
        "currency": "USD", "customer_id": format!("{SECRET}@example.com"), "client_reference": SECRET,
        "lines": [{ "sku": "a", "quantity": 1, "unit_amount": 1000 }], "metadata": { "note": SECRET },
    });
    let order_id = system.post("api", "/v1/orders", "order", &order).await.id().to_owned();
    let payments = format!("/v1/orders/{order_id}/payments");
    let mut payment_id = String::new();
    for (token, status) in [(format!("pm_{SECRET}"), "failed"), ("pm_card_visa".to_owned(), "captured")] {
        let payment = json!({ "method": "card", "payment_token": token });
        system.post("api", &payments, &token, &payment).await.id().clone_into(&mut payment_id);
        let settled = async || {
            let url = format!("{}/v1/payments/{payment_id}", system.url("api"));
            let answer = system.http.get(url).bearer_auth(&system.key).send().await.unwrap();
            let payment: Value = answer.json().await.unwrap();
            assert!(!payment.to_string().contains(&token), "{payment}");
            payment["status"] == status
        };
        eventually(&format!("the payment is {status}"), PATIENCE, settled).await;
    }
    let refund = json!({ "amount": 400, "reason": SECRET });
    system.post("api", &format!("/v1/payments/{payment_id}/refunds"), "refund", &refund).await.id();
    system.wait_for_count("SELECT count(*) FROM refund WHERE status = 'succeeded'", 1).await;
    system.wait_for_empty_outbox().await;
    for name in WORKERS.into_iter().chain(["api"]) {
        let log = system.log(name);
        for secret in [SECRET, "@example.com", "pm_card_visa", &system.key, "sk_test_of_the_tests"] {
            assert!(!log.contains(secret), "{secret} in the log of {name}: {log}");
        }
    }
    system.assert_clean().await;
}
