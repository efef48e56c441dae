//! The same with all workers, through the broker.

use holdfast::worker::WorkerKind;
use serde_json::json;

use super::{fields, line};
use crate::support::{
    PATIENCE,
    api::{id, order},
    app::{Setup, TestApp},
    eventually,
};

#[tokio::test]
async fn an_order_paid_by_hand_ships_in_two_parcels_is_captured_and_comes_back_in_part() {
    let setup = Setup { ship_at_once: false, workers: &WorkerKind::ALL, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 10).await;
    let mut body = order(&[("a", 4)]);
    body["capture_method"] = json!("manual");
    let placed = test.api.post("/v1/orders", &body).await.expect(201);
    let payment_id = test.paying(&id(&placed), "pm_card_visa").await;
    test.order_becomes(&id(&placed), "confirmed").await;
    let planned = async || test.api.order(&id(&placed)).await["shipments"][0]["status"] == "pending";
    eventually("a shipment is planned", PATIENCE, planned).await;
    let planned = test.api.order(&id(&placed)).await["shipments"][0].clone();
    test.api.post(&format!("/v1/shipments/{}/cancel", id(&planned)), &json!({})).await.expect(200);
    let mut shipments = Vec::new();
    for quantity in [1, 2] {
        let lines = json!({ "lines": [{ "line_id": line(&placed, 0), "quantity": quantity }] });
        let made = test.api.post(&format!("/v1/orders/{}/shipments", id(&placed)), &lines).await.expect(201);
        for step in ["pack", "ship"] {
            test.api.post(&format!("/v1/shipments/{}/{step}", id(&made)), &json!({})).await.expect(200);
        }
        shipments.push(made);
    }
    let rest = json!({ "lines": [{ "line_id": line(&placed, 0), "quantity": 1 }] });
    test.api.post(&format!("/v1/orders/{}/cancel", id(&placed)), &rest).await.expect(200);
    test.api.post(&format!("/v1/payments/{payment_id}/capture"), &json!({})).await.expect(202);
    let payment = test.payment_becomes(&payment_id, "captured").await;
    assert_eq!(fields(&payment, ["amount", "amount_captured"]), [json!(4000), json!(3000)]);
    let back = json!({ "restock": true, "reason": "too small" });
    test.api.post(&format!("/v1/shipments/{}/return", id(&shipments[1])), &back).await.expect(200);
    let refund = json!({ "lines": [{ "line_id": line(&placed, 0), "quantity": 2 }] });
    test.api.post(&format!("/v1/payments/{payment_id}/refunds"), &refund).await.expect(201);
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!(payment["amount_refunded"], 2000);
    let now = test.api.order(&id(&placed)).await;
    assert_eq!(
        fields(&now, ["status", "payment_status", "fulfillment_status", "return_status"]),
        [json!("fulfilled"), json!("partially_refunded"), json!("fulfilled"), json!("partially_returned")]
    );
    assert_eq!(test.api.level("a").await, (9, 0, 0));
    test.finish().await;
}

#[tokio::test]
async fn an_order_on_backorder_waits_in_its_shipment_until_the_stock_is_there() {
    let test = TestApp::start_with_workers().await;
    test.api.put("/v1/inventory/a/main", &json!({ "on_hand": 1, "backorder_limit": 5 })).await.expect(200);
    let order_id = test.placed(&[("a", 3)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.payment_becomes(&payment_id, "captured").await;
    test.drain().await;
    let waiting = test.api.order(&order_id).await;
    assert_eq!(
        (&waiting["status"], &waiting["shipments"][0]["status"]),
        (&json!("confirmed"), &json!("pending"))
    );
    test.stock("a", 4).await;
    let shipment = id(&waiting["shipments"][0]);
    for step in ["pack", "ship"] {
        test.api.post(&format!("/v1/shipments/{shipment}/{step}"), &json!({})).await.expect(200);
    }
    assert_eq!(test.api.order(&order_id).await["status"], "fulfilled");
    assert_eq!(test.api.level("a").await, (1, 0, 0));
    test.finish().await;
}
