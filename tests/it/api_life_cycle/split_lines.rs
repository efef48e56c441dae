//! Lines that are split over locations, through the life of their orders: whatever happens to units happens at the location
//! that they are taken from.

use serde_json::{Value, json};

use super::{fields, line, of_lines, shop, units, wrong};
use crate::{
    api_allocation::{north_and_south, order_of, splittable},
    support::{
        api::{Answer, id},
        app::TestApp,
    },
};

/// An order of 6 units, 4 from `north`, which has no more, and 2 of 3 from `south`.
async fn place(test: &TestApp) -> Value {
    north_and_south(test, "s", 4, 3).await;
    let placed = test.api.post("/v1/orders", &splittable(order_of("s", 6))).await.expect(201);
    assert_eq!(allocations(&placed), [("north", 4), ("south", 2)]);
    placed
}

/// The same order, paid and captured. Gives its payment too.
async fn place_paid(test: &TestApp) -> (Value, String) {
    let order = place(test).await;
    let payment_id = test.paying(&id(&order), "pm_card_visa").await;
    test.pump("payment").await;
    assert_eq!(levels(test).await, [(4, 0, 4), (3, 0, 2)]);
    (order, payment_id)
}

/// Where the first line was taken from.
fn allocations(order: &Value) -> Vec<(&str, i64)> {
    let parts = order["lines"][0]["allocations"].as_array().unwrap().iter();
    parts.map(|part| (part["location_id"].as_str().unwrap(), part["quantity"].as_i64().unwrap())).collect()
}

/// `(on_hand, reserved, committed)` at north and south, after which every invariant holds.
async fn levels(test: &TestApp) -> [(i64, i64, i64); 2] {
    let verification = test.app.verify_invariants().await.unwrap();
    assert!(verification.violations.is_empty(), "{:#?}", verification.violations);
    let mut levels = [(0, 0, 0); 2];
    for (level, location) in levels.iter_mut().zip(["north", "south"]) {
        let found = test.api.get(&format!("/v1/inventory/s/{location}")).await.expect(200);
        let count = |name: &str| found[name].as_i64().unwrap();
        *level = (count("on_hand"), count("reserved"), count("committed"));
    }
    levels
}

async fn cut(test: &TestApp, order: &Value, quantity: i64) -> Answer {
    test.ask_order(order, "cancel", json!({ "lines": units(order, &[(0, quantity)]) })).await
}

/// Creates, packs and ships a shipment of so many units, of all that is there if none are named.
async fn ship_from(test: &TestApp, order: &Value, location: &str, quantity: Option<i64>) -> Value {
    let mut body = json!({ "location_id": location });
    if let Some(quantity) = quantity {
        body["lines"] = units(order, &[(0, quantity)]);
    }
    let shipment = test.ask_order(order, "shipments", body).await.expect(201);
    assert_eq!(shipment["location_id"], location);
    test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
    test.ask_shipment(&shipment, "ship", json!({})).await.expect(200)
}

#[tokio::test]
async fn canceled_units_are_free_where_they_were_held_and_the_last_choice_goes_first() {
    let test = shop().await;
    let order = place(&test).await;
    assert_eq!(levels(&test).await, [(4, 4, 0), (3, 2, 0)]);
    cut(&test, &order, 1).await.expect(200);
    assert_eq!(levels(&test).await, [(4, 4, 0), (3, 1, 0)]);
    // More than the second location has left of it.
    let after = cut(&test, &order, 3).await.expect(200);
    assert_eq!(levels(&test).await, [(4, 2, 0), (3, 0, 0)]);
    assert_eq!(of_lines(&after, "quantity_canceled"), [4]);
    // From where it was taken once stays as it was.
    assert_eq!(allocations(&after), [("north", 4), ("south", 2)]);
    assert!(wrong(cut(&test, &order, 3).await, "line_quantity_unavailable").1.starts_with("must be 1 to 2"));
    assert_eq!(cut(&test, &order, 2).await.expect(200)["status"], "canceled");
    assert_eq!(levels(&test).await, [(4, 0, 0), (3, 0, 0)]);
    test.settle_and_finish().await;
}

