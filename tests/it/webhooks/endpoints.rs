//! The API of endpoints: made, changed, deleted; what is told of them, and what never is.

use serde_json::{Value, json};

use super::{ENDPOINTS, deliveries, endpoint, path};
use crate::support::{
    PATIENCE,
    api::{id, send},
    app::{Setup, TestApp},
    eventually,
    receiver::Receiver,
};
use holdfast::{domain::access::Scope, worker::WorkerKind};
use reqwest::Method;

const HOOK: &str = "http://127.0.0.1:9/hook";

#[tokio::test]
async fn an_endpoint_is_made_changed_and_deleted() {
    let test = TestApp::start().await;
    let body = json!({ "url": HOOK, "description": "shop", "event_types": ["order.created.v1"] });
    let first = test.api.post_as("k", ENDPOINTS, &body).await;
    let again = test.api.post_as("k", ENDPOINTS, &body).await;
    assert_eq!((first.status, again.status, again.replayed()), (201, 201, true));
    assert_eq!(first.header("location"), again.header("location"));
    let secret = first.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let mut without = first.body.clone();
    without["secret"] = Value::Null;
    assert_eq!(again.body, without);

    let made = first.body.clone();
    let read = test.api.get(&path(&made, "")).await;
    assert_eq!((read.header("etag"), read.text.contains("whsec_")), ("\"1\"", false));
    let only_url = json!({ "url": format!("{HOOK}/2") });
    let changed = test.api.put(&path(&made, ""), &only_url).await.expect(200);
    for (field, expected) in [
        ("url", json!(format!("{HOOK}/2"))),
        ("description", json!("shop")),
        ("event_types", json!(["order.created.v1"])),
        ("version", json!(2)),
        ("status", json!("enabled")),
    ] {
        assert_eq!(changed[field], expected, "{field}");
    }
    let cleared = json!({ "description": null, "event_types": null });
    let put = |tag: &'static str| {
        test.api.request(Method::PUT, &path(&made, "")).header("If-Match", tag).json(&cleared)
    };
    send(put("\"1\"")).await.problem(412, "version_conflict");
    let changed = send(put("\"2\"")).await.expect(200);
    assert_eq!((&changed["description"], &changed["event_types"]), (&Value::Null, &Value::Null));

    let delete =
        |tag: &'static str| test.api.request(Method::DELETE, &path(&made, "")).header("If-Match", tag);
    send(delete("\"2\"")).await.problem(412, "version_conflict");
    assert_eq!(send(delete("\"3\"")).await.status, 204);
    send(delete("*")).await.problem(404, "not_found");
    test.api.get(&path(&made, "")).await.problem(404, "not_found");
    test.api.get(&path(&made, "/deliveries")).await.problem(404, "not_found");
    assert_eq!(test.count("SELECT count(*) FROM webhook_secret").await, 0);
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_an_endpoint_is_named() {
    let test = TestApp::start().await;
    let made = test.api.post(ENDPOINTS, &json!({ "url": HOOK })).await.expect(201);
    let rotate = path(&made, "/rotate-secret");
    for (path, body, pointer) in [
        (ENDPOINTS, json!({}), "/url"),
        (ENDPOINTS, json!({ "url": "ftp://a.example" }), "/url"),
        (ENDPOINTS, json!({ "url": "https://a b" }), "/url"),
        (ENDPOINTS, json!({ "url": HOOK, "description": "" }), "/description"),
        (ENDPOINTS, json!({ "url": HOOK, "event_types": [] }), "/event_types"),
        (ENDPOINTS, json!({ "url": HOOK, "event_types": ["order.created"] }), "/event_types/0"),
        (ENDPOINTS, json!({ "url": HOOK, "event_types": [{ "order.created.v1": null }] }), "/event_types/0"),
        (ENDPOINTS, json!({ "url": HOOK, "secret": "whsec_x" }), "/secret"),
        (rotate.as_str(), json!({ "old_secret_expires_in_seconds": -1 }), "/old_secret_expires_in_seconds"),
        (
            rotate.as_str(),
            json!({ "old_secret_expires_in_seconds": 604_801 }),
            "/old_secret_expires_in_seconds",
        ),
    ] {
        let answer = test.api.post(path, &body).await;
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
        answer.problem(422, "validation_failed");
    }
    test.api.put(&path(&made, ""), &json!({ "url": null })).await.problem(422, "validation_failed");
    for (query, pointer) in [("status=x", "?status"), ("type=x", "?type"), ("event_id=x", "?event_id")] {
        let list = path(&made, &format!("/deliveries?{query}"));
        let problem = test.api.get(&list).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    for unknown in ["whe_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b", "x"] {
        for verb in ["rotate-secret", "enable", "disable", "test"] {
            test.api
                .post(&format!("{ENDPOINTS}/{unknown}/{verb}"), &json!({}))
                .await
                .problem(404, "not_found");
        }
    }
    let unknown = "/v1/webhook-deliveries/whd_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";
    test.api.get(unknown).await.problem(404, "not_found");
    test.api.post(&format!("{unknown}/redeliver"), &json!({})).await.problem(404, "not_found");
    test.finish().await;
}

#[tokio::test]
async fn endpoints_are_listed_the_newest_first_and_there_are_so_many_at_most() {
    let test = TestApp::start().await;
    let mut made = Vec::new();
    for _ in 0..50 {
        made.push(test.api.post(ENDPOINTS, &json!({ "url": HOOK })).await.expect(201));
    }
    let refused = test.api.post(ENDPOINTS, &json!({ "url": HOOK })).await;
    assert_eq!(refused.problem(409, "webhook_endpoint_limit_reached")["limit"], 50);
    test.api.post(&path(&made[49], "/disable"), &json!({})).await.expect(200);
    test.api.post(&path(&made[49], "/disable"), &json!({})).await.problem(409, "invalid_state_transition");
    test.api.post(&path(&made[48], "/enable"), &json!({})).await.problem(409, "invalid_state_transition");
    let ids = |page: &Value| page["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>();
    let first = test.api.get(&format!("{ENDPOINTS}?limit=2")).await.expect(200);
    assert_eq!((ids(&first), &first["has_more"]), (vec![id(&made[49]), id(&made[48])], &json!(true)));
    let disabled = test.api.get(&format!("{ENDPOINTS}?status=disabled")).await.expect(200);
    assert_eq!(ids(&disabled), [id(&made[49])]);
    let rest = format!("{ENDPOINTS}?starting_after={}&limit=100", id(&made[48]));
    let rest = test.api.get(&rest).await.expect(200);
    assert_eq!((ids(&rest).len(), &rest["has_more"]), (48, &json!(false)));
    test.finish().await;
}

#[tokio::test]
async fn only_whoever_may_write_webhooks_makes_endpoints() {
    let test = TestApp::start().await;
    for (scope, status) in [(Scope::OrdersWrite, 403), (Scope::OrdersRead, 403), (Scope::WebhooksWrite, 201)]
    {
        let api = test.api.with_secret(&test.new_key("k", &[scope]).await.secret);
        assert_eq!(api.post(ENDPOINTS, &json!({ "url": HOOK })).await.status, status, "{scope}");
    }
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_deleted_endpoint_is_canceled_and_can_still_be_read() {
    let workers = &[WorkerKind::Webhook];
    let test = TestApp::start_with(Setup { workers, ..Setup::default() }).await;
    let receiver = Receiver::start().await;
    let made = endpoint(&test, &receiver, &[]).await;
    let later = "UPDATE webhook_endpoint SET paused_until = now() + interval '1 hour'";
    sqlx::query(later).execute(&mut *test.conn().await).await.unwrap();
    test.api.post(&path(&made, "/test"), &json!({})).await.expect(201);
    let waiting = deliveries(&test, &made, "?status=pending").await.remove(0);
    assert_eq!(send(test.api.request(Method::DELETE, &path(&made, ""))).await.status, 204);
    let detail = format!("/v1/webhook-deliveries/{}", id(&waiting));
    eventually("it is canceled", PATIENCE, async || {
        test.api.get(&detail).await.expect(200)["status"] == "canceled"
    })
    .await;
    test.api.post(&format!("{detail}/redeliver"), &json!({})).await.problem(404, "not_found");
    assert_eq!(receiver.received().len(), 0);
    test.finish().await;
}

#[tokio::test]
async fn an_event_that_is_no_longer_kept_is_not_delivered_again() {
    let test = TestApp::start().await;
    let made = test.api.post(ENDPOINTS, &json!({ "url": HOOK })).await.expect(201);
    let old = "INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence, status, next_attempt_at,
                                             completed_at)
               SELECT gen_random_uuid(), id, gen_random_uuid(), 'order.expired.v1', 'order/x', 1, 'failed', NULL, now()
               FROM webhook_endpoint";
    sqlx::query(old).execute(&mut *test.conn().await).await.unwrap();
    let delivery = deliveries(&test, &made, "").await.remove(0);
    let again = format!("/v1/webhook-deliveries/{}/redeliver", id(&delivery));
    test.api.post(&again, &json!({})).await.problem(410, "events_no_longer_kept");
    test.finish().await;
}
