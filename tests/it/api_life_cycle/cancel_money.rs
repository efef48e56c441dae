//! What canceling does to money: captured for less, refunded, kept, voided.

use serde_json::json;

use super::{fields, shop, units};
use crate::support::api::id;

#[tokio::test]
async fn less_is_due_before_the_payment_begins() {
    let test = shop().await;
    let order = test.order_of(&[("a", 3)], "automatic").await;
    test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(0, 1)]) })).await.expect(200);
    let pay = json!({ "method": "card", "payment_token": "pm_card_visa", "amount": 3000 });
    test.ask_order(&order, "payments", pay).await.problem(422, "amount_mismatch");
    let payment_id = test.paying(&id(&order), "pm_card_visa").await;
    test.pump("payment").await;
    let payment = test.payment(&payment_id).await;
    assert_eq!(
        fields(&payment, ["status", "amount", "amount_captured"]),
        [json!("captured"), json!(2000), json!(2000)]
    );
    let order = test.api.order(&id(&order)).await;
    assert_eq!(fields(&order, ["status", "payment_status"]), [json!("confirmed"), json!("paid")]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn authorized_money_is_captured_for_what_is_due_only() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 3)], "manual").await;
    test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(0, 1)]) })).await.expect(200);
    test.ask_payment(&payment_id, "capture", json!({})).await.expect(202);
    // What is canceled before the provider was asked is not captured either.
    test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(0, 1)]) })).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [1000, 0, 0]);
    assert_eq!(test.payment(&payment_id).await["status"], "captured");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn what_is_canceled_while_the_provider_captures_is_refunded() {
    let test = shop().await;
    let order = test.order_of(&[("a", 3)], "automatic").await;
    let payment_id = test.paying(&id(&order), "pm_sandbox_error_after_capture").await;
    // Handles the authorization; the capture takes effect and its answer does not come.
    let event = |consumer| holdfast::app::Handling {
        consumer,
        event_id: holdfast::domain::ids::EventId::new(),
        cause: holdfast::app::Cause::default(),
    };
    let payment = payment_id.parse().unwrap();
    test.app.authorize_payment(&event("payment"), payment).await.unwrap();
    test.app.capture_payment(&event("payment"), payment).await.unwrap_err();
    let cut = json!({ "lines": units(&order, &[(0, 1)]) });
    test.ask_order(&order, "cancel", cut).await.expect(200);
    assert_eq!(test.count("SELECT count(*) FROM refund").await, 0);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [3000, 1000, 1]);
    let payment = test.payment(&payment_id).await;
    assert_eq!(fields(&payment, ["status", "amount_capturing"]), [json!("partially_refunded"), json!(3000)]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn captured_money_goes_back_by_what_the_units_cost() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 3), ("b", 1)], "automatic").await;
    let after = test
        .ask_order(&order, "cancel", json!({ "lines": units(&order, &[(0, 2)]), "reason": "late" }))
        .await;
    assert_eq!(after.expect(200)["amount_due"], 2000);
    let order = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&order["refunds"][0], ["status", "amount", "reason"]),
        [json!("pending"), json!(2000), json!("late")]
    );
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [4000, 2000, 1]);
    let order = test.api.order(&id(&order)).await;
    assert_eq!(order["payment_status"], "partially_refunded");
    // Asked to, it is kept; the whole order's goes back to the last unit.
    let kept = json!({ "lines": units(&order, &[(0, 1)]), "refund": "none" });
    test.ask_order(&order, "cancel", kept).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [4000, 2000, 1]);
    test.ask_order(&order, "cancel", json!({})).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [4000, 4000, 2]);
    assert_eq!(test.payment(&payment_id).await["status"], "refunded");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn the_money_of_a_canceled_order_is_kept_if_asked_and_can_still_be_refunded() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "automatic").await;
    let after = test.ask_order(&order, "cancel", json!({ "refund": "none" })).await.expect(200);
    assert_eq!(fields(&after, ["status", "keeps_money"]), [json!("canceled"), json!(true)]);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [2000, 0, 0]);
    // No violation however long ago that was.
    let mut conn = test.conn().await;
    sqlx::query("UPDATE payment SET updated_at = now() - interval '1 day'")
        .execute(&mut *conn)
        .await
        .unwrap();
    drop(conn);
    assert_eq!(test.app.verify_invariants().await.unwrap().violations, []);
    test.ask_payment(&payment_id, "refunds", json!({ "amount": 500 })).await.expect(201);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [2000, 500, 1]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn authorized_money_of_a_canceled_order_is_voided_whatever_was_asked() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "manual").await;
    let after = test.ask_order(&order, "cancel", json!({ "refund": "none" })).await.expect(200);
    assert_eq!(after["keeps_money"], false);
    test.pump("payment").await;
    let payment = test.payment(&payment_id).await;
    assert_eq!(payment["status"], "voided");
    assert_eq!(test.api.order(&id(&order)).await["payment_status"], "voided");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn what_a_refund_has_named_before_is_not_refunded_again_by_a_cancellation() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 3)], "automatic").await;
    test.ask_payment(&payment_id, "refunds", json!({ "lines": units(&order, &[(0, 2)]) })).await.expect(201);
    test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(0, 2)]) })).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [3000, 3000, 2]);
    test.settle_and_finish().await;
}