/// A shipment takes rows of its own, which it gives back when it is canceled: they are no later choice for that.
#[tokio::test]
async fn a_shipment_that_was_given_up_does_not_change_which_location_was_chosen_last() {
    let test = shop().await;
    let (order, _) = place_paid(&test).await;
    for (location, quantity) in [("south", 1), ("north", 3)] {
        let body = json!({ "location_id": location, "lines": units(&order, &[(0, quantity)]) });
        let shipment = test.ask_order(&order, "shipments", body).await.expect(201);
        test.ask_shipment(&shipment, "cancel", json!({})).await.expect(200);
    }
    for left in [[(4, 0, 4), (3, 0, 1)], [(4, 0, 4), (3, 0, 0)], [(4, 0, 3), (3, 0, 0)]] {
        cut(&test, &order, 1).await.expect(200);
        assert_eq!(levels(&test).await, left);
    }
    // What was canceled first is the first of its location nonetheless.
    let body = json!({ "location_id": "north", "lines": units(&order, &[(0, 1)]) });
    let held = test.ask_order(&order, "shipments", body).await.expect(201);
    cut(&test, &order, 2).await.expect(200);
    assert_eq!(levels(&test).await, [(4, 0, 1), (3, 0, 0)]);
    assert_eq!(test.api.get(&format!("/v1/shipments/{}", id(&held))).await.expect(200)["status"], "pending");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn an_order_that_runs_out_of_time_gives_back_at_each_location() {
    let test = shop().await;
    let order = place(&test).await;
    cut(&test, &order, 1).await.expect(200);
    test.ask_order(&order, "reservation/extend", json!({ "seconds": 60 })).await.expect(200);
    let held = "SELECT count(*) FROM reservation r JOIN orders o ON o.id = r.order_id
                WHERE r.status = 'held' AND r.expires_at = o.expires_at";
    assert_eq!(test.count(held).await, 2);
    test.run_out(&id(&order), 1.0).await;
    // Whoever needs the units ends the hold. He may need those of any of its locations.
    test.api.post("/v1/orders", &splittable(order_of("s", 7))).await.expect(201);
    assert_eq!(test.api.order(&id(&order)).await["status"], "expired");
    assert_eq!(levels(&test).await, [(4, 4, 0), (3, 3, 0)]);
    let expired = "SELECT count(DISTINCT location_id) FROM reservation WHERE status = 'expired'";
    assert_eq!(test.count(expired).await, 2);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn each_location_ships_what_is_taken_from_it() {
    let test = shop().await;
    let (order, _) = place_paid(&test).await;
    let (pointer, detail) = wrong(test.ask_order(&order, "shipments", json!({})).await, "location_needed");
    assert_eq!((pointer.as_str(), detail.as_str()), ("/location_id", "must be one of north, south"));
    let too_many = json!({ "location_id": "south", "lines": units(&order, &[(0, 3)]) });
    assert!(
        wrong(test.ask_order(&order, "shipments", too_many).await, "line_quantity_unavailable")
            .1
            .starts_with("must be 1 to 2, which is left to ship")
    );
    ship_from(&test, &order, "north", Some(3)).await;
    assert_eq!(levels(&test).await, [(1, 0, 1), (3, 0, 2)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(fields(&now, ["status"]), [json!("partially_fulfilled")]);
    // A unit of the second location goes, and is not the first one's to ship.
    cut(&test, &order, 1).await.expect(200);
    assert_eq!(levels(&test).await, [(1, 0, 1), (3, 0, 1)]);
    // A shipment that does not leave gives its unit to the next.
    let given_up = test.ask_order(&order, "shipments", json!({ "location_id": "south" })).await.expect(201);
    let nothing = test.ask_order(&order, "shipments", json!({ "location_id": "south" })).await;
    nothing.problem(409, "nothing_to_ship");
    test.ask_shipment(&given_up, "cancel", json!({})).await.expect(200);
    assert_eq!(levels(&test).await, [(1, 0, 1), (3, 0, 1)]);
    ship_from(&test, &order, "south", None).await;
    assert_eq!(levels(&test).await, [(1, 0, 1), (2, 0, 0)]);
    // One location is left, so nobody has to name it.
    let last = test.ask_order(&order, "shipments", json!({})).await.expect(201);
    assert_eq!(fields(&last, ["location_id"]), [json!("north")]);
    test.ask_shipment(&last, "pack", json!({})).await.expect(200);
    test.ask_shipment(&last, "ship", json!({})).await.expect(200);
    assert_eq!(levels(&test).await, [(0, 0, 0), (2, 0, 0)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!((&now["status"], of_lines(&now, "quantity_fulfilled")), (&json!("fulfilled"), vec![5]));
    assert_eq!(allocations(&now), [("north", 4), ("south", 2)]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn units_come_back_to_the_location_that_they_left() {
    let test = shop().await;
    let (order, _) = place_paid(&test).await;
    let north = ship_from(&test, &order, "north", None).await;
    let south = ship_from(&test, &order, "south", None).await;
    assert_eq!(levels(&test).await, [(0, 0, 0), (1, 0, 0)]);
    let back = |quantity| json!({ "lines": units(&order, &[(0, quantity)]), "restock": true, "reason": "x" });
    assert!(
        wrong(test.ask_shipment(&south, "return", back(3)).await, "line_quantity_unavailable")
            .1
            .starts_with("must be 1 to 2")
    );
    test.ask_shipment(&south, "return", back(1)).await.expect(200);
    assert_eq!(levels(&test).await, [(0, 0, 0), (2, 0, 0)]);
    assert_eq!(test.ask_shipment(&north, "return", back(4)).await.expect(200)["status"], "returned");
    assert_eq!(levels(&test).await, [(4, 0, 0), (2, 0, 0)]);
    assert_eq!(test.ask_shipment(&south, "return", back(1)).await.expect(200)["status"], "returned");
    assert_eq!(levels(&test).await, [(4, 0, 0), (3, 0, 0)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!((&now["return_status"], of_lines(&now, "quantity_returned")), (&json!("returned"), vec![6]));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_refund_that_restocks_takes_back_from_both_locations() {
    let test = shop().await;
    let (order, payment_id) = place_paid(&test).await;
    for location in ["north", "south"] {
        ship_from(&test, &order, location, None).await;
    }
    let refund = json!({ "lines": units(&order, &[(0, 5)]), "restock": true, "reason": "too small" });
    test.ask_payment(&payment_id, "refunds", refund).await.expect(201);
    assert_eq!(levels(&test).await, [(4, 0, 0), (2, 0, 0)]);
    let now = test.api.order(&id(&order)).await;
    let returned = now["shipments"].as_array().unwrap().iter().map(|shipment| &shipment["status"]);
    assert_eq!(returned.collect::<Vec<_>>(), ["returned", "shipped"]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_paid_order_that_is_canceled_is_given_back_or_written_off_at_each_location() {
    for restock in [true, false] {
        let test = shop().await;
        let (order, _) = place_paid(&test).await;
        // Pending at one location, packed at the other.
        for location in ["north", "south"] {
            let body = json!({ "location_id": location, "lines": units(&order, &[(0, 1)]) });
            let shipment = test.ask_order(&order, "shipments", body).await.expect(201);
            if location == "south" {
                test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
            }
        }
        // What is packed goes only with the whole order.
        assert!(
            wrong(cut(&test, &order, 6).await, "line_quantity_unavailable").1.starts_with("must be 1 to 5")
        );
        let canceled = test.ask_order(&order, "cancel", json!({ "restock": restock })).await.expect(200);
        assert_eq!(canceled["status"], "canceled");
        let left = if restock { [(4, 0, 0), (3, 0, 0)] } else { [(0, 0, 0), (1, 0, 0)] };
        assert_eq!(levels(&test).await, left);
        let written_off = "SELECT count(*) FROM stock_movement WHERE type = 'adjust'
                           AND (location_id, delta_on_hand) IN (('north', -4), ('south', -2))";
        assert_eq!(test.count(written_off).await, if restock { 0 } else { 2 });
        test.settle_and_finish().await;
    }
}

/// The shelves first, then beyond one of them: that part waits for its units, the other leaves.
#[tokio::test]
async fn a_part_on_backorder_ships_when_its_units_are_there() {
    let test = shop().await;
    north_and_south(&test, "s", 4, 3).await;
    let set = json!({ "on_hand": 3, "backorder_limit": 2 });
    test.api.put("/v1/inventory/s/south", &set).await.expect(200);
    let order = test.api.post("/v1/orders", &splittable(order_of("s", 9))).await.expect(201);
    assert_eq!(allocations(&order), [("north", 4), ("south", 5)]);
    test.paying(&id(&order), "pm_card_visa").await;
    test.pump("payment").await;
    assert_eq!(levels(&test).await, [(4, 0, 4), (3, 0, 5)]);
    ship_from(&test, &order, "north", None).await;
    let late = test.ask_order(&order, "shipments", json!({})).await.expect(201);
    test.ask_shipment(&late, "pack", json!({})).await.expect(200);
    let refused = test.ask_shipment(&late, "ship", json!({})).await.problem(409, "insufficient_stock");
    let short = json!([{ "sku": "s", "location_id": "south", "requested": 5, "available": 3 }]);
    assert_eq!(refused["items"], short);
    assert_eq!(levels(&test).await, [(0, 0, 0), (3, 0, 5)]);
    test.api.put("/v1/inventory/s/south", &json!({ "on_hand": 5 })).await.expect(200);
    test.ask_shipment(&late, "ship", json!({})).await.expect(200);
    assert_eq!(levels(&test).await, [(0, 0, 0), (0, 0, 0)]);
    let shipped = test.api.order(&id(&order)).await;
    assert_eq!(fields(&shipped["lines"][0], ["id"]), [json!(line(&order, 0))]);
    assert_eq!(shipped["status"], "fulfilled");
    test.settle_and_finish().await;
}
