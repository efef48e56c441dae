//! Which location a line is taken from.

use futures_util::future::join_all;
use holdfast::{
    domain::{inventory::LevelKey, open_orders::OpenOrderCaps},
    store::placement::{self, Batch, ReserveStock},
};
use serde_json::{Value, json};

use super::{named, north_and_south, order_of, reserved, set_location, sources, start, stock_at};
use crate::support::{PATIENCE, api::id, app::TestApp, eventually};

/// Places an order that must succeed. Gives the location of its first line, which the order tells whenever it is read.
async fn place_at(test: &TestApp, order: &Value) -> String {
    let placed = test.api.post("/v1/orders", order).await.expect(201);
    let location = placed["lines"][0]["location_id"].as_str().unwrap().to_owned();
    assert_eq!(placed["lines"][0].get("allocations"), None, "only a split line has them");
    assert_eq!(sources(&test.api.order(&id(&placed)).await), sources(&placed));
    location
}

#[tokio::test]
async fn a_line_goes_to_the_first_location_that_has_all_of_it() {
    for zookeeper in [true, false] {
        let test = start(zookeeper).await;
        north_and_south(&test, "a", 4, 9).await;
        for (quantity, location) in [(3, "north"), (2, "south"), (1, "north"), (1, "south"), (6, "south")] {
            assert_eq!(place_at(&test, &order_of("a", quantity)).await, location, "{quantity}");
        }
        let levels = ["north", "south", "main"].map(|location| reserved(&test.api, "a", location));
        assert_eq!(join_all(levels).await, [4, 9, 0]);
        test.api.post("/v1/orders", &order_of("a", 1)).await.problem(409, "insufficient_stock");
        test.finish().await;
    }
}

#[tokio::test]
async fn each_line_is_taken_by_itself_and_all_of_them_or_none() {
    let test = start(false).await;
    north_and_south(&test, "a", 5, 5).await;
    north_and_south(&test, "b", 0, 5).await;
    let line = |sku: &str, quantity: i64| json!({ "sku": sku, "quantity": quantity, "unit_amount": 1 });
    let order = |lines: Value| json!({ "currency": "USD", "lines": lines });
    let before = test.snapshot().await;
    // Two lines of one SKU do not count the same units.
    let lines = json!([line("b", 1), line("a", 5), line("a", 5), line("a", 1)]);
    test.api.post("/v1/orders", &order(lines)).await.problem(409, "insufficient_stock");
    assert_eq!(test.snapshot().await, before);
    let lines = json!([line("b", 1), line("a", 4), line("a", 5)]);
    let placed = test.api.post("/v1/orders", &order(lines)).await.expect(201);
    let locations: Vec<&Value> =
        placed["lines"].as_array().unwrap().iter().map(|line| &line["location_id"]).collect();
    assert_eq!(locations, ["south", "south", "north"]);
    test.finish().await;
}

#[tokio::test]
async fn a_line_that_names_its_location_is_taken_from_there_or_not_at_all() {
    let test = start(false).await;
    north_and_south(&test, "a", 9, 2).await;
    set_location(&test, "attic", 0, false).await;
    stock_at(&test, "a", "attic", 3).await;
    assert_eq!(place_at(&test, &named(order_of("a", 2), "south")).await, "south");
    let short = test.api.post("/v1/orders", &named(order_of("a", 1), "south")).await;
    let items = json!([{ "sku": "a", "location_id": "south", "requested": 1, "available": 0 }]);
    assert_eq!(short.problem(409, "insufficient_stock")["items"], items);
    // A location that is not active is taken from by who names it.
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "north");
    assert_eq!(place_at(&test, &named(order_of("a", 3), "attic")).await, "attic");
    let unknown = test.api.post("/v1/orders", &named(order_of("a", 1), "nowhere")).await;
    let error = json!({ "pointer": "/lines/0/sku", "detail": "there is no SKU a at location nowhere" });
    assert_eq!(unknown.problem(422, "unknown_sku")["errors"], json!([error]));
    test.finish().await;
}

