//! Locations: set and read, and made by whatever makes a level there.

use futures_util::future::join_all;
use holdfast::domain::access::Scope;
use serde_json::{Value, json};

use super::put_if;
use crate::support::app::TestApp;

/// A location as the API shows it, without its times.
fn shown(location: &Value) -> Value {
    let mut shown = location.clone();
    for time in ["created_at", "updated_at"] {
        assert!(
            shown.as_object_mut().unwrap().remove(time).is_some_and(|time| time.is_string()),
            "{location}"
        );
    }
    shown
}

fn location(id: &str, name: Option<&str>, priority: i64, is_active: bool, version: i64) -> Value {
    json!({ "id": id, "name": name, "priority": priority, "is_active": is_active, "version": version })
}

#[tokio::test]
async fn a_location_is_made_set_and_read() {
    let test = TestApp::start().await;
    let put = async |id: &str, body: Value| test.api.put(&format!("/v1/locations/{id}"), &body).await;
    let main = test.api.get("/v1/locations/main").await.expect(200);
    assert_eq!(shown(&main), location("main", None, 100, true, 1));
    test.api.get("/v1/locations/north").await.problem(404, "not_found");
    let made = put("north", json!({ "name": "Nörd", "priority": 0, "is_active": false })).await.expect(200);
    assert_eq!(shown(&made), location("north", Some("Nörd"), 0, false, 1));
    assert_eq!(test.api.get("/v1/locations/north").await.expect(200), made);
    // What is absent stays as it is, and null takes a name away.
    for (body, expected) in [
        (json!({ "priority": 1000 }), location("north", Some("Nörd"), 1000, false, 2)),
        (json!({ "priority": 3, "is_active": true }), location("north", Some("Nörd"), 3, true, 3)),
        (json!({ "priority": 3, "name": null }), location("north", None, 3, true, 4)),
        (json!({ "priority": 3, "name": "N" }), location("north", Some("N"), 3, true, 5)),
    ] {
        let set = put("north", body.clone()).await.expect(200);
        assert_eq!((shown(&set), &set["created_at"]), (expected, &made["created_at"]), "{body}");
        assert_eq!(test.api.get("/v1/locations/north").await.expect(200), set);
    }
    let plain = put("a%2Fb", json!({ "priority": 7 })).await.expect(200);
    assert_eq!(shown(&plain), location("a/b", None, 7, true, 1));
    let before = test.snapshot().await;
    for (body, pointer) in [
        (json!({ "priority": -1 }), "/priority"),
        (json!({ "priority": 1001 }), "/priority"),
        (json!({ "priority": 1.5 }), "/priority"),
        (json!({}), "/priority"),
        (json!({ "priority": 1, "name": "" }), "/name"),
        (json!({ "priority": 1, "name": "a\0" }), "/name"),
        (json!({ "priority": 1, "is_active": "no" }), "/is_active"),
        (json!({ "priority": 1, "is_active": null }), "/is_active"),
        (json!({ "priority": 1, "id": "x" }), "/id"),
    ] {
        let problem = put("north", body).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let wrong = put("a%20b", json!({ "priority": 1 })).await.problem(422, "validation_failed");
    assert_eq!(wrong["errors"][0]["pointer"], "{id}");
    assert_eq!(test.snapshot().await, before);
    let reader = test.api.with_secret(&test.new_key("reader", &[Scope::OrdersRead]).await.secret);
    reader.put("/v1/locations/north", &json!({ "priority": 1 })).await.problem(403, "insufficient_scope");
    reader.get("/v1/locations/north").await.expect(200);
    test.finish().await;
}

#[tokio::test]
async fn locations_are_listed_in_pages_by_id() {
    let test = TestApp::start().await;
    for id in ["b", "B", "a"] {
        test.api.put(&format!("/v1/locations/{id}"), &json!({ "priority": 1 })).await.expect(200);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = test.api.get(&format!("/v1/locations?limit=3{after}")).await.expect(200);
        let ids = page["data"].as_array().unwrap().iter().map(|location| location["id"].as_str().unwrap());
        seen.extend(ids.map(str::to_owned));
        after = format!("&starting_after={}", seen.last().unwrap());
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, ["B", "a", "b", "main"]);
    test.api.put("/v1/locations/a", &json!({ "priority": 1, "is_active": false })).await.expect(200);
    let listed = async |query: &str| {
        let page = test.api.get(&format!("/v1/locations?{query}")).await.expect(200);
        let ids = page["data"].as_array().unwrap().iter().map(|location| location["id"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(listed("is_active=false").await, ["a"]);
    assert_eq!(listed("is_active=true&starting_after=B").await, ["b", "main"]);
    for (query, pointer) in
        [("limit=0", "?limit"), ("starting_after=", "?starting_after"), ("is_active=yes", "?is_active")]
    {
        let problem = test.api.get(&format!("/v1/locations?{query}")).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    test.finish().await;
}

#[tokio::test]
async fn a_location_that_only_a_level_names_comes_last() {
    let test = TestApp::start().await;
    test.api.put("/v1/locations/set", &json!({ "priority": 5 })).await.expect(200);
    for place in ["named", "set", "main"] {
        test.api.put(&format!("/v1/inventory/a/{place}"), &json!({ "on_hand": 1 })).await.expect(200);
    }
    let named = test.api.get("/v1/locations/named").await.expect(200);
    assert_eq!(shown(&named), location("named", None, 1000, true, 1));
    // What was set stays as it is.
    let set = test.api.get("/v1/locations/set").await.expect(200);
    assert_eq!(shown(&set), location("set", None, 5, true, 1));
    // A level that was not made makes no location.
    let refused = json!({ "on_hand": 1, "compare_quantity": 9 });
    test.api.put("/v1/inventory/a/nowhere", &refused).await.problem(409, "stock_conflict");
    test.api.get("/v1/locations/nowhere").await.problem(404, "not_found");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_is_set_in_the_version_that_is_meant() {
    let test = TestApp::start().await;
    let path = "/v1/locations/north";
    let set = |priority: usize| json!({ "priority": priority });
    // There is nothing that could have a version, and nothing is made.
    for tag in ["*", "\"1\""] {
        let refused = put_if(&test, path, tag, set(1)).await.problem(412, "version_conflict");
        assert_eq!(refused["current_version"], Value::Null, "{refused}");
    }
    test.api.get(path).await.problem(404, "not_found");
    let made = test.api.put(path, &set(5)).await;
    assert_eq!((made.header("etag"), test.api.get(path).await.header("etag")), ("\"1\"", "\"1\""));
    for (tag, version) in [("\"1\"", 2), ("\"9\", W/\"2\",\"2\"", 3), ("*", 4)] {
        let answer = put_if(&test, path, tag, set(6)).await;
        assert_eq!(answer.header("etag"), format!("\"{version}\""), "{tag}: {}", answer.text);
        assert_eq!(answer.expect(200)["version"], version);
    }
    let before = test.snapshot().await;
    for tag in ["\"1\"", "\"5\"", "W/\"4\""] {
        let refused = put_if(&test, path, tag, set(1)).await.problem(412, "version_conflict");
        assert_eq!(refused["current_version"], 4, "{refused}");
    }
    put_if(&test, path, "4", set(1)).await.problem(400, "if_match_invalid");
    assert_eq!(test.snapshot().await, before);
    // Of many who have seen the same version, one wins.
    let twins = join_all((0..8).map(|n| put_if(&test, path, "\"4\"", set(n)))).await;
    assert_eq!(twins.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(twins.iter().all(|answer| answer.status == 200 || answer.code() == "version_conflict"));
    test.finish().await;
}
