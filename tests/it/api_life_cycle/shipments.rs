//! Shipments on request: in parts, from their location, and what each step does to stock and order.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{fields, of_lines, shop, units, wrong};
use crate::support::api::id;

#[tokio::test]
async fn an_order_ships_in_parts() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 3), ("b", 2)], "automatic").await;
    let first = test.shipping(&order, &[(0, 2)]).await;
    assert_eq!(
        fields(&first, ["status", "location_id", "tracking"]),
        [json!("pending"), json!("main"), Value::Null]
    );
    let tracking = json!({ "carrier": "DHL", "number": "1Z", "url": "https://example.com/1Z" });
    let packed = test.ask_shipment(&first, "pack", json!({ "tracking": tracking })).await.expect(200);
    assert_eq!(fields(&packed, ["status", "tracking"]), [json!("packed"), tracking.clone()]);
    assert_eq!(test.levels().await, [(10, 0, 3), (10, 0, 2)]);
    let shipped = test.ask_shipment(&first, "ship", json!({})).await.expect(200);
    assert_eq!(fields(&shipped, ["status", "tracking"]), [json!("shipped"), tracking]);
    assert!(shipped["shipped_at"].is_string());
    assert_eq!(test.levels().await, [(8, 0, 1), (10, 0, 2)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&now, ["status", "fulfillment_status"]),
        [json!("partially_fulfilled"), json!("partially_fulfilled")]
    );
    assert_eq!(of_lines(&now, "quantity_fulfilled"), [2, 0]);
    let movement = "SELECT count(*) FROM stock_movement m JOIN shipment s
                      ON m.reference = 'shp_' || replace(s.id::text, '-', '')
                    WHERE type = 'ship' AND delta_on_hand = -2 AND on_hand_after = 8 AND actor LIKE 'key_%'";
    assert_eq!(test.count(movement).await, 1);

    // Everything that is left.
    let second = test.ask_order(&order, "shipments", json!({})).await.expect(201);
    assert_eq!(second["lines"].as_array().unwrap().len(), 2);
    test.ask_order(&order, "shipments", json!({})).await.problem(409, "nothing_to_ship");
    test.ask_shipment(&second, "pack", json!({})).await.expect(200);
    let number = json!({ "tracking": { "carrier": "UPS", "number": "7" } });
    let shipped = test.ask_shipment(&second, "ship", number).await.expect(200);
    assert_eq!(shipped["tracking"], json!({ "carrier": "UPS", "number": "7", "url": null }));
    test.ask_shipment(&second, "deliver", json!({})).await.expect(200);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(fields(&now, ["status", "fulfillment_status"]), [json!("fulfilled"), json!("fulfilled")]);
    assert_eq!(test.levels().await, [(7, 0, 0), (8, 0, 0)]);
    let events = test.events(&order).await;
    let shipping: Vec<_> = events.iter().filter(|event| event.starts_with("shipment.")).collect();
    let expected = ["created", "packed", "shipped", "created", "packed", "shipped", "delivered"];
    assert_eq!(shipping, expected.map(|event| format!("shipment.{event}.v1")).iter().collect::<Vec<_>>());
    assert_eq!(events.iter().filter(|event| *event == "order.fulfilled.v1").count(), 1);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_canceled_shipment_gives_its_units_to_the_next() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 3)], "automatic").await;
    for action in ["pending", "packed"] {
        let shipment = test.shipping(&order, &[(0, 3)]).await;
        if action == "packed" {
            test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
        }
        let nothing = test.ask_order(&order, "shipments", json!({ "lines": units(&order, &[(0, 1)]) })).await;
        nothing.problem(409, "nothing_to_ship");
        let canceled = test.ask_shipment(&shipment, "cancel", json!({})).await.expect(200);
        assert_eq!(fields(&canceled, ["status"]), [json!("canceled")]);
        assert_eq!(canceled["lines"][0]["quantity"], 3);
        assert_eq!(test.api.level("a").await, (10, 0, 3));
    }
    test.shipped(&order, &[(0, 1)]).await;
    test.shipped(&order, &[(0, 2)]).await;
    let page = test.api.get(&format!("/v1/orders/{}/shipments", id(&order))).await.expect(200);
    let statuses: Vec<_> = page["data"].as_array().unwrap().iter().map(|s| s["status"].clone()).collect();
    assert_eq!(statuses, ["shipped", "shipped", "canceled", "canceled"]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_shipment_leaves_from_one_location() {
    let test = shop().await;
    test.api.put("/v1/inventory/a/north", &json!({ "on_hand": 5 })).await.expect(200);
    let lines = [("a", "main", 2), ("a", "north", 3), ("b", "main", 1)];
    let lines = lines.map(|(sku, location, quantity)| {
        json!({ "sku": sku, "location_id": location, "quantity": quantity, "unit_amount": 1000 })
    });
    let order = test.api.post("/v1/orders", &json!({ "currency": "USD", "lines": lines })).await.expect(201);
    test.paying(&id(&order), "pm_card_visa").await;
    test.pump("payment").await;
    let (pointer, detail) = wrong(test.ask_order(&order, "shipments", json!({})).await, "location_needed");
    assert_eq!((pointer.as_str(), detail.as_str()), ("/location_id", "must be one of main, north"));
    let from = async |location: &str, lines: Value| {
        let mut body = json!({ "location_id": location });
        if !lines.is_null() {
            body["lines"] = lines;
        }
        test.ask_order(&order, "shipments", body).await
    };
    let nothing = from("south", Value::Null).await.problem(409, "nothing_to_ship");
    assert_eq!(nothing["location_id"], "south");
    assert!(
        wrong(from("north", units(&order, &[(0, 1)])).await, "line_quantity_unavailable")
            .1
            .contains("this one has 0")
    );
    let north = from("north", Value::Null).await.expect(201);
    assert_eq!((north["lines"].as_array().unwrap().len(), &north["lines"][0]["quantity"]), (1, &json!(3)));
    let main = test.ask_order(&order, "shipments", json!({})).await.expect(201);
    for shipment in [&north, &main] {
        test.ask_shipment(shipment, "pack", json!({})).await.expect(200);
        test.ask_shipment(shipment, "ship", json!({})).await.expect(200);
    }
    assert_eq!(test.api.get("/v1/inventory/a/north").await.expect(200)["on_hand"], 2);
    assert_eq!(test.levels().await, [(8, 0, 0), (9, 0, 0)]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn requests_at_once_never_put_a_unit_into_two_parcels() {
    let mut test = shop().await;
    let other = test.another_api().await;
    let (order, _) = test.paid(&[("a", 5)], "automatic").await;
    let path = format!("/v1/orders/{}/shipments", id(&order));
    let body = json!({ "lines": units(&order, &[(0, 2)]) });
    let apis = [&test.api, &other];
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&path, &body))).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!((made.len(), answers.iter().filter(|answer| answer.status == 422).count()), (2, 4));
    let shipment = format!("/v1/shipments/{}", id(&made[0].body));
    test.api.post(&format!("{shipment}/pack"), &json!({})).await.expect(200);
    let ship = format!("{shipment}/ship");
    let empty = json!({});
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&ship, &empty))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.problem(409, "invalid_state_transition");
    }
    assert_eq!(test.api.level("a").await, (8, 0, 3));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn wrong_requests_name_the_field_and_change_nothing() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 2)], "automatic").await;
    let waiting = test.order_of(&[("a", 1)], "automatic").await;
    let shipment = test.shipping(&order, &[(0, 1)]).await;
    let before = test.snapshot().await;
    for lines in [units(&order, &[(0, 2)]), units(&waiting, &[(0, 1)])] {
        let answer = test.ask_order(&order, "shipments", json!({ "lines": lines })).await;
        assert!(wrong(answer, "line_quantity_unavailable").0.starts_with("/lines/0/"), "{lines}");
    }
    for (body, pointer) in [
        (json!({ "lines": [] }), "/lines"),
        (json!({ "location_id": "a b" }), "/location_id"),
        (json!({ "tracking": { "carrier": "DHL" } }), "/tracking/number"),
        (json!({ "tracking": { "carrier": "", "number": "1" } }), "/tracking/carrier"),
        (
            json!({ "tracking": { "carrier": "DHL", "number": "1", "url": "javascript:alert(1)" } }),
            "/tracking/url",
        ),
        (json!({ "locations": [] }), "/locations"),
    ] {
        let answer = test.ask_order(&order, "shipments", body.clone()).await;
        assert_eq!(wrong(answer, "validation_failed").0, pointer, "{body}");
    }
    assert_eq!(
        wrong(test.ask_shipment(&shipment, "pack", json!({ "tracking": 1 })).await, "validation_failed").0,
        "/tracking"
    );
    let unpaid =
        test.ask_order(&waiting, "shipments", json!({})).await.problem(409, "invalid_state_transition");
    assert_eq!(unpaid["current_status"], "pending_payment");
    let unknown = json!({ "id": holdfast::domain::ids::ShipmentId::new() });
    for action in ["pack", "ship", "deliver", "cancel"] {
        test.ask_shipment(&unknown, action, json!({})).await.problem(404, "not_found");
    }
    test.api.get(&format!("/v1/shipments/{}", id(&unknown))).await.problem(404, "not_found");
    // None of these is refused for good.
    assert_eq!(test.snapshot().await, before);
    test.settle_and_finish().await;
}
