//! Transfers at the API: units go from one location to another, all of them or none, and none is lost or made.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{api::Answer, app::TestApp};

fn item(sku: &str, from: &str, to: &str, quantity: i64) -> Value {
    json!({ "sku": sku, "from_location_id": from, "to_location_id": to, "quantity": quantity })
}

async fn transfer(test: &TestApp, items: Value) -> Answer {
    let body = json!({ "items": items, "reason": "closer to customers", "reference": "truck 7" });
    test.api.post("/v1/inventory/transfers", &body).await
}

async fn on_hand(test: &TestApp, sku: &str, location: &str) -> i64 {
    let level = test.api.get(&format!("/v1/inventory/{sku}/{location}")).await.expect(200);
    level["on_hand"].as_i64().unwrap()
}

/// Two locations besides `main`, and stock at it.
async fn prepared() -> TestApp {
    let test = TestApp::start().await;
    for id in ["north", "south"] {
        test.api.put(&format!("/v1/locations/{id}"), &json!({ "priority": 1 })).await.expect(200);
    }
    test.stock("a", 10).await;
    test.stock("b", 4).await;
    test
}

#[tokio::test]
async fn units_move_together_with_two_movements_each() {
    let test = prepared().await;
    let items =
        json!([item("a", "main", "north", 6), item("b", "main", "south", 4), item("a", "north", "south", 2)]);
    let moved = transfer(&test, items).await.expect(201);
    let levels: Vec<_> = moved["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|level| {
            format!("{}@{} {}", level["sku"], level["location_id"], level["on_hand"]).replace('"', "")
        })
        .collect();
    assert_eq!(levels, ["a@main 4", "a@north 4", "a@south 2", "b@main 0", "b@south 4"]);
    let query =
        "SELECT format('%s@%s %s %s', sku, location_id, delta_on_hand, on_hand_after) FROM stock_movement
                 WHERE type = 'transfer' AND reason = 'closer to customers' AND reference = 'truck 7'
                   AND actor LIKE 'key_%' ORDER BY id";
    let movements: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *test.conn().await).await.unwrap();
    let expected =
        ["a@main -6 4", "a@north 6 6", "b@main -4 0", "b@south 4 4", "a@north -2 4", "a@south 2 2"];
    assert_eq!(movements, expected);
    // What left is out of stock; what came to a level that was just made is not back.
    let told = "SELECT string_agg(subject || ' ' || type, ', ') FROM outbox
                WHERE type NOT IN ('inventory.adjusted.v1')";
    let told: Option<String> = sqlx::query_scalar(told).fetch_one(&mut *test.conn().await).await.unwrap();
    assert_eq!(told.as_deref(), Some("inventory/b/main inventory.out_of_stock.v1"));
    transfer(&test, json!([item("b", "south", "main", 1)])).await.expect(201);
    let back = "SELECT count(*) FROM outbox WHERE subject = 'inventory/b/main' AND type = 'inventory.back_in_stock.v1'";
    assert_eq!(test.count(back).await, 1);
    test.finish().await;
}

