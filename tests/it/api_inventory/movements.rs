//! The ledger at the API: every movement with who, why and what for, by every filter, in pages.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::TestApp;

/// `sku@location type delta on_hand_after` of the movements that a query finds.
async fn found(test: &TestApp, query: &str) -> Vec<String> {
    let page = test.api.get(&format!("/v1/inventory/movements?{query}")).await.expect(200);
    page["data"].as_array().unwrap().iter().map(shown).collect()
}

fn shown(movement: &Value) -> String {
    let [sku, location, kind] = ["sku", "location_id", "type"].map(|name| movement[name].as_str().unwrap());
    format!("{sku}@{location} {kind} {} {}", movement["delta"], movement["on_hand_after"])
}

/// A count, an adjustment, a transfer, and a shipment.
async fn prepared() -> TestApp {
    let test = TestApp::start_with_workers().await;
    test.api.put("/v1/locations/north", &json!({ "priority": 1 })).await.expect(200);
    let count = json!({ "on_hand": 10, "reason": "year's end", "reference": "sheet 1" });
    test.api.put("/v1/inventory/a/main", &count).await.expect(200);
    let adjust = json!({ "items": [{ "sku": "a", "delta": -2 }], "reference": "sheet 2" });
    test.api.post("/v1/inventory/adjustments", &adjust).await.expect(201);
    let item = json!({ "sku": "a", "from_location_id": "main", "to_location_id": "north", "quantity": 3 });
    let transfer = json!({ "items": [item], "reference": "sheet 2" });
    test.api.post("/v1/inventory/transfers", &transfer).await.expect(201);
    test.stock("b", 5).await;
    let order_id = test.placed(&[("b", 2)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "fulfilled").await;
    test
}

#[tokio::test]
async fn the_ledger_is_searched_by_every_filter() {
    let test = prepared().await;
    let all = [
        "b@main ship -2 3",
        "b@main count 5 5",
        "a@north transfer 3 3",
        "a@main transfer -3 5",
        "a@main adjust -2 8",
        "a@main count 10 10",
    ];
    assert_eq!(found(&test, "").await, all);
    assert_eq!(found(&test, "sku=a").await, all[2..]);
    assert_eq!(found(&test, "sku=a&location_id=north").await, all[2..3]);
    assert_eq!(found(&test, "location_id=north").await, all[2..3]);
    assert_eq!(found(&test, "type=count").await, [all[1], all[5]]);
    assert_eq!(found(&test, "type=return").await, Vec::<String>::new());
    assert_eq!(found(&test, "reference=sheet%202").await, all[2..5]);
    assert_eq!(found(&test, "reference=sheet%202&type=transfer&sku=a&location_id=main").await, all[3..4]);
    assert_eq!(found(&test, "actor=fulfilment").await, all[..1]);
    let page = test.api.get("/v1/inventory/movements?type=count&sku=a").await.expect(200);
    let movement = &page["data"][0];
    assert_eq!((&movement["reason"], &movement["reference"]), (&json!("year's end"), &json!("sheet 1")));
    let actor = movement["actor"].as_str().unwrap();
    assert!(actor.starts_with("key_"), "{movement}");
    assert_eq!(found(&test, &format!("actor={actor}")).await, all[1..]);
    let mut ids: Vec<String> = Vec::new();
    loop {
        let after = ids.last().map_or(String::new(), |id| format!("&starting_after={id}"));
        let page = test.api.get(&format!("/v1/inventory/movements?limit=2{after}")).await.expect(200);
        ids.extend(page["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            break;
        }
    }
    let numbers: Vec<u64> = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert!(numbers.len() == 6 && numbers.is_sorted_by(|a, b| a > b), "{numbers:?}");
    test.finish().await;
}

#[tokio::test]
async fn the_ledger_is_searched_by_time() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let middle: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *test.conn().await).await.unwrap();
    test.stock("b", 1).await;
    let at = |time: chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let (a, b) = ("a@main count 1 1", "b@main count 1 1");
    assert_eq!(found(&test, &format!("created_gte={}", at(middle))).await, [b]);
    assert_eq!(found(&test, &format!("created_lt={}", at(middle))).await, [a]);
    let (hour, offset) = (Duration::from_hours(1), "%2B00:00");
    let from = at(middle - hour).replace('Z', offset);
    assert_eq!(found(&test, &format!("created_gte={from}&created_lt={}", at(middle + hour))).await, [b, a]);
    // From this moment on, and before it.
    let page = test.api.get("/v1/inventory/movements?sku=b").await.expect(200);
    let exact = page["data"][0]["created_at"].as_str().unwrap();
    assert_eq!(found(&test, &format!("created_gte={exact}")).await, [b]);
    assert_eq!(found(&test, &format!("created_lt={exact}")).await, [a]);
    for (query, pointer) in [
        ("created_gte=yesterday", "?created_gte"),
        ("created_lt=2026-01-01", "?created_lt"),
        ("type=sale", "?type"),
        ("sku=a%20b", "?sku"),
        ("location_id=", "?location_id"),
        ("starting_after=x", "?starting_after"),
        ("starting_after=-1", "?starting_after"),
        ("limit=101", "?limit"),
        ("on_hand=1", "?on_hand"),
    ] {
        let refused = test.api.get(&format!("/v1/inventory/movements?{query}")).await;
        let refused = refused.problem(422, "validation_failed");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    test.finish().await;
}
