//! Webhooks of the merchant: the API of endpoints, what is delivered and when, and where nothing is ever sent.

mod delivery;
mod endpoints;
mod failures;
mod processes;
mod ssrf;

use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    receiver::Receiver,
};

const ENDPOINTS: &str = "/v1/webhook-endpoints";

/// An API, and the workers that events take to come to an endpoint.
async fn started() -> TestApp {
    let workers = &[WorkerKind::Relay, WorkerKind::Webhook];
    let test = TestApp::start_with(Setup { workers, ..Setup::default() }).await;
    test.stock("a", 1000).await;
    // Before there is any endpoint.
    test.drain().await;
    test
}

/// Makes an endpoint for these types; for all of them where there is none. Gives it with its secret.
async fn endpoint(test: &TestApp, receiver: &Receiver, types: &[&str]) -> Value {
    let types = (!types.is_empty()).then_some(types);
    test.api.post(ENDPOINTS, &json!({ "url": receiver.url, "event_types": types })).await.expect(201)
}

fn path(endpoint: &Value, rest: &str) -> String {
    format!("{ENDPOINTS}/{}{rest}", endpoint["id"].as_str().unwrap())
}

/// The deliveries of an endpoint, the oldest first.
async fn deliveries(test: &TestApp, endpoint: &Value, query: &str) -> Vec<Value> {
    let page = test.api.get(&path(endpoint, &format!("/deliveries{query}"))).await.expect(200);
    page["data"].as_array().unwrap().iter().rev().cloned().collect()
}

/// Waits until so many deliveries of an endpoint are in this status.
async fn delivered(test: &TestApp, endpoint: &Value, status: &str, count: usize) -> Vec<Value> {
    let query = format!("?limit=100&status={status}");
    let what = format!("{count} deliveries are {status}");
    eventually(&what, PATIENCE, async || deliveries(test, endpoint, &query).await.len() >= count).await;
    deliveries(test, endpoint, &query).await
}
