//! The ledger at the API: every movement with who, why and what for, by every filter, in pages.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use holdfast::store::movements::{self, MovementFilter};
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

/// How many rows of the ledger a list reads.
async fn read_for(test: &TestApp, filter: &MovementFilter) -> i64 {
    let mut tx = test.app.store.begin_report("list").await.unwrap();
    movements::list(&mut tx, filter, 51).await.unwrap();
    let read =
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'stock_movement'";
    sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap()
}

#[tokio::test]
async fn no_filter_walks_through_the_whole_ledger() {
    let test = TestApp::start().await;
    test.api.put("/v1/inventory/a/north", &json!({ "on_hand": 1 })).await.expect(200);
    test.stock("a", 1).await;
    // A movement a minute for a month.
    let much =
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, created_at)
                SELECT 'a', 'main', 'count', 1, 1, 'somebody', now() + n * interval '1 minute'
                FROM generate_series(1, 50000) n; ANALYZE stock_movement";
    sqlx::raw_sql(much).execute(&mut *test.conn().await).await.unwrap();
    let (none, now) = (MovementFilter::default, DateTime::<Utc>::from(SystemTime::now()));
    for filter in [
        MovementFilter { location_id: Some("north".parse().unwrap()), ..none() },
        MovementFilter { movement_type: Some("ship".parse().unwrap()), ..none() },
        MovementFilter { movement_type: Some("return".parse().unwrap()), ..none() },
        MovementFilter { actor: Some("nobody".into()), ..none() },
        MovementFilter { created_lt: Some(now + TimeDelta::minutes(25_000)), ..none() },
        MovementFilter { created_gte: Some(now + TimeDelta::minutes(25_000)), ..none() },
    ] {
        let read = read_for(&test, &filter).await;
        assert!(read < 500, "{read} rows for {filter:?}");
    }
    test.stop().await;
}

#[tokio::test]
async fn a_list_that_has_to_look_through_the_ledger_is_bounded() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let at = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    let now = DateTime::<Utc>::from(SystemTime::now());
    let days = |days: i64| at(now + TimeDelta::days(days));
    let from = format!("created_gte={}", days(-1));
    for wide in ["location_id=main&type=count", "type=count&actor=cli", "actor=cli&location_id=main"] {
        let (long, month) =
            (format!("{from}&created_lt={}", days(31)), format!("{from}&created_lt={}", days(30)));
        for (bound, pointer) in [("limit=9", "?created_gte"), (&from, "?created_lt"), (&long, "?created_lt")]
        {
            let refused = test.api.get(&format!("/v1/inventory/movements?{wide}&{bound}")).await;
            let refused = refused.problem(422, "inconsistent_fields");
            assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
        }
        for bound in ["sku=a", "reference=x", month.as_str()] {
            test.api.get(&format!("/v1/inventory/movements?{wide}&{bound}")).await.expect(200);
        }
    }
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