#[tokio::test]
async fn what_is_promised_stays_and_what_is_unknown_is_named() {
    let test = prepared().await;
    test.placed(&[("a", 7)]).await;
    let before = test.snapshot().await;
    let refused =
        transfer(&test, json!([item("b", "main", "north", 1), item("a", "main", "north", 4)])).await;
    let refused = refused.problem(409, "below_committed");
    let facts = ["sku", "location_id", "minimum", "free"].map(|name| refused[name].clone());
    assert_eq!(facts, [json!("a"), json!("main"), json!(7), json!(3)]);
    // Of two that are too much together, neither is made.
    let twice = json!([item("a", "main", "north", 2), item("a", "main", "south", 2)]);
    assert_eq!(transfer(&test, twice).await.problem(409, "below_committed")["free"], 1);
    let unknown =
        transfer(&test, json!([item("a", "main", "north", 1), item("x", "main", "north", 1)])).await;
    assert_eq!(unknown.problem(422, "unknown_sku")["errors"][0]["pointer"], "/items/1/sku");
    let unknown = transfer(&test, json!([item("a", "north", "main", 1)])).await;
    assert_eq!(unknown.problem(422, "unknown_sku")["errors"][0]["pointer"], "/items/0/sku");
    for (items, pointer) in [
        (json!([]), "/items"),
        (json!(vec![item("a", "main", "north", 1); 501]), "/items"),
        (json!([item("a", "main", "north", 0)]), "/items/0/quantity"),
        (json!([item("a", "main", "north", -1)]), "/items/0/quantity"),
        (json!([item("a", "main", "north", 1_000_000_001)]), "/items/0/quantity"),
        (json!([item("a b", "main", "north", 1)]), "/items/0/sku"),
        (json!([{ "sku": "a", "from_location_id": "main", "quantity": 1 }]), "/items/0/to_location_id"),
    ] {
        let refused = transfer(&test, items).await.problem(422, "validation_failed");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    for (to, code) in [("east", "unknown_location"), ("main", "inconsistent_fields")] {
        let refused = transfer(&test, json!([item("a", "main", to, 1)])).await.problem(422, code);
        assert_eq!(refused["errors"][0]["pointer"], "/items/0/to_location_id", "{refused}");
    }
    assert_eq!(test.snapshot().await, before);
    test.api.put("/v1/inventory/b/north", &json!({ "on_hand": 1_000_000_000 })).await.expect(200);
    let full =
        transfer(&test, json!([item("b", "main", "north", 1)])).await.problem(422, "on_hand_too_large");
    assert_eq!(full["errors"][0]["pointer"], "/items/0/quantity");
    transfer(&test, json!([item("a", "main", "north", 3)])).await.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn a_transfer_counts_once() {
    let test = prepared().await;
    let body = json!({ "items": [item("a", "main", "north", 3)] });
    let twins =
        join_all((0..6).map(|_| test.api.post_until_answered("once", "/v1/inventory/transfers", &body)));
    let twins = twins.await;
    assert!(twins.iter().all(|answer| answer.status == 201 && answer.text == twins[0].text));
    assert_eq!((on_hand(&test, "a", "main").await, on_hand(&test, "a", "north").await), (7, 3));
    let other = json!({ "items": [item("a", "main", "north", 4)] });
    let reused = test.api.post_as("once", "/v1/inventory/transfers", &other).await;
    reused.problem(422, "idempotency_key_reused");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_in_circles_and_orders_at_once_lose_nothing() {
    let mut test = prepared().await;
    let other = test.another_api().await;
    test.stock("b", 30).await;
    test.stock("a", 30).await;
    let places = ["main", "north", "south"];
    transfer(&test, json!([item("a", "main", "north", 10), item("a", "main", "south", 10)]))
        .await
        .expect(201);
    transfer(&test, json!([item("b", "main", "north", 10), item("b", "main", "south", 10)]))
        .await
        .expect(201);
    let circle = |n: usize| {
        let (from, to) = (places[n % 3], places[(n + 1 + n / 3 % 2) % 3]);
        // Against the order of the keys and with it.
        let pair = [item("b", from, to, 1), item("a", to, from, 1)];
        json!({ "items": if n.is_multiple_of(2) { [pair[0].clone(), pair[1].clone()] } else { [pair[1].clone(), pair[0].clone()] } })
    };
    let bodies: Vec<Value> = (0..36).map(circle).collect();
    let apis = [&test.api, &other];
    let moves = bodies.iter().enumerate().map(|(n, body)| apis[n % 2].post("/v1/inventory/transfers", body));
    let orders = (0..12).map(|n| apis[n % 2].place(&[("a", 1), ("b", 1)]));
    let (moved, placed) = tokio::join!(join_all(moves), join_all(orders));
    assert!(moved.iter().all(|answer| answer.status == 201 || answer.code() == "below_committed"));
    assert!(placed.iter().all(|answer| answer.status == 201 || answer.code() == "insufficient_stock"));
    let total = "SELECT sum(on_hand)::bigint FROM inventory_level";
    assert_eq!(test.count(total).await, 60);
    test.finish().await;
}
