//! Levels at the API: absolute and relative changes, conflicts, and the ledger that explains them all.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::put_if;
use crate::support::app::TestApp;

/// `(type, delta_on_hand, on_hand_after, reason, reference)` of a SKU's movements, oldest first.
async fn movements(test: &TestApp, sku: &str) -> Vec<(String, i64, i64, Option<String>, Option<String>)> {
    let query = "SELECT type, delta_on_hand, on_hand_after, reason, reference FROM stock_movement
                 WHERE sku = $1 ORDER BY id";
    sqlx::query_as(query).bind(sku).fetch_all(&mut *test.conn().await).await.unwrap()
}

#[tokio::test]
async fn a_level_is_set_and_read_and_its_ledger_says_why() {
    let test = TestApp::start().await;
    let set = json!({ "on_hand": 10, "safety_stock": 2, "backorder_limit": 3, "reason": "count", "reference": "doc 7" });
    let level = test.api.put("/v1/inventory/a%2Fb/shelf-1", &set).await.expect(200);
    let expected = json!({ "sku": "a/b", "location_id": "shelf-1", "on_hand": 10, "reserved": 0, "committed": 0,
                           "safety_stock": 2, "backorder_limit": 3, "low_stock_threshold": null, "version": 1,
                           "available": 11 });
    assert_eq!(level, expected);
    assert_eq!(test.api.get("/v1/inventory/a%2Fb/shelf-1").await.expect(200), expected);
    // What is not named stays; what does not move on_hand needs no ledger row.
    let level = test.api.put("/v1/inventory/a%2Fb/shelf-1", &json!({ "on_hand": 10 })).await.expect(200);
    assert_eq!((&level["safety_stock"], &level["version"]), (&json!(2), &json!(2)));
    test.api.put("/v1/inventory/a%2Fb/shelf-1", &json!({ "on_hand": 4 })).await.expect(200);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        movements(&test, "a/b").await,
        [("count".into(), 10, 10, text("count"), text("doc 7")), ("count".into(), -6, 4, None, None)]
    );
    let actors = "SELECT count(*) FROM stock_movement WHERE actor LIKE 'key_%'";
    assert_eq!(test.count(actors).await, 2);
    let events = "SELECT count(*) FROM outbox WHERE type = 'inventory.adjusted.v1'";
    assert_eq!(test.count(events).await, 3);
    test.finish().await;
}

#[tokio::test]
async fn a_level_that_is_not_there_is_not_found_whatever_lies_elsewhere() {
    let test = TestApp::start().await;
    for location in ["main", "north"] {
        test.api.put(&format!("/v1/inventory/TEE/{location}"), &json!({ "on_hand": 1 })).await.expect(200);
    }
    // Before, between and behind those that are there; another SKU, too.
    for path in ["TEE/aaa", "TEE/mainz", "TEE/zzz", "TE/main", "TEE2/main"] {
        test.api.get(&format!("/v1/inventory/{path}")).await.problem(404, "not_found");
    }
    assert_eq!(test.api.get("/v1/inventory/TEE/north").await.expect(200)["location_id"], "north");
    test.finish().await;
}

#[tokio::test]
async fn a_set_that_expects_another_count_is_a_conflict() {
    let test = TestApp::start().await;
    let put = async |body: Value| test.api.put("/v1/inventory/a/main", &body).await;
    let conflict = put(json!({ "on_hand": 5, "compare_quantity": 1 })).await.problem(409, "stock_conflict");
    assert_eq!((&conflict["on_hand"], &conflict["version"]), (&json!(0), &json!(0)));
    assert_eq!(test.count("SELECT count(*) FROM inventory_level").await, 0);
    put(json!({ "on_hand": 5, "compare_quantity": 0 })).await.expect(200);
    let conflict = put(json!({ "on_hand": 9, "compare_quantity": 4 })).await.problem(409, "stock_conflict");
    assert_eq!((&conflict["on_hand"], &conflict["version"]), (&json!(5), &json!(1)));
    // Of two that expect the same count, one wins.
    let set = json!({ "on_hand": 7, "compare_quantity": 5 });
    let (first, second) = tokio::join!(put(set.clone()), put(set));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    test.finish().await;
}

