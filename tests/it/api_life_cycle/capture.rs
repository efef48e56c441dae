//! Captures and voids on request.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{fields, shop, wrong};
use crate::support::{
    api::{id, order},
    payments::new_event,
};

#[tokio::test]
async fn an_order_paid_by_hand_is_captured_when_it_ships() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "manual").await;
    assert_eq!(order["payment_status"], "authorized");
    test.shipped(&order, &[(0, 2)]).await;
    let asked = test.ask_payment(&payment_id, "capture", json!({})).await.expect(202);
    assert_eq!(
        fields(&asked, ["status", "capture_requested_amount", "amount_captured"]),
        [json!("authorized"), json!(2000), json!(0)]
    );
    test.pump("payment").await;
    let payment = test.payment(&payment_id).await;
    assert_eq!(fields(&payment, ["status", "amount_captured"]), [json!("captured"), json!(2000)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(fields(&now, ["status", "payment_status"]), [json!("fulfilled"), json!("paid")]);
    let events = test.events(&order).await;
    assert!(
        events.ends_with(&["payment.capture_requested.v1".into(), "payment.captured.v1".into()]),
        "{events:?}"
    );
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_part_is_captured_once_and_the_rest_is_given_free() {
    let test = shop().await;
    let (_, payment_id) = test.paid(&[("a", 5)], "manual").await;
    let before = test.snapshot().await;
    assert_eq!(
        wrong(test.ask_payment(&payment_id, "capture", json!({ "amount": 0 })).await, "validation_failed").0,
        "/amount"
    );
    assert_eq!(
        wrong(test.ask_payment(&payment_id, "capture", json!({ "amount": -1 })).await, "validation_failed").0,
        "/amount"
    );
    let much = test.ask_payment(&payment_id, "capture", json!({ "amount": 5001 })).await;
    let problem = much.problem(422, "amount_exceeds_authorized");
    assert_eq!(problem["errors"][0]["pointer"], "/amount");
    assert_eq!(test.snapshot().await, before);
    test.ask_payment(&payment_id, "capture", json!({ "amount": 1200 })).await.expect(202);
    test.ask_payment(&payment_id, "capture", json!({ "amount": 1 }))
        .await
        .problem(409, "payment_in_progress");
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [1200, 0, 0]);
    let again = test.ask_payment(&payment_id, "capture", json!({})).await;
    let refused = again.problem(409, "invalid_state_transition");
    assert_eq!(
        fields(&refused, ["current_status", "allowed"]),
        [json!("captured"), json!(["partially_refunded", "refunded"])]
    );
    // What was never captured is not refunded either.
    let much = test.ask_payment(&payment_id, "refunds", json!({ "amount": 1201 })).await;
    assert_eq!(much.problem(409, "refund_exceeds_captured")["refundable"], 1200);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn what_was_never_captured_is_let_go_of_first_when_units_are_canceled() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 10)], "manual").await;
    test.ask_payment(&payment_id, "capture", json!({ "amount": 5000 })).await.expect(202);
    test.pump("payment").await;
    for (quantity, refunded) in [(3, 0), (3, 1000)] {
        let cut = json!({ "lines": super::units(&order, &[(0, quantity)]) });
        test.ask_order(&order, "cancel", cut).await.expect(200);
        test.pump("payment").await;
        assert_eq!(test.money(&payment_id).await[1], refunded);
    }
    test.ask_order(&order, "cancel", json!({})).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [5000, 5000, 2]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn captures_asked_for_at_once_take_the_money_once() {
    let mut test = shop().await;
    let other = test.another_api().await;
    let (_, payment_id) = test.paid(&[("a", 2)], "manual").await;
    let path = format!("/v1/payments/{payment_id}/capture");
    let body = json!({ "amount": 500 });
    let apis = [&test.api, &other];
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&path, &body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 202) {
        answer.problem(409, "payment_in_progress");
    }
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [500, 0, 0]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn an_automatic_payment_needs_no_request() {
    let test = shop().await;
    let (_, payment_id) = test.paid(&[("a", 1)], "automatic").await;
    let payment = test.payment(&payment_id).await;
    assert_eq!(
        fields(&payment, ["status", "capture_requested_amount", "amount_capturing"]),
        [json!("captured"), Value::Null, json!(1000)]
    );
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_payment_that_waits_for_the_customer_is_given_up_on_request() {
    let test = shop().await;
    let placed = test.order_of(&[("a", 1)], "automatic").await;
    let payment_id = test.paying(&id(&placed), "pm_sandbox_requires_action").await;
    test.ask_payment(&payment_id, "void", json!({})).await.problem(409, "invalid_state_transition");
    test.pump("payment").await;
    assert_eq!(
        wrong(test.ask_payment(&payment_id, "void", json!({ "reason": "" })).await, "validation_failed").0,
        "/reason"
    );
    let asked =
        test.ask_payment(&payment_id, "void", json!({ "reason": "pays otherwise" })).await.expect(202);
    assert_eq!(
        fields(&asked, ["status", "void_reason"]),
        [json!("requires_action"), json!("pays otherwise")]
    );
    assert!(asked["void_requested_at"].is_string());
    test.ask_payment(&payment_id, "void", json!({})).await.problem(409, "payment_in_progress");
    test.api.pay(&id(&placed), "pm_card_visa").await.problem(409, "payment_in_progress");
    test.pump("payment").await;
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    let now = test.api.order(&id(&placed)).await;
    assert_eq!(fields(&now, ["status", "payment_status"]), [json!("pending_payment"), json!("voided")]);
    test.paying(&id(&placed), "pm_card_visa").await;
    test.pump("payment").await;
    let now = test.api.order(&id(&placed)).await;
    assert_eq!(fields(&now, ["status", "payment_status"]), [json!("confirmed"), json!("paid")]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_payment_that_the_customer_confirms_after_all_confirms_nothing() {
    let test = shop().await;
    let placed = test.api.post("/v1/orders", &order(&[("a", 1)])).await.expect(201);
    let payment_id = test.paying(&id(&placed), "pm_card_visa").await;
    // As if the customer had to act first, and did so after the merchant had given up.
    let wait = "UPDATE payment SET status = 'requires_action', void_requested_at = now()";
    sqlx::query(wait).execute(&mut *test.conn().await).await.unwrap();
    test.pump("payment").await;
    let now = test.api.order(&id(&placed)).await;
    assert_eq!(now["status"], "pending_payment");
    assert_eq!(test.money(&payment_id).await, [0, 0, 0]);
    assert_eq!(test.payment(&payment_id).await["status"], "authorized");
    test.app.void_payment(&new_event(), payment_id.parse().unwrap()).await.unwrap();
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    assert_eq!(test.api.level("a").await, (10, 1, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn the_payment_of_a_living_order_is_not_voided_alone() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "manual").await;
    for status in ["confirmed", "partially_fulfilled", "fulfilled"] {
        let refused =
            test.ask_payment(&payment_id, "void", json!({})).await.problem(409, "order_needs_payment");
        assert_eq!(fields(&refused, ["order_id", "current_status"]), [json!(id(&order)), json!(status)]);
        if status != "fulfilled" {
            test.shipped(&order, &[(0, 1)]).await;
        }
    }
    test.settle_and_finish().await;
}
