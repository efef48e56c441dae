//! The webhook worker as a process: killed between a message and its record, and told to stop.

use std::time::Duration;

use devstack::Signal;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE, eventually,
    receiver::{Receiver, Reply},
    system::{Servers, System},
};

const SETTINGS: [(&str, &str); 4] = [
    ("HOLDFAST__WEBHOOK__ALLOW_INSECURE", "true"),
    ("HOLDFAST__WEBHOOK__ALLOWED_NETWORKS", "127.0.0.0/8"),
    ("HOLDFAST__WEBHOOK__ALLOWED_PORTS", "any"),
    ("HOLDFAST__WORKER__WEBHOOK__INTERVAL_MS", "20"),
];

async fn delivery(system: &System, id: &str) -> Value {
    let url = format!("{}/v1/webhook-deliveries/{id}", system.url("api"));
    system.http.get(url).bearer_auth(&system.key).send().await.unwrap().json().await.unwrap()
}

/// An endpoint, and a test that is delivered to it. Gives the delivery's id.
async fn begun(system: &System, receiver: &Receiver) -> String {
    let body = json!({ "url": receiver.url });
    let endpoint = system.post("api", "/v1/webhook-endpoints", "endpoint", &body).await;
    let path = format!("/v1/webhook-endpoints/{}/test", endpoint.id());
    system.post("api", &path, "test", &json!({})).await.id().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_sends_again_under_the_same_id() {
    let system = System::start(Servers::Neither, &SETTINGS).await;
    system.api("api").await;
    let receiver = Receiver::start().await;
    receiver.answer_first([Reply { delay: Duration::from_mins(1), ..Reply::status(200) }]);
    system.worker("worker-webhook", &["webhook"]);
    let id = begun(&system, &receiver).await;
    receiver.wait_for(1).await;
    system.crash("worker-webhook");
    // The claim holds until the attempt is taken for lost; the test does not wait for that.
    assert_eq!(delivery(&system, &id).await["status"], "pending");
    let lapse = "UPDATE webhook_delivery SET claimed_until = now(), next_attempt_at = now()";
    sqlx::query(lapse).execute(&system.database).await.unwrap();
    let received = receiver.wait_for(2).await;
    eventually("it is delivered", PATIENCE, async || delivery(&system, &id).await["status"] == "delivered")
        .await;
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(received[0].text, received[1].text);
    let told = delivery(&system, &id).await;
    let attempts = told["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &told["attempt_count"]), (2, &json!(2)));
    assert_eq!((&attempts[1]["error_code"], &attempts[1]["number"]), (&json!("outcome_unknown"), &json!(1)));
    assert_eq!((&attempts[0]["status_code"], &attempts[0]["number"]), (&json!(204), &json!(2)));
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_records_what_is_under_way() {
    let system = System::start(Servers::Neither, &SETTINGS).await;
    system.api("api").await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply { delay: Duration::from_millis(1500), ..Reply::status(200) });
    system.worker("worker-webhook", &["webhook"]);
    let id = begun(&system, &receiver).await;
    receiver.wait_for(1).await;
    system.stack.signal("worker-webhook", Signal::TERM).unwrap();
    assert!(system.wait_exit("worker-webhook", PATIENCE).await);
    assert_eq!(delivery(&system, &id).await["status"], "delivered");
    assert_eq!(receiver.received().len(), 1);
}