#[tokio::test]
async fn stock_that_is_promised_cannot_be_taken_away() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    test.placed(&[("a", 6)]).await;
    let before = test.snapshot().await;
    let refused = test.api.put("/v1/inventory/a/main", &json!({ "on_hand": 5 })).await;
    let refused = refused.problem(409, "below_committed");
    assert_eq!((&refused["sku"], &refused["minimum"]), (&json!("a"), &json!(6)));
    for delta in [-5, -11] {
        let adjust = json!({ "items": [{ "sku": "a", "delta": delta }] });
        let refused = test.api.post("/v1/inventory/adjustments", &adjust).await;
        let refused = refused.problem(409, "below_committed");
        assert_eq!((&refused["minimum"], &refused["free"]), (&json!(6), &json!(4)));
    }
    assert_eq!(test.snapshot().await, before);
    test.stock("a", 6).await;
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    test.finish().await;
}

#[tokio::test]
async fn adjustments_add_up_and_are_made_all_or_none() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    test.stock("b", 1).await;
    let post = async |items: Value| {
        test.api.post("/v1/inventory/adjustments", &json!({ "items": items, "reason": "damage" })).await
    };
    let item = |sku: &str, delta: i64| json!({ "sku": sku, "delta": delta });
    let adjusted = post(json!([item("a", -3), item("b", 4), item("a", -1)])).await.expect(201);
    let on_hand: Vec<_> =
        adjusted["data"].as_array().unwrap().iter().map(|level| &level["on_hand"]).collect();
    assert_eq!(on_hand, [6, 5]);
    assert_eq!(movements(&test, "a").await[1], ("adjust".into(), -4, 6, Some("damage".into()), None));
    let before = test.snapshot().await;
    post(json!([item("a", 1), item("b", -6)])).await.problem(409, "below_committed");
    let unknown = post(json!([item("a", 1), item("x", 1)])).await.problem(422, "unknown_sku");
    assert_eq!(unknown["errors"][0]["pointer"], "/items/1/sku");
    let too_many = post(json!([item("a", 999_999_995)])).await.problem(422, "on_hand_too_large");
    assert_eq!(too_many["errors"][0]["pointer"], "/items/0/delta");
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn levels_are_listed_in_pages_and_by_sku() {
    let test = TestApp::start().await;
    for (sku, location) in [("a", "main"), ("a", "z"), ("b", "main"), ("B", "main"), ("c", "main")] {
        test.api.put(&format!("/v1/inventory/{sku}/{location}"), &json!({ "on_hand": 1 })).await.expect(200);
    }
    let names = |page: &Value| -> Vec<String> {
        let name = |level: &Value| format!("{}@{}", level["sku"], level["location_id"]).replace('"', "");
        page["data"].as_array().unwrap().iter().map(name).collect()
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = test.api.get(&format!("/v1/inventory?limit=2{after}")).await.expect(200);
        seen.extend(names(&page));
        let Some(next) = page["next"].as_str() else { break assert_eq!(page["has_more"], false) };
        assert_eq!(page["has_more"], true);
        after = format!("&starting_after={}", next.replace(' ', "%20"));
    }
    assert_eq!(seen, ["B@main", "a@main", "a@z", "b@main", "c@main"]);
    for (query, expected) in [
        ("sku=a", &["a@main", "a@z"][..]),
        ("location_id=z", &["a@z"]),
        ("location_id=main&limit=2", &["B@main", "a@main"]),
        ("location_id=main&starting_after=a%20main", &["b@main", "c@main"]),
        ("sku=a&location_id=main", &["a@main"]),
        ("location_id=nowhere", &[]),
    ] {
        let page = test.api.get(&format!("/v1/inventory?{query}")).await.expect(200);
        assert_eq!(names(&page), expected, "{query}");
        assert_eq!(page["next"].is_string(), query.contains("limit"), "{query}: {page}");
    }
    test.api.get("/v1/inventory?location_id=a%20b").await.problem(422, "validation_failed");
    test.finish().await;
}

