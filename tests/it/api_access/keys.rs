//! The life of an API key over HTTP: made, rotated, revoked; what is told of it, and what never is.

use std::time::Duration;

use futures_util::future::join_all;
use holdfast::{domain::access::Scope, http};
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{
    PATIENCE,
    api::{Answer, Api, id, order, send},
    app::TestApp,
    eventually,
};

const KEYS: &str = "/v1/api-keys";

async fn create(test: &TestApp, scopes: &[&str]) -> Value {
    test.api.post(KEYS, &json!({ "name": "shop", "scopes": scopes })).await.expect(201)
}

fn api_of(test: &TestApp, key: &Value) -> Api {
    test.api.with_secret(key["secret"].as_str().unwrap())
}

fn path(key: &Value, verb: &str) -> String {
    format!("{KEYS}/{}/{verb}", id(key))
}

/// The key as the list tells of it.
async fn listed(test: &TestApp, key: &Value) -> Value {
    let page = test.api.get(KEYS).await.expect(200);
    let keys = page["data"].as_array().unwrap();
    keys.iter().find(|other| other["id"] == key["id"]).unwrap().clone()
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_its_secret_is_shown_once() {
    let test = TestApp::start().await;
    let body = json!({ "name": "shop", "scopes": ["orders:read"] });
    let first = test.api.post_as("k", KEYS, &body).await;
    let again = test.api.post_as("k", KEYS, &body).await;
    assert_eq!((first.status, again.status, again.replayed()), (201, 201, true));
    let secret = first.body["secret"].as_str().unwrap().to_owned();
    let mut without = first.body.clone();
    without["secret"] = Value::Null;
    assert_eq!(again.body, without);
    assert_eq!(test.count("SELECT count(*) FROM api_key").await, 2);

    let shop = test.api.with_secret(&secret);
    shop.get("/v1/orders").await.expect(200);
    shop.place(&[("a", 1)]).await.problem(403, "insufficient_scope");
    shop.get(KEYS).await.problem(403, "insufficient_scope");

    let list = test.api.get(KEYS).await;
    assert!(!list.text.contains(&secret) && !list.text.contains("secret") && !list.text.contains("hash"));
    let key = listed(&test, &first.body).await;
    assert_eq!(
        (&key["name"], &key["scopes"], &key["is_live"]),
        (&json!("shop"), &json!(["orders:read"]), &json!(true))
    );
    // Nowhere in the database either.
    let kept = "SELECT count(*) FROM idempotency_key WHERE response_body LIKE '%hf\\_%'";
    assert_eq!(test.count(kept).await, 0);
    test.finish().await;
}

#[tokio::test]
async fn keys_are_listed_page_by_page_the_newest_first() {
    let test = TestApp::start().await;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(id(&create(&test, &["orders:read"]).await));
    }
    let first = test.api.get(&format!("{KEYS}?limit=2")).await.expect(200);
    let ids = |page: &Value| page["data"].as_array().unwrap().iter().map(id).collect::<Vec<_>>();
    assert_eq!((ids(&first), &first["has_more"]), (vec![made[2].clone(), made[1].clone()], &json!(true)));
    let rest = test.api.get(&format!("{KEYS}?starting_after={}", made[1])).await.expect(200);
    // The test's own key is the oldest.
    assert_eq!(
        (ids(&rest)[0].as_str(), ids(&rest).len(), &rest["has_more"]),
        (made[0].as_str(), 2, &json!(false))
    );
    test.finish().await;
}