#[tokio::test]
async fn what_is_short_is_told_for_every_location() {
    let test = start(false).await;
    north_and_south(&test, "a", 4, 3).await;
    stock_at(&test, "b", "north", 1).await;
    let lines = json!([
        { "sku": "a", "quantity": 5, "unit_amount": 1 },
        { "sku": "b", "quantity": 2, "unit_amount": 1 },
    ]);
    let short = test.api.post("/v1/orders", &json!({ "currency": "USD", "lines": lines })).await;
    let left = |location: &str, available: i64| json!({ "location_id": location, "available": available });
    let items = json!([
        { "sku": "a", "requested": 5, "available": 7, "locations": [left("north", 4), left("south", 3), left("main", 0)] },
        { "sku": "b", "location_id": "north", "requested": 2, "available": 1 },
    ]);
    assert_eq!(short.problem(409, "insufficient_stock")["items"], items);
    // It lies only where nobody is served who does not name the place.
    set_location(&test, "attic", 0, false).await;
    stock_at(&test, "c", "attic", 3).await;
    let short = test.api.post("/v1/orders", &order_of("c", 1)).await.problem(409, "insufficient_stock");
    assert_eq!(short["items"], json!([{ "sku": "c", "requested": 1, "available": 0 }]));
    let unknown = test.api.post("/v1/orders", &order_of("d", 1)).await.problem(422, "unknown_sku");
    assert_eq!(unknown["errors"][0]["detail"], "there is no SKU d");
    test.finish().await;
}

#[tokio::test]
async fn a_shelf_comes_before_a_backorder_at_a_better_location() {
    let test = start(false).await;
    north_and_south(&test, "a", 2, 3).await;
    let set = json!({ "on_hand": 2, "backorder_limit": 9, "safety_stock": 1 });
    test.api.put("/v1/inventory/a/north", &set).await.expect(200);
    for (quantity, location) in [(2, "south"), (1, "north"), (1, "south"), (8, "north")] {
        assert_eq!(place_at(&test, &order_of("a", quantity)).await, location, "{quantity}");
    }
    let short = test.api.post("/v1/orders", &order_of("a", 2)).await.problem(409, "insufficient_stock");
    assert_eq!(short["items"][0]["available"], 1);
    test.finish().await;
}

/// A process remembers which locations there are, and notices what somebody changes past it.
#[tokio::test]
async fn what_changes_about_locations_is_noticed_while_orders_come() {
    let test = start(false).await;
    set_location(&test, "north", 1, true).await;
    stock_at(&test, "a", "main", 1_000_000).await;
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "main");
    let noticed = async |location: &str| {
        let what = format!("orders go to {location}");
        eventually(&what, PATIENCE, async || place_at(&test, &order_of("a", 1)).await == location).await;
    };
    stock_at(&test, "a", "north", 1_000_000).await;
    noticed("north").await;
    set_location(&test, "north", 1, false).await;
    noticed("main").await;
    set_location(&test, "north", 1, true).await;
    noticed("north").await;
    // It runs out and is filled up again.
    stock_at(&test, "a", "north", reserved(&test.api, "a", "north").await).await;
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "main");
    stock_at(&test, "a", "north", 1_000_000).await;
    noticed("north").await;
    test.finish().await;
}

#[tokio::test]
async fn a_location_that_came_since_is_found_when_the_others_are_empty() {
    let test = start(false).await;
    stock_at(&test, "a", "main", 1).await;
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "main");
    // Not noticed yet, and needed now.
    stock_at(&test, "a", "north", 1).await;
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "north");
    test.finish().await;
}

#[tokio::test]
async fn expired_holds_are_ended_wherever_the_line_could_be_taken_from() {
    let test = start(true).await;
    north_and_south(&test, "a", 2, 2).await;
    let mut overdue = Vec::new();
    for location in ["north", "south"] {
        let order = named(order_of("a", 2), location);
        overdue.push(id(&test.api.post("/v1/orders", &order).await.expect(201)));
    }
    test.run_out(&overdue[1], 1.0).await;
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "south");
    assert_eq!(test.api.order(&overdue[0]).await["status"], "pending_payment");
    assert_eq!(test.api.order(&overdue[1]).await["status"], "expired");
    test.finish().await;
}