/// The list and the events agree on what is low: what `InventoryLevel::is_low_stock` says of each level.
#[tokio::test]
async fn levels_that_are_low_are_listed() {
    let test = TestApp::start().await;
    for (sku, level, ordered) in [
        ("none-left", json!({ "on_hand": 3 }), 3),
        ("one-left", json!({ "on_hand": 3 }), 2),
        ("at-threshold", json!({ "on_hand": 9, "low_stock_threshold": 5 }), 4),
        ("over-threshold", json!({ "on_hand": 9, "low_stock_threshold": 5 }), 3),
        ("safety", json!({ "on_hand": 3, "safety_stock": 3 }), 0),
        ("backorder", json!({ "on_hand": 0, "backorder_limit": 2 }), 1),
        ("below-safety", json!({ "on_hand": 3, "safety_stock": 9, "low_stock_threshold": 0 }), 0),
    ] {
        test.api.put(&format!("/v1/inventory/{sku}/main"), &level).await.expect(200);
        if ordered > 0 {
            test.placed(&[(sku, ordered)]).await;
        }
    }
    let listed = async |query: &str| {
        let page = test.api.get(&format!("/v1/inventory?{query}")).await.expect(200);
        let skus = page["data"].as_array().unwrap().iter().map(|level| level["sku"].clone());
        skus.collect::<Vec<_>>()
    };
    assert_eq!(listed("is_low_stock=true").await, ["at-threshold", "below-safety", "none-left", "safety"]);
    assert_eq!(listed("is_low_stock=false").await, ["backorder", "one-left", "over-threshold"]);
    assert_eq!(
        listed("is_low_stock=true&limit=1&starting_after=at-threshold%20main").await,
        ["below-safety"]
    );
    assert_eq!(listed("is_low_stock=true&location_id=north").await, Vec::<Value>::new());
    let wrong = test.api.get("/v1/inventory?is_low_stock=1").await.problem(422, "validation_failed");
    assert_eq!(wrong["errors"][0]["pointer"], "?is_low_stock");
    test.finish().await;
}

#[tokio::test]
async fn a_set_that_is_meant_for_another_version_is_refused() {
    let test = TestApp::start().await;
    let path = "/v1/inventory/a/main";
    let set = |on_hand: i64| json!({ "on_hand": on_hand });
    // There is nothing that could have a version.
    for tag in ["*", "\"0\""] {
        let refused = put_if(&test, path, tag, set(1)).await.problem(412, "version_conflict");
        assert_eq!(refused["current_version"], Value::Null, "{refused}");
    }
    assert_eq!(test.count("SELECT count(*) FROM inventory_level").await, 0);
    let made = test.api.put(path, &set(5)).await;
    assert_eq!((made.header("etag"), test.api.get(path).await.header("etag")), ("\"1\"", "\"1\""));
    for (tag, on_hand, version) in [("\"1\"", 6, 2), ("\"9\", W/\"2\",\"2\"", 7, 3), ("*", 8, 4)] {
        let answer = put_if(&test, path, tag, set(on_hand)).await;
        assert_eq!(answer.header("etag"), format!("\"{version}\""), "{tag}: {}", answer.text);
        assert_eq!(answer.expect(200)["version"], version);
    }
    let before = test.snapshot().await;
    for tag in ["\"1\"", "\"5\"", "W/\"4\"", "\"04\"", "\"x\""] {
        let refused = put_if(&test, path, tag, set(1)).await.problem(412, "version_conflict");
        assert_eq!(refused["current_version"], 4, "{refused}");
    }
    for tag in ["4", "\"4", "", "\"4\", *"] {
        let refused = put_if(&test, path, tag, set(1)).await.problem(400, "if_match_invalid");
        assert_eq!(refused["errors"][0]["pointer"], "If-Match");
    }
    // Both are looked at: the version first.
    let both = |compare: i64| json!({ "on_hand": 1, "compare_quantity": compare });
    put_if(&test, path, "\"3\"", both(9)).await.problem(412, "version_conflict");
    put_if(&test, path, "\"3\"", both(8)).await.problem(412, "version_conflict");
    put_if(&test, path, "\"4\"", both(9)).await.problem(409, "stock_conflict");
    assert_eq!(test.snapshot().await, before);
    put_if(&test, path, "\"4\"", both(8)).await.expect(200);
    // An order changes the version too. Of two who have seen the same one, one wins.
    test.stock("b", 9).await;
    test.placed(&[("b", 1)]).await;
    let path = "/v1/inventory/b/main";
    put_if(&test, path, "\"1\"", set(5)).await.problem(412, "version_conflict");
    let twins = join_all((0..8).map(|n| put_if(&test, path, "\"2\"", set(n + 1)))).await;
    assert_eq!(twins.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(twins.iter().all(|answer| answer.status == 200 || answer.status == 412));
    test.finish().await;
}

#[tokio::test]
async fn a_threshold_is_set_kept_and_taken_away() {
    let test = TestApp::start().await;
    let put = async |body: Value| test.api.put("/v1/inventory/a/main", &body).await.expect(200);
    let threshold = async |body: Value| put(body).await["low_stock_threshold"].clone();
    assert_eq!(threshold(json!({ "on_hand": 5, "low_stock_threshold": 3 })).await, 3);
    assert_eq!(threshold(json!({ "on_hand": 6 })).await, 3);
    assert_eq!(threshold(json!({ "on_hand": 6, "low_stock_threshold": 0 })).await, 0);
    assert_eq!(threshold(json!({ "on_hand": 6, "low_stock_threshold": null })).await, Value::Null);
    test.finish().await;
}