#[tokio::test]
async fn keys_are_found_by_client_scope_and_whether_they_are_live() {
    let test = TestApp::start().await;
    let old = create(&test, &["orders:read", "orders:write"]).await;
    let new = test.api.post(&path(&old, "rotate"), &json!({})).await.expect(201);
    test.api.post(&path(&old, "revoke"), &json!({})).await.expect(200);
    let reader = create(&test, &["orders:read"]).await;
    let [old, new, reader, client] = [&old["id"], &new["id"], &reader["id"], &old["client_id"]];
    let page = test.api.get(&format!("{KEYS}?scope=admin")).await.expect(200);
    let own = &page["data"][0]["id"];
    let client = client.as_str().unwrap();
    for (query, expected) in [
        (format!("client_id={client}"), vec![new, old]),
        (format!("client_id={client}&is_live=true"), vec![new]),
        (format!("client_id={client}&is_live=false"), vec![old]),
        ("is_live=false".into(), vec![old]),
        ("is_live=true".into(), vec![reader, new, own]),
        ("scope=orders:write".into(), vec![new, old]),
        ("scope=orders:read&is_live=true&limit=1".into(), vec![reader]),
        ("scope=inventory:write".into(), vec![]),
        ("scope=admin".into(), vec![own]),
    ] {
        let page = test.api.get(&format!("{KEYS}?{query}")).await.expect(200);
        let ids: Vec<_> = page["data"].as_array().unwrap().iter().map(|key| &key["id"]).collect();
        assert_eq!(ids, expected, "{query}");
    }
    for (query, pointer) in
        [("is_live=yes", "?is_live"), ("scope=all", "?scope"), ("client_id=x", "?client_id")]
    {
        let problem = test.api.get(&format!("{KEYS}?{query}")).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    test.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_a_key_is_named() {
    let test = TestApp::start().await;
    let key = create(&test, &["orders:read"]).await;
    for (path, body, pointer) in [
        (KEYS.to_owned(), json!({ "name": "", "scopes": ["admin"] }), "/name"),
        (KEYS.to_owned(), json!({ "name": "a\u{7}", "scopes": ["admin"] }), "/name"),
        (KEYS.to_owned(), json!({ "name": "a", "scopes": [] }), "/scopes"),
        (KEYS.to_owned(), json!({ "name": "a", "scopes": ["orders"] }), "/scopes/0"),
        (KEYS.to_owned(), json!({ "name": "a", "scopes": ["orders:read", { "admin": null }] }), "/scopes/1"),
        (KEYS.to_owned(), json!({ "name": "a" }), "/scopes"),
        (KEYS.to_owned(), json!({ "name": "a", "scopes": ["admin"], "client_id": "x" }), "/client_id"),
        (path(&key, "rotate"), json!({ "old_key_expires_in_seconds": 0 }), "/old_key_expires_in_seconds"),
        (
            path(&key, "rotate"),
            json!({ "old_key_expires_in_seconds": 7_776_001 }),
            "/old_key_expires_in_seconds",
        ),
        (path(&key, "rotate"), json!({ "scopes": ["admin"] }), "/scopes"),
        (path(&key, "revoke"), json!({ "why": "x" }), "/why"),
    ] {
        let answer = test.api.post(&path, &body).await;
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
        answer.problem(422, "validation_failed");
    }
    for unknown in ["key_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b", "x"] {
        for verb in ["rotate", "revoke"] {
            test.api.post(&format!("{KEYS}/{unknown}/{verb}"), &json!({})).await.problem(404, "not_found");
        }
    }
    assert_eq!(test.count("SELECT count(*) FROM api_key").await, 2);
    test.finish().await;
}

#[tokio::test]
async fn a_rotated_key_is_of_the_same_client_and_may_do_the_same() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let old = create(&test, &["orders:write", "orders:read"]).await;
    let rotated = test.api.post_as("k", &path(&old, "rotate"), &json!({})).await;
    let again = test.api.post_as("k", &path(&old, "rotate"), &json!({})).await;
    assert_eq!(
        (again.replayed(), &again.body["id"], &again.body["secret"]),
        (true, &rotated.body["id"], &Value::Null)
    );
    let new = rotated.expect(201);
    for same in ["client_id", "scopes", "name"] {
        assert_eq!(new[same], old[same], "{same}");
    }
    let (before, after) = (api_of(&test, &old), api_of(&test, &new));
    // A request that is sent again under the new key is the same request.
    let body = order(&[("a", 1)]);
    let first = before.post_as("order", "/v1/orders", &body).await;
    let repeated = after.post_as("order", "/v1/orders", &body).await;
    assert_eq!((first.status, repeated.replayed(), &first.text), (201, true, &repeated.text));
    // Of another client it is another one.
    let other = api_of(&test, &create(&test, &["orders:write"]).await);
    let others = other.post_as("order", "/v1/orders", &body).await;
    assert_eq!((others.status, others.replayed()), (201, false));
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 2);
    test.finish().await;
}

#[tokio::test]
async fn a_client_has_two_live_keys_at_most() {
    let mut test = TestApp::start().await;
    let there = test.another_api().await;
    let old = create(&test, &["orders:read"]).await;
    let rotate = path(&old, "rotate");
    let body = json!({});
    let (here, there) = (&test.api, &there);
    let tries = (0..8).map(|number| if number % 2 == 0 { here } else { there }.post(&rotate, &body));
    let answers: Vec<Answer> = join_all(tries).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 1);
    for answer in refused {
        assert_eq!(answer.problem(409, "api_key_limit_reached")["limit"], 2);
    }
    // One of them goes, and there is room for the next.
    let new = made.into_iter().next().unwrap().expect(201);
    test.api.post(&path(&old, "revoke"), &json!({})).await.expect(200);
    let refused = test.api.post(&rotate, &json!({})).await.problem(409, "invalid_state_transition");
    assert_eq!(refused["current_status"], "revoked");
    test.api.post(&path(&new, "rotate"), &json!({})).await.expect(201);
    test.api.post(&path(&new, "rotate"), &json!({})).await.problem(409, "api_key_limit_reached");
    test.finish().await;
}