/// Each of them is expected to fit on the first shelf, and all of them together do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_come_together_take_every_shelf_before_a_backorder() {
    for zookeeper in [true, false] {
        let test = start(zookeeper).await;
        north_and_south(&test, "a", 5, 1000).await;
        let set = json!({ "on_hand": 5, "backorder_limit": 1000 });
        test.api.put("/v1/inventory/a/north", &set).await.expect(200);
        // Since this order the process knows the database's time and what the levels have.
        assert_eq!(place_at(&test, &order_of("a", 1)).await, "north");
        let order = order_of("a", 1);
        for placed in join_all((0..40).map(|_| test.api.post("/v1/orders", &order))).await {
            placed.expect(201);
        }
        let levels = ["north", "south"].map(|location| reserved(&test.api, "a", location));
        assert_eq!(join_all(levels).await, [5, 36]);
        test.finish().await;
    }
}

/// What a process has seen of a shelf is out of date once another has taken from it.
#[tokio::test]
async fn a_shelf_that_another_process_has_emptied_is_not_sold_on_backorder() {
    let mut test = start(false).await;
    north_and_south(&test, "a", 3, 9).await;
    let set = json!({ "on_hand": 3, "backorder_limit": 100 });
    test.api.put("/v1/inventory/a/north", &set).await.expect(200);
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "north");
    let other = test.another_api().await;
    other.post("/v1/orders", &named(order_of("a", 2), "north")).await.expect(201);
    assert_eq!(place_at(&test, &order_of("a", 1)).await, "south");
    // Who names the location wants it from there, backorder or not.
    assert_eq!(place_at(&test, &named(order_of("a", 5), "north")).await, "north");
    test.finish().await;
}

/// A process knows of one level only, and another process has made a second one since.
#[tokio::test]
async fn a_level_that_a_process_has_not_heard_of_comes_before_a_backorder() {
    for zookeeper in [true, false] {
        let mut test = start(zookeeper).await;
        let set = json!({ "on_hand": 4, "backorder_limit": 100 });
        test.api.put("/v1/inventory/a/main", &set).await.expect(200);
        assert_eq!(place_at(&test, &order_of("a", 2)).await, "main");
        let other = test.another_api().await;
        other.put("/v1/inventory/a/north", &json!({ "on_hand": 3 })).await.expect(200);
        for (quantity, location) in [(1, "main"), (2, "north"), (1, "main"), (1, "north"), (1, "main")] {
            assert_eq!(place_at(&test, &order_of("a", quantity)).await, location, "{quantity}");
        }
        test.finish().await;
    }
}

/// What the statement takes by itself of a level that was chosen: what is on the shelf, and a backorder where nothing else
/// could come before it.
#[tokio::test]
async fn a_backorder_at_a_chosen_level_has_to_be_decided_only_where_another_level_has_something() {
    let test = start(false).await;
    let key = LevelKey { sku: "a".parse().unwrap(), location_id: "main".parse().unwrap() };
    let place = async |from_shelf: bool| {
        let levels = [(&key, ReserveStock { quantity: 2, fence: None, from_shelf })].into();
        let placed =
            test.app.store.place(&Batch { orders: Vec::new(), levels, caps: OpenOrderCaps::NONE }).await;
        match placed {
            Ok(_) => true,
            Err(error) if error.constraint() == Some(placement::LEVELS) => false,
            Err(error) => panic!("{error}"),
        }
    };
    let set = json!({ "on_hand": 2, "backorder_limit": 100 });
    test.api.put("/v1/inventory/a/main", &set).await.expect(200);
    stock_at(&test, "b", "north", 9).await;
    // From the shelf, and beyond it while it is the only level of its SKU, or the only one that has anything.
    assert!(place(true).await && place(true).await);
    stock_at(&test, "a", "north", 0).await;
    assert!(place(true).await);
    for other in [json!({ "on_hand": 1 }), json!({ "on_hand": 0, "backorder_limit": 1 })] {
        test.api.put("/v1/inventory/a/north", &other).await.expect(200);
        // Who names the level, or has decided, takes it from there.
        assert!(!place(true).await && place(false).await, "{other}");
    }
    test.stop().await;
}
