//! Refunds on request: pending until the provider has decided, whatever it answers, and of units no unit twice.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{fields, of_lines, shop, units, wrong};
use crate::support::{api::id, app::TestApp, payments::new_event};

/// An order of ten units of 10.00, captured by a payment with this token.
async fn captured(test: &TestApp, token: &str) -> (Value, String) {
    let order = test.order_of(&[("a", 7), ("b", 3)], "automatic").await;
    let payment_id = test.paying(&id(&order), token).await;
    test.pump("payment").await;
    (test.api.order(&id(&order)).await, payment_id)
}

#[tokio::test]
async fn a_refund_is_pending_until_the_provider_has_sent_the_money() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_card_visa").await;
    let refund = test.ask_payment(&payment_id, "refunds", json!({ "amount": 3000, "reason": "sorry" })).await;
    let refund = refund.expect(201);
    assert_eq!(
        fields(&refund, ["status", "amount", "reason", "payment_id", "order_id", "lines", "failure_code"]),
        [
            json!("pending"),
            json!(3000),
            json!("sorry"),
            json!(payment_id),
            json!(id(&order)),
            json!([]),
            Value::Null
        ]
    );
    let payment = test.payment(&payment_id).await;
    assert_eq!(
        fields(&payment, ["status", "amount_refunded", "amount_refund_claimed"]),
        [json!("captured"), json!(0), json!(3000)]
    );
    test.pump("payment").await;
    test.ask_payment(&payment_id, "refunds", json!({ "amount": 1000 })).await.expect(201);
    // Everything that is left.
    test.ask_payment(&payment_id, "refunds", json!({})).await.expect(201);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [10_000, 10_000, 3]);
    let page = test.api.get(&format!("/v1/payments/{payment_id}/refunds")).await.expect(200);
    let mut refunds = page["data"].as_array().unwrap().clone();
    assert_eq!(refunds.iter().map(|r| r["amount"].as_i64().unwrap()).collect::<Vec<_>>(), [6000, 1000, 3000]);
    assert!(refunds.iter().all(|refund| refund["status"] == "succeeded"));
    let order = test.api.order(&id(&order)).await;
    refunds.reverse();
    assert_eq!((&order["refunds"], &order["payment_status"]), (&json!(refunds), &json!("refunded")));
    let more = test.ask_payment(&payment_id, "refunds", json!({ "amount": 1 })).await;
    more.problem(409, "invalid_state_transition");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn wrong_amounts_name_the_field_and_change_nothing() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_card_visa").await;
    let other = test.order_of(&[("a", 1)], "automatic").await;
    let before = test.snapshot().await;
    let (field, together, left) = ("validation_failed", "inconsistent_fields", "line_quantity_unavailable");
    for (body, pointer, code) in [
        (json!({ "amount": 0 }), "/amount", field),
        (json!({ "amount": -6000 }), "/amount", field),
        (json!({ "amount": 1, "lines": units(&order, &[(0, 1)]) }), "/amount", together),
        (json!({ "lines": [] }), "/lines", field),
        (json!({ "lines": units(&order, &[(0, 8)]) }), "/lines/0/quantity", left),
        (json!({ "lines": units(&other, &[(0, 1)]) }), "/lines/0/line_id", left),
        (json!({ "amount": 1, "restock": true }), "/restock", together),
        // Nothing has shipped.
        (json!({ "lines": units(&order, &[(0, 1)]), "restock": true }), "/lines/0/quantity", left),
        (json!({ "amount": 1, "reason": "" }), "/reason", field),
        (json!({ "amount": 1.5 }), "/amount", field),
    ] {
        let answer = test.ask_payment(&payment_id, "refunds", body.clone()).await;
        assert_eq!(wrong(answer, code).0, pointer, "{body}");
    }
    let much = test.ask_payment(&payment_id, "refunds", json!({ "amount": 10_001 })).await;
    assert_eq!(much.problem(409, "refund_exceeds_captured")["refundable"], 10_000);
    let unknown = holdfast::domain::ids::PaymentId::new().to_string();
    test.ask_payment(&unknown, "refunds", json!({})).await.problem(404, "not_found");
    test.api.get(&format!("/v1/payments/{unknown}/refunds")).await.problem(404, "not_found");
    assert_eq!(test.snapshot().await, before);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn units_are_refunded_for_what_they_cost_and_no_unit_twice() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_card_visa").await;
    let refund = async |lines: &[(usize, i64)], restock: bool| {
        let body = json!({ "lines": units(&order, lines), "restock": restock });
        test.ask_payment(&payment_id, "refunds", body).await
    };
    test.shipped(&order, &[(0, 2)]).await;
    test.shipped(&order, &[(0, 3), (1, 1)]).await;
    test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(1, 1)]) })).await.expect(200);
    assert_eq!(test.levels().await, [(5, 0, 2), (9, 0, 1)]);
    let made = refund(&[(0, 3), (1, 1)], true).await.expect(201);
    assert_eq!((&made["amount"], &made["lines"]), (&json!(4000), &units(&order, &[(0, 3), (1, 1)])));
    // Two came with the first shipment, one with the second.
    assert_eq!(test.levels().await, [(8, 0, 2), (10, 0, 1)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(now["shipments"][0]["status"], "returned");
    assert_eq!(now["shipments"][1]["lines"][0]["quantity_returned"], 1);
    assert_eq!(
        (of_lines(&now, "quantity_refunded"), of_lines(&now, "quantity_returned")),
        (vec![3, 1], vec![3, 1])
    );
    // Three, less one canceled, less one refunded.
    assert!(
        wrong(refund(&[(1, 2)], false).await, "line_quantity_unavailable").1.starts_with("must be 1 to 1")
    );
    assert!(
        wrong(refund(&[(0, 3)], true).await, "line_quantity_unavailable").1.starts_with("must be 1 to 2")
    );
    refund(&[(1, 1)], false).await.expect(201);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [10_000, 6000, 3]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_refused_refund_fails_and_gives_its_claim_back() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_sandbox_refund_refused").await;
    let body = json!({ "lines": units(&order, &[(0, 7)]) });
    let refund = test.ask_payment(&payment_id, "refunds", body.clone()).await.expect(201);
    test.pump("payment").await;
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&now["refunds"][0], ["id", "status", "failure_code"]),
        [refund["id"].clone(), json!("failed"), json!("refund_disputed_payment")]
    );
    assert_eq!(of_lines(&now, "quantity_refunded"), [0, 0]);
    let payment = test.payment(&payment_id).await;
    assert_eq!(
        fields(&payment, ["status", "amount_refund_claimed", "amount_refunded"]),
        [json!("captured"), json!(0), json!(0)]
    );
    assert!(test.events(&order).await.contains(&"refund.failed.v1".into()));
    test.ask_payment(&payment_id, "refunds", body).await.expect(201);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_refund_without_an_answer_stays_pending_until_it_is_looked_up() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_sandbox_error_after_refund").await;
    for amount in [1000, 1000] {
        test.ask_payment(&payment_id, "refunds", json!({ "amount": amount })).await.expect(201);
    }
    let first = test.api.order(&id(&order)).await["refunds"][0]["id"].as_str().unwrap().to_owned();
    test.app.carry_out_refund(&new_event(), first.parse().unwrap()).await.unwrap_err();
    let now = test.api.order(&id(&order)).await;
    assert_eq!(now["refunds"][0]["status"], "pending");
    assert!(now["refunds"][0]["outcome_unknown_since"].is_string());
    assert_eq!(test.money(&payment_id).await, [10_000, 1000, 1]);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [10_000, 2000, 2]);
    let now = test.api.order(&id(&order)).await;
    for refund in now["refunds"].as_array().unwrap() {
        assert_eq!(fields(refund, ["status", "outcome_unknown_since"]), [json!("succeeded"), Value::Null]);
    }
    assert_eq!(now["payments"][0]["amount_refunded"], 2000);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn refunds_at_once_are_each_sent_once_and_no_answer_sets_the_total_back() {
    let test = shop().await;
    let (order, payment_id) = captured(&test, "pm_card_visa").await;
    for amount in [1000, 2000, 3000] {
        test.ask_payment(&payment_id, "refunds", json!({ "amount": amount })).await.expect(201);
    }
    let refunds = test.api.order(&id(&order)).await["refunds"].as_array().unwrap().clone();
    let carry_out = async |refund: &Value| {
        let handling = new_event();
        let refund_id = refund["id"].as_str().unwrap().parse().unwrap();
        // As the bus does: again, while the provider says that it is busy with the same refund.
        while let Err(error) = test.app.carry_out_refund(&handling, refund_id).await {
            assert!(error.is_transient(), "{error}");
        }
    };
    join_all(refunds.iter().cycle().take(12).map(carry_out)).await;
    assert_eq!(test.money(&payment_id).await, [10_000, 6000, 3]);
    let payment = test.payment(&payment_id).await;
    assert_eq!(
        fields(&payment, ["status", "amount_refunded", "amount_refund_claimed"]),
        [json!("partially_refunded"), json!(6000), json!(6000)]
    );
    test.settle_and_finish().await;
}