#[tokio::test]
async fn the_old_key_ends_after_its_grace_time() {
    let test = TestApp::start().await;
    let old = create(&test, &["orders:read"]).await;
    let body = json!({ "old_key_expires_in_seconds": 1 });
    let new = test.api.post(&path(&old, "rotate"), &body).await.expect(201);
    assert!(listed(&test, &old).await["expires_at"].is_string());
    let before = api_of(&test, &old);
    eventually("the old key is refused", PATIENCE, async || before.get("/v1/orders").await.status == 401)
        .await;
    assert_eq!(listed(&test, &old).await["is_live"], false);
    api_of(&test, &new).get("/v1/orders").await.expect(200);
    let refused = test.api.post(&path(&old, "rotate"), &json!({})).await;
    assert_eq!(refused.problem(409, "invalid_state_transition")["current_status"], "expired");
    // It does not count among the live ones.
    test.api.post(&path(&new, "rotate"), &json!({})).await.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_process_within_seconds() {
    let mut test = TestApp::start().await;
    let key = create(&test, &["orders:read"]).await;
    let here = api_of(&test, &key);
    let there = test.another_api().await.with_secret(key["secret"].as_str().unwrap());
    here.get("/v1/orders").await.expect(200);
    there.get("/v1/orders").await.expect(200);
    let revoke = path(&key, "revoke");
    let revoked = test.api.post_as("k", &revoke, &json!({})).await.expect(200);
    assert_eq!((&revoked["is_live"], revoked["revoked_at"].is_string()), (&json!(false), true));
    assert!(test.api.post_as("k", &revoke, &json!({})).await.replayed());
    test.api.post(&revoke, &json!({})).await.problem(409, "invalid_state_transition");
    for api in [here, there] {
        eventually("it is refused", PATIENCE, async || api.get("/v1/orders").await.status == 401).await;
    }
    test.finish().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_the_answer_is_the_same() {
    let test = TestApp::start().await;
    let revoked = test.new_key("revoked", &[Scope::Admin]).await;
    test.app.revoke_api_key(revoked.key.id, None).await.unwrap();
    let secret = test.new_key("good", &[Scope::Admin]).await.secret;
    let get = |path: &str| test.api.bare(Method::GET, path).header("X-Request-Id", "same");
    let with = |value: &str| get("/v1/orders").header(AUTHORIZATION, value);
    let mut bodies = Vec::new();
    for request in [
        get("/v1/orders"),
        get(&format!("/v1/orders?api_key={secret}")),
        get(&format!("/v1/orders?access_token={secret}")),
        with(&format!("Bearer {}", revoked.secret)),
        with("Bearer hf_wrong"),
        with("Bearer"),
        with("Bearer "),
        with(""),
        with(&secret),
        with(&format!("Bearer {}", secret.to_uppercase())),
        with(&format!("Bearer  {secret}")),
        with(&format!("Bearer\t{secret}")),
        with(&format!("Bearer {secret} x")),
        with(&format!("Bearer {secret},")),
        with(&format!("Basic {secret}")),
        with(&format!("Token {secret}")),
        get("/v1/orders").basic_auth(&secret, Some("")),
        with(&format!("Bearer {secret}")).header(AUTHORIZATION, format!("Bearer {secret}")),
    ] {
        let answer = send(request).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(!answer.text.contains(&secret), "{}", answer.text);
        bodies.push(answer.text.clone());
        answer.problem(401, "unauthenticated");
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    // The scheme has no case (RFC 9110).
    send(with(&format!("bearer {secret}"))).await.expect(200);
    test.finish().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_recorded_at_the_latest_when_the_process_ends() {
    let test = TestApp::start().await;
    let key = create(&test, &["orders:read"]).await;
    assert_eq!(listed(&test, &key).await["last_used_at"], Value::Null);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let api = http::api(test.app.clone(), &test.http(), String::new(), shutdown.clone()).unwrap();
    let served = tokio::spawn(api.serve(listener));
    Api::new(&url, key["secret"].as_str().unwrap()).get("/v1/orders").await.expect(200);
    shutdown.cancel();
    served.await.unwrap();
    assert!(listed(&test, &key).await["last_used_at"].is_string());
    // While it runs, too: this test's own key was used only here.
    let own = async || test.count("SELECT count(*) FROM api_key WHERE last_used_at IS NOT NULL").await == 2;
    eventually("the use is recorded", Duration::from_secs(30), own).await;
    test.finish().await;
}
