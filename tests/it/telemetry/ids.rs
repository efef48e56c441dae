//! Log lines can be put together: those of a request, of an order, of an event, of a trace.

use serde_json::{Value, json};

use crate::support::system::{Servers, System};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The lines of a process that hold this, as JSON.
fn lines(system: &System, name: &str, text: &str) -> Vec<Value> {
    let log = system.log(name);
    let found = log.lines().map(|line| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    found.filter(|line| line["message"].as_str().is_some_and(|message| message.contains(text))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_names_its_request_its_order_its_event_and_its_trace() {
    let settings =
        [("HOLDFAST__TELEMETRY__FORMAT", "json"), ("HOLDFAST__TELEMETRY__FILTER", "info,holdfast=debug")];
    let system = System::start(Servers::RabbitMq, &settings).await;
    system.import_stock("sku,on_hand\na,9\n").await;
    system.start_roles().await;
    let post = async |path: &str, key: &str, body: Value| -> (u16, Value) {
        let request = system.http.post(format!("{}{path}", system.url("api"))).bearer_auth(&system.key);
        let request = request
            .header("Idempotency-Key", key)
            .header("X-Request-Id", format!("req_{key}"))
            .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"));
        let answer = request.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    let body = json!({ "currency": "USD", "lines": [{ "sku": "a", "quantity": 1, "unit_amount": 1000 }] });
    let (_, order) = post("/v1/orders", "order", body).await;
    let order_id = order["id"].as_str().unwrap();
    let payment = json!({ "method": "card", "payment_token": "pm_card_visa" });
    post(&format!("/v1/orders/{order_id}/payments"), "payment", payment).await;
    system.wait_for_order("api", order_id, "fulfilled").await;
    system.wait_for_empty_outbox().await;

    // Of deliveries: the client's trace goes on, though nothing is recorded here.
    for (worker, event_type) in
        [("worker-payment", "payment.created.v1"), ("worker-fulfilment", "order.confirmed.v1")]
    {
        system.wait_for_log(worker, "\"handled\"").await;
        let handled = lines(&system, worker, "handled");
        let line = handled.iter().find(|line| line["event_type"] == event_type);
        let span = &line.unwrap_or_else(|| panic!("{event_type}: {handled:?}"))["span"];
        assert_eq!(span["name"], "delivery");
        assert_eq!(span["subject"], format!("order/{order_id}"));
        assert_eq!((&span["trace_id"], &span["order_id"]), (&json!(TRACE), &json!(order_id)));
        assert!(span["event_id"].as_str().is_some_and(|id| id.starts_with("evt_")), "{span}");
    }

    // Of a request: this one meets a database that is gone.
    system.stack.kill("postgres").unwrap();
    let (status, _) = post(&format!("/v1/orders/{order_id}/cancel"), "cancel", json!({})).await;
    assert_eq!(status, 503);
    system.wait_for_log("api", "database unavailable").await;
    let failed = lines(&system, "api", "database unavailable");
    let span = &failed.iter().find(|line| line["span"]["request_id"] == "req_cancel").unwrap()["span"];
    assert_eq!((&span["trace_id"], &span["method"]), (&json!(TRACE), &json!("POST")));
    assert_eq!(span["path"], format!("/v1/orders/{order_id}/cancel"));
    for name in ["api", "worker-payment", "worker-fulfilment", "worker-relay", "worker-expiry"] {
        for line in system.log(name).lines() {
            let parsed = serde_json::from_str::<Value>(line);
            assert!(parsed.is_ok_and(|line| line["level"].is_string()), "{name}: {line}");
        }
    }
}
