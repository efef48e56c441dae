//! A payment that is gone after it was authorized: the provider let go of it, or refused it after all. What it paid for does
//! not ship.

use serde_json::json;

use super::{fields, shop, units};
use crate::support::{api::id, app::TestApp};

/// Looks every payment up, as after a day without any event.
async fn look_up(test: &TestApp) {
    test.payments_age(86_400.0).await;
    assert_eq!(test.reconcile().await, 1);
}

#[tokio::test]
async fn an_order_whose_payment_is_gone_is_canceled_and_its_stock_is_free() {
    for (decision, status) in [("payments/lapse", "voided"), ("payments/refuse", "failed")] {
        let test = shop().await;
        let (order, payment_id) = test.paid(&[("a", 2), ("b", 1)], "manual").await;
        test.pump("fulfilment").await;
        let shipment = test.api.order(&id(&order)).await["shipments"][0].clone();
        test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
        // Nobody has asked for anything: it is looked up all the same.
        look_up(&test).await;
        assert_eq!(test.api.order(&id(&order)).await["status"], "confirmed");
        test.sandbox.decide(decision, &payment_id).await;
        look_up(&test).await;
        assert_eq!(test.payment(&payment_id).await["status"], status);
        let now = test.api.order(&id(&order)).await;
        assert_eq!(
            fields(&now, ["status", "cancel_reason", "amount_due"]),
            [json!("canceled"), json!("the payment lapsed"), json!(0)]
        );
        assert_eq!(now["shipments"][0]["status"], "canceled");
        assert_eq!(test.levels().await, [(10, 0, 0), (10, 0, 0)]);
        let told = format!("payment.{status}.v1");
        let events = test.events(&order).await;
        let place = |name: &str| events.iter().position(|event| event == name);
        assert!(place(&told).is_some() && place(&told) < place("order.canceled.v1"), "{events:?}");
        test.ask_shipment(&shipment, "ship", json!({})).await.problem(409, "invalid_state_transition");
        test.settle_and_finish().await;
    }
}

#[tokio::test]
async fn what_is_left_of_an_order_whose_payment_is_gone_does_not_ship() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 4)], "manual").await;
    let pending = test.shipping(&order, &[(0, 1)]).await;
    let packed = test.shipping(&order, &[(0, 1)]).await;
    test.ask_shipment(&packed, "pack", json!({})).await.expect(200);
    test.shipped(&order, &[(0, 1)]).await;
    test.sandbox.decide("payments/lapse", &payment_id).await;
    look_up(&test).await;
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    assert_eq!(test.api.order(&id(&order)).await["status"], "partially_fulfilled");
    let more = json!({ "lines": units(&order, &[(0, 1)]) });
    for refused in [
        test.ask_order(&order, "shipments", more).await,
        test.ask_shipment(&pending, "pack", json!({})).await,
        test.ask_shipment(&packed, "ship", json!({})).await,
    ] {
        let problem = refused.problem(409, "order_not_paid");
        assert_eq!(
            fields(&problem, ["order_id", "current_status"]),
            [order["id"].clone(), json!("partially_fulfilled")]
        );
    }
    test.pump("fulfilment").await;
    assert_eq!(test.api.level("a").await, (9, 0, 3));
    // An operator has to decide, and is told.
    let broken = test.app.verify_invariants().await.unwrap().violations;
    assert_eq!(broken.iter().map(|violation| violation.id).collect::<Vec<_>>(), ["I8"]);
    test.stop().await;
}
