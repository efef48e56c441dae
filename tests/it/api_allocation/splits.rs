//! Lines that are split over locations, from their placing to their shipments.

use serde_json::{Value, json};

use super::{named, north_and_south, order_of, reserved, set_location, sources, splittable, start, stock_at};
use crate::support::{api::id, app::TestApp};

fn part(location: &str, quantity: i64) -> Value {
    json!({ "location_id": location, "quantity": quantity })
}

#[tokio::test]
async fn a_line_is_split_where_no_location_has_all_of_it_and_the_order_allows_it() {
    for zookeeper in [true, false] {
        let test = start(zookeeper).await;
        north_and_south(&test, "a", 4, 3).await;
        let before = test.snapshot().await;
        test.api.post("/v1/orders", &order_of("a", 5)).await.problem(409, "insufficient_stock");
        let at_one = splittable(named(order_of("a", 5), "north"));
        test.api.post("/v1/orders", &at_one).await.problem(409, "insufficient_stock");
        test.api.post("/v1/orders", &splittable(order_of("a", 8))).await.problem(409, "insufficient_stock");
        assert_eq!(test.snapshot().await, before);

        let order = splittable(order_of("a", 5));
        let placed = test.api.post_as("split", "/v1/orders", &order).await;
        let line = &placed.body["lines"][0];
        assert_eq!(
            (&line["quantity"], &line["location_id"]),
            (&json!(5), &json!("north")),
            "{}",
            placed.text
        );
        assert_eq!(line["allocations"], json!([part("north", 4), part("south", 1)]));
        assert_eq!(sources(&test.api.order(&id(&placed.body)).await), sources(&placed.body));
        let again = test.api.post_as("split", "/v1/orders", &order).await;
        assert_eq!((again.replayed(), &again.text), (true, &placed.text));
        let told = "SELECT count(*) FROM outbox
                    WHERE data #>> '{lines,0,allocations,1,location_id}' = 'south' AND type = 'order.created.v1'";
        assert_eq!(test.count(told).await, 1);
        assert_eq!(
            (reserved(&test.api, "a", "north").await, reserved(&test.api, "a", "south").await),
            (4, 1)
        );
        if zookeeper {
            let tokens =
                "SELECT count(DISTINCT (fence_epoch, fence)) FROM inventory_level WHERE reserved > 0";
            assert_eq!(test.count(tokens).await, 1);
            assert_eq!(test.count("SELECT count(*) FROM inventory_level WHERE fence > 0").await, 2);
        }
        // What fits whole is not split.
        let whole = test.api.post("/v1/orders", &splittable(order_of("a", 2))).await.expect(201);
        assert_eq!(
            (&whole["lines"][0]["location_id"], whole["lines"][0].get("allocations")),
            (&json!("south"), None)
        );

        test.api.cancel(&id(&placed.body)).await.expect(200);
        assert_eq!(
            (reserved(&test.api, "a", "north").await, reserved(&test.api, "a", "south").await),
            (0, 2)
        );
        test.finish().await;
    }
}

#[tokio::test]
async fn several_lines_of_one_order_are_split_over_what_the_others_leave() {
    let test = start(false).await;
    north_and_south(&test, "a", 4, 3).await;
    stock_at(&test, "a", "main", 2).await;
    stock_at(&test, "b", "main", 1).await;
    let line = |sku: &str, quantity: i64| json!({ "sku": sku, "quantity": quantity, "unit_amount": 1 });
    let lines = json!([line("a", 2), line("b", 1), line("a", 6)]);
    let order = splittable(json!({ "currency": "USD", "lines": lines }));
    let placed = test.api.post("/v1/orders", &order).await.expect(201);
    let told: Vec<_> = placed["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (&line["location_id"], &line["allocations"]))
        .collect();
    let expected = [
        (json!("main"), Value::Null),
        (json!("main"), Value::Null),
        (json!("north"), json!([part("north", 4), part("south", 2)])),
    ];
    assert_eq!(told, expected.iter().map(|(location, parts)| (location, parts)).collect::<Vec<_>>());
    assert_eq!(test.count("SELECT count(*) FROM reservation").await, 4);
    test.finish().await;
}

#[tokio::test]
async fn a_split_that_needs_a_backorder_takes_the_shelves_first() {
    let test = start(false).await;
    set_location(&test, "north", 1, true).await;
    for (location, on_hand, backorder_limit) in [("north", 1, 2), ("main", 2, 0)] {
        let path = format!("/v1/inventory/a/{location}");
        let set = json!({ "on_hand": on_hand, "backorder_limit": backorder_limit });
        test.api.put(&path, &set).await.expect(200);
    }
    let placed = test.api.post("/v1/orders", &splittable(order_of("a", 4))).await.expect(201);
    assert_eq!(placed["lines"][0]["allocations"], json!([part("north", 2), part("main", 2)]));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_order_is_paid_once_and_shipped_from_each_location() {
    let test = TestApp::start_with_workers().await;
    north_and_south(&test, "a", 4, 3).await;
    stock_at(&test, "b", "south", 2).await;
    let mut order = splittable(order_of("a", 5));
    let other = json!({ "sku": "b", "quantity": 2, "unit_amount": 50 });
    order["lines"].as_array_mut().unwrap().push(other);
    let order_id = id(&test.api.post("/v1/orders", &order).await.expect(201));
    test.paying(&order_id, "pm_card_visa").await;
    let order = test.order_becomes(&order_id, "fulfilled").await;
    let line = |index: usize| order["lines"][index]["id"].clone();
    assert_eq!(
        (&order["lines"][0]["quantity_fulfilled"], &order["lines"][1]["quantity_fulfilled"]),
        (&json!(5), &json!(2))
    );
    assert_eq!(order["lines"][0]["allocations"], json!([part("north", 4), part("south", 1)]));
    let mut shipments: Vec<Value> = order["shipments"].as_array().unwrap().clone();
    shipments.sort_by_key(|shipment| shipment["location_id"].to_string());
    let held: Vec<_> = shipments
        .iter()
        .map(|shipment| (&shipment["location_id"], &shipment["status"], &shipment["lines"]))
        .collect();
    let of = |index: usize, quantity: i64| json!({ "order_line_id": line(index), "quantity": quantity, "quantity_returned": 0 });
    let (north, south) = (json!([of(0, 4)]), json!([of(0, 1), of(1, 2)]));
    let shipped = json!("shipped");
    assert_eq!(held, [(&json!("north"), &shipped, &north), (&json!("south"), &shipped, &south)]);
    for (location, left) in [("north", 0), ("south", 2)] {
        let level = test.api.get(&format!("/v1/inventory/a/{location}")).await.expect(200);
        assert_eq!(
            (&level["on_hand"], &level["reserved"], &level["committed"]),
            (&json!(left), &json!(0), &json!(0))
        );
    }
    assert_eq!(test.count("SELECT count(*) FROM stock_movement WHERE type = 'ship'").await, 3);
    test.finish().await;
}

#[tokio::test]
async fn whether_an_order_may_be_split_is_a_yes_or_a_no() {
    let test = start(false).await;
    let mut order = order_of("a", 1);
    order["allow_split"] = json!("yes");
    let refused = test.api.post("/v1/orders", &order).await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["pointer"], "/allow_split");
    test.stop().await;
}
