//! What is delivered: which events, in which form, how often, in which order.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use super::{delivered, deliveries, endpoint, path, started};
use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    receiver::{Receiver, Reply},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_comes_signed_and_as_the_feed_has_it() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    let order = test.placed(&[("a", 1)]).await;
    let received = receiver.wait_for(1).await.remove(0);

    let feed = test.api.get("/v1/events?type=order.created.v1").await.expect(200);
    let mut event = feed["data"][0].clone();
    event.as_object_mut().unwrap().remove("place");
    assert_eq!(received.body, event);
    assert_eq!(received.body["subject"], format!("order/{order}"));
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("webhook-id"), event["id"]);
    let sent: u64 = received.header("webhook-timestamp").parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((now - 120..=now + 5).contains(&sent), "{sent} at {now}");
    let secret = endpoint["secret"].as_str().unwrap();
    assert_eq!(
        (received.signatures_by(secret), received.header("webhook-signature").split(' ').count()),
        (1, 1)
    );
    assert_eq!(received.signatures_by("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), 0);

    let delivery = delivered(&test, &endpoint, "delivered", 1).await.remove(0);
    for (field, expected) in [
        ("endpoint_id", &endpoint["id"]),
        ("event_id", &event["id"]),
        ("type", &json!("order.created.v1")),
        ("subject", &event["subject"]),
        ("sequence", &json!(1)),
        ("attempt_count", &json!(1)),
        ("last_status_code", &json!(204)),
        ("last_error_code", &Value::Null),
        ("next_attempt_at", &Value::Null),
    ] {
        assert_eq!(delivery[field], *expected, "{field}");
    }
    let detail = format!("/v1/webhook-deliveries/{}", delivery["id"].as_str().unwrap());
    let detail = test.api.get(&detail).await.expect(200);
    let [attempt] = detail["attempts"].as_array().unwrap().as_slice() else { panic!("{detail}") };
    assert_eq!((&attempt["number"], &attempt["status_code"]), (&json!(1), &json!(204)));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_gets_what_it_names_from_when_it_is_there_and_while_it_is_enabled() {
    let test = started().await;
    let (all, some) = (Receiver::start().await, Receiver::start().await);
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    let everything = endpoint(&test, &all, &[]).await;
    let canceled = endpoint(&test, &some, &["order.canceled.v1"]).await;
    let order = test.placed(&[("a", 1)]).await;
    test.api.cancel(&order).await.expect(200);
    all.wait_for(2).await;
    some.wait_for(1).await;
    test.api.post(&path(&everything, "/disable"), &json!({})).await.expect(200);
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    // What an endpoint wants is asked when a delivery is made.
    let behind = async || test.app.webhook_backlog().await.unwrap().behind;
    eventually("all of it was looked at", PATIENCE, async || behind().await == 0).await;
    test.api.post(&path(&everything, "/enable"), &json!({})).await.expect(200);
    let set = json!({ "event_types": null });
    test.api.put(&path(&canceled, ""), &set).await.expect(200);
    test.placed(&[("a", 1)]).await;
    let last = all.wait_for(3).await.remove(2);
    some.wait_for(2).await;
    assert_eq!(all.types(), ["order.created.v1", "order.canceled.v1", "order.created.v1"]);
    assert_eq!(some.types(), ["order.canceled.v1", "order.created.v1"]);
    let feed = test.api.get("/v1/events?limit=100").await.expect(200);
    let newest = feed["data"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last.body["id"], newest["id"]);
    test.finish().await;
}

/// What came before an endpoint is not what it is behind with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_is_behind_with_what_it_gets_alone() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Relay], ..Setup::default() }).await;
    test.stock("a", 1000).await;
    for _ in 0..3 {
        test.placed(&[("a", 1)]).await;
    }
    test.drain().await;
    let behind = async || test.app.webhook_backlog().await.unwrap().behind;
    assert_eq!(behind().await, 0);
    let receiver = Receiver::start().await;
    endpoint(&test, &receiver, &[]).await;
    assert_eq!(behind().await, 0);
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    assert_eq!(behind().await, 1);
    endpoint(&test, &receiver, &[]).await;
    assert_eq!(behind().await, 1);
    while test.app.fan_out_webhooks().await.unwrap() {}
    assert_eq!(behind().await, 0);
    test.finish().await;
}

/// However many make deliveries of the feed at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_becomes_one_delivery_and_those_of_an_order_come_in_order() {
    let mut test = started().await;
    let receiver = Receiver::start().await;
    // Without order some would overtake others.
    receiver.answer(Reply { delay: std::time::Duration::from_millis(15), ..Reply::status(200) });
    endpoint(&test, &receiver, &[]).await;
    let bus = test.another_bus();
    test.start_workers_on(&[WorkerKind::Webhook], bus);
    let orders = join_all((0..25).map(|_| test.placed(&[("a", 1)]))).await;
    join_all(orders.iter().map(|order| test.api.cancel(order))).await;
    let over = "SELECT count(*) FROM webhook_delivery WHERE status = 'delivered'";
    eventually("all are delivered", PATIENCE, async || test.count(over).await == 50).await;
    test.drain().await;
    let received = receiver.received();
    let mut histories: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for one in &received {
        let sequence = one.body["sequence"].as_i64().unwrap();
        let history = histories.entry(one.body["subject"].as_str().unwrap()).or_default();
        // What timed out on a busy machine came twice.
        if !history.contains(&sequence) {
            history.push(sequence);
        }
    }
    assert_eq!(histories.len(), 25);
    assert!(histories.values().all(|sequences| *sequences == [1, 2]), "{histories:?}");
    let all = "SELECT count(*) FROM webhook_delivery";
    assert_eq!(test.count(all).await, 50);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_rotation_messages_are_signed_with_both_secrets() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint(&test, &receiver, &[]).await;
    let rotate = path(&endpoint, "/rotate-secret");
    let grace = json!({ "old_secret_expires_in_seconds": 3600 });
    let new = test.api.post_as("k", &rotate, &grace).await;
    let again = test.api.post_as("k", &rotate, &grace).await;
    assert_eq!((again.replayed(), &again.body["secret"]), (true, &Value::Null));
    let new = new.expect(200);
    assert!(new["old_secret_expires_at"].is_string());
    assert_eq!((&endpoint["version"], &new["version"]), (&json!(1), &json!(2)));
    assert_ne!(new["updated_at"], endpoint["updated_at"]);
    assert_eq!(test.api.get(&path(&endpoint, "")).await.header("etag"), "\"2\"");
    let (old_secret, new_secret) = (endpoint["secret"].as_str().unwrap(), new["secret"].as_str().unwrap());
    test.placed(&[("a", 1)]).await;
    let both = receiver.wait_for(1).await.remove(0);
    assert_eq!((both.signatures_by(old_secret), both.signatures_by(new_secret)), (1, 1));
    let refused = test.api.post(&rotate, &grace).await.problem(409, "webhook_secret_limit_reached");
    assert_eq!(refused["limit"], 2);
    // It may be known to others: what was before ends at once.
    let newest = test.api.post(&rotate, &json!({ "old_secret_expires_in_seconds": 0 })).await.expect(200);
    assert_eq!(newest["old_secret_expires_at"], Value::Null);
    test.placed(&[("a", 1)]).await;
    let one = receiver.wait_for(2).await.remove(1);
    let by =
        [old_secret, new_secret, newest["secret"].as_str().unwrap()].map(|secret| one.signatures_by(secret));
    assert_eq!(by, [0, 0, 1]);
    // Nowhere else in the database.
    let kept = "SELECT count(*) FROM idempotency_key WHERE response_body LIKE '%whsec\\_%'";
    assert_eq!(test.count(kept).await, 0);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_comes_like_an_event_and_to_nobody_else() {
    let test = started().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let tried = endpoint(&test, &receiver, &["order.expired.v1"]).await;
    let beside = endpoint(&test, &other, &[]).await;
    let answer = test.api.post(&path(&tried, "/test"), &json!({})).await;
    assert!(answer.header("location").starts_with("/v1/webhook-deliveries/whd_"), "{answer:?}");
    let delivery = answer.expect(201);
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        (&received.body["type"], &received.body["id"]),
        (&json!("webhook.test.v1"), &delivery["event_id"])
    );
    assert_eq!(received.signatures_by(tried["secret"].as_str().unwrap()), 1);
    eventually("it is delivered", PATIENCE, async || {
        deliveries(&test, &tried, "?type=webhook.test.v1&status=delivered").await.len() == 1
    })
    .await;
    assert_eq!(deliveries(&test, &beside, "").await.len(), 0);
    test.finish().await;
}
