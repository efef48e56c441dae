//! The idempotency key, on every POST of the API's own document: it has to be there, and it is of its client.

use holdfast::domain::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::shop;
use crate::support::{
    api::{Answer, Api, id, order, payment, send},
    app::TestApp,
    operations::{Operation, posts},
};

/// The body of a stock file.
const FILE: &str = "sku,on_hand\na,10\n";

#[tokio::test]
async fn every_post_needs_one_key() {
    let test = TestApp::start().await;
    let before = test.snapshot().await;
    for operation in posts(&test.api).await {
        let post = || test.api.request(Method::POST, &operation.path).json(&json!({}));
        send(post()).await.problem(400, "idempotency_key_missing");
        let twice = post().header("Idempotency-Key", "a").header("Idempotency-Key", "b");
        send(twice).await.problem(400, "idempotency_key_invalid");
        send(post().header("Idempotency-Key", "a b")).await.problem(400, "idempotency_key_invalid");
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

/// The answer of one client is never another's, though both use the same key for the same operation.
#[tokio::test]
async fn an_idempotency_key_is_of_its_client_on_every_post() {
    let test = shop().await;
    test.stock("a", 1000).await;
    test.api.put("/v1/locations/north", &json!({ "priority": 1 })).await.expect(200);
    let other = test.new_key("other", &[Scope::Admin]).await;
    let clients = [test.api.clone(), test.api.with_secret(&other.secret)];
    for operation in posts(&test.api).await {
        let name = operation.name();
        let mut first = Vec::new();
        for client in &clients {
            let request = request(&test, &operation).await;
            let answer = request.post(client).await;
            assert!((200..300).contains(&answer.status), "{name}: {}", answer.text);
            assert!(!answer.replayed(), "{name}");
            first.push((client, request, answer));
        }
        assert_ne!(
            first[0].2.body["id"].as_str().unwrap_or("x"),
            first[1].2.body["id"].as_str().unwrap_or("y")
        );
        for (client, request, answer) in first {
            let again = request.post(client).await;
            assert_eq!((again.status, again.replayed()), (answer.status, true), "{name}: {}", again.text);
            assert_eq!(without_secret(again.body), without_secret(answer.body), "{name}");
        }
    }
    test.settle_and_finish().await;
}

/// A key is shown once.
fn without_secret(mut body: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.remove("secret");
    }
    body
}

/// A request that can be carried out.
struct Request {
    path: String,
    /// `None`: a stock file.
    body: Option<Value>,
}

impl Request {
    async fn post(&self, client: &Api) -> Answer {
        match &self.body {
            Some(body) => client.post_as("k", &self.path, body).await,
            None => client.post_file("k", &self.path, "text/csv", FILE).await,
        }
    }
}

/// Makes what the operation is about, in a status that allows it. Whoever adds an operation says here how it succeeds.
async fn request(test: &TestApp, operation: &Operation) -> Request {
    let lines = [("a", 2)];
    let (id, body) = match operation.id.as_str() {
        "place_order" => (String::new(), order(&lines)),
        "cancel_order" => (test.placed(&lines).await, json!({})),
        "extend_reservation" => (test.placed(&lines).await, json!({ "seconds": 10 })),
        "start_payment" => (test.placed(&lines).await, payment("pm_card_visa")),
        "capture_payment" => (test.paid(&lines, "manual").await.1, json!({})),
        "void_payment" => {
            let order_id = test.placed(&lines).await;
            let payment_id = test.paying(&order_id, "pm_sandbox_requires_action").await;
            test.pump("payment").await;
            (payment_id, json!({}))
        }
        "refund_payment" => (test.paid(&lines, "automatic").await.1, json!({})),
        "create_shipment" => (id(&test.paid(&lines, "automatic").await.0), json!({})),
        "pack_shipment" | "cancel_shipment" => (shipment(test, &[]).await, json!({})),
        "ship_shipment" => (shipment(test, &["pack"]).await, json!({})),
        "deliver_shipment" => (shipment(test, &["pack", "ship"]).await, json!({})),
        "return_shipment" => {
            (shipment(test, &["pack", "ship"]).await, json!({ "restock": true, "reason": "x" }))
        }
        "adjust_inventory" => (String::new(), json!({ "items": [{ "sku": "a", "delta": 1 }] })),
        "transfer_inventory" => {
            let item =
                json!({ "sku": "a", "from_location_id": "main", "to_location_id": "north", "quantity": 1 });
            (String::new(), json!({ "items": [item] }))
        }
        "create_stock_import" => {
            return Request { path: format!("{}?mode=set", operation.path), body: None };
        }
        "cancel_stock_import" => (test.api.import("mode=set", FILE).await, json!({})),
        "create_api_key" => (String::new(), json!({ "name": "n", "scopes": ["orders:read"] })),
        "rotate_api_key" | "revoke_api_key" => {
            (test.new_key("old", &[Scope::OrdersRead]).await.key.id.to_string(), json!({}))
        }
        "create_webhook_endpoint" => (String::new(), json!({ "url": HOOK })),
        "rotate_webhook_secret" | "disable_webhook_endpoint" | "test_webhook_endpoint" => {
            (webhook_endpoint(test).await, json!({}))
        }
        "enable_webhook_endpoint" => {
            let endpoint_id = webhook_endpoint(test).await;
            let disable = format!("/v1/webhook-endpoints/{endpoint_id}/disable");
            test.api.post(&disable, &json!({})).await.expect(200);
            (endpoint_id, json!({}))
        }
        "redeliver_webhook" => {
            let try_it = format!("/v1/webhook-endpoints/{}/test", webhook_endpoint(test).await);
            (id(&test.api.post(&try_it, &json!({})).await.expect(201)), json!({}))
        }
        unknown => panic!("{unknown} is new here"),
    };
    Request { path: operation.template.replace("{id}", &id), body: Some(body) }
}

/// Nobody listens there, and nobody sends.
const HOOK: &str = "http://127.0.0.1:9/";

async fn webhook_endpoint(test: &TestApp) -> String {
    id(&test.api.post("/v1/webhook-endpoints", &json!({ "url": HOOK })).await.expect(201))
}

/// A shipment with these steps behind it.
async fn shipment(test: &TestApp, steps: &[&str]) -> String {
    let (order, _) = test.paid(&[("a", 2)], "automatic").await;
    let shipment = test.shipping(&order, &[(0, 2)]).await;
    for step in steps {
        test.ask_shipment(&shipment, step, json!({})).await.expect(200);
    }
    id(&shipment)
}
