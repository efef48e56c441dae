//! Inventory at the API and by import: absolute and relative changes, conflicts, and the ledger that explains them all.

use holdfast::app::ImportStockError;
use serde_json::{Value, json};

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
    let too_many = post(json!([item("a", 999_999_995)])).await.problem(422, "validation_failed");
    assert_eq!(too_many["errors"][0]["pointer"], "/items/0/delta");
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adjustments_and_orders_at_once_lose_nothing() {
    let test = TestApp::start().await;
    test.stock("a", 100).await;
    let adjust = json!({ "items": [{ "sku": "a", "delta": -1 }] });
    let adjustments = (0..20).map(|_| test.api.post("/v1/inventory/adjustments", &adjust));
    let orders = (0..20).map(|_| test.api.place(&[("a", 1)]));
    let (adjusted, placed) =
        tokio::join!(futures_util::future::join_all(adjustments), futures_util::future::join_all(orders));
    assert!(adjusted.iter().chain(&placed).all(|answer| answer.status == 201));
    assert_eq!(test.api.level("a").await, (80, 20, 0));
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
    let of_sku = test.api.get("/v1/inventory?sku=a").await.expect(200);
    assert_eq!(names(&of_sku), ["a@main", "a@z"]);
    test.finish().await;
}

#[tokio::test]
async fn a_stock_file_is_imported_whole() {
    let test = TestApp::start().await;
    test.api.put("/v1/inventory/a/main", &json!({ "on_hand": 3, "safety_stock": 1 })).await.expect(200);
    let file = "sku,on_hand,location_id,safety_stock,backorder_limit\na,7,,,\nb, 0 ,,2,5\na,4,north,,\n";
    let imported = test.app.import_stock(file.as_bytes(), "stock.csv", "import").await.unwrap();
    assert_eq!((imported.levels, imported.on_hand), (3, 11));
    assert_eq!(test.api.level("a").await, (7, 0, 0));
    let level = test.api.get("/v1/inventory/a/main").await.expect(200);
    assert_eq!((&level["safety_stock"], &level["available"]), (&json!(1), &json!(6)));
    let level = test.api.get("/v1/inventory/b/main").await.expect(200);
    assert_eq!((&level["safety_stock"], &level["available"]), (&json!(2), &json!(3)));
    let last = movements(&test, "a").await.pop().unwrap();
    assert_eq!((last.3.as_deref(), last.4.as_deref()), (Some("stock import"), Some("stock.csv")));
    test.finish().await;
}

#[tokio::test]
async fn a_broken_line_is_named_and_nothing_of_the_file_is_applied() {
    let test = TestApp::start().await;
    test.stock("a", 3).await;
    test.placed(&[("a", 2)]).await;
    let before = test.snapshot().await;
    for (file, line, reason) in [
        ("sku,on_hand\nb,1\nc,many\n", 3, "invalid digit"),
        ("sku,on_hand\nb,1\nc\n", 3, "fields"),
        ("sku,on_hand\n\nb,1\n\nc,-1\n", 5, "0 to"),
        ("sku,on_hand\nb,1000000001\n", 2, "0 to"),
        ("sku,on_hand\nb,1\nc,2\nb,3\n", 4, "twice"),
        ("sku,on_hand\nb c,1\n", 2, "visible ASCII"),
        ("sku,on_hand\n,1\n", 2, "visible ASCII"),
        ("sku,count\nb,1\n", 2, "count"),
        ("sku\nb\n", 2, "on_hand"),
        ("sku,on_hand\nb,1.5\n", 2, "invalid digit"),
        ("sku,on_hand\nb,99999999999999999999\n", 2, "too large"),
        ("sku,on_hand\n\"b,1\n", 2, ""),
    ] {
        let error = test.app.import_stock(file.as_bytes(), "stock.csv", "import").await.unwrap_err();
        assert!(matches!(error, ImportStockError::Line { .. }), "{file:?}: {error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("line {line}: ")) && text.contains(reason), "{file:?}: {text}");
    }
    let not_utf8 = b"sku,on_hand\nb,1\n\xff,2\n".as_slice();
    let text = test.app.import_stock(not_utf8, "stock.csv", "import").await.unwrap_err().to_string();
    assert!(text.starts_with("line 3: "), "{text}");
    for file in ["", "sku,on_hand\n"] {
        let error = test.app.import_stock(file.as_bytes(), "stock.csv", "import").await.unwrap_err();
        assert_eq!(error.to_string(), "the file holds no rows");
    }
    // Every line is right, and one would take away what is promised.
    let error = test.app.import_stock("sku,on_hand\nb,1\na,1\n".as_bytes(), "f", "import").await.unwrap_err();
    assert!(error.to_string().contains("at or above 2"), "{error}");
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}
