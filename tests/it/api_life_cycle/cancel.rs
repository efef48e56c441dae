//! Canceling orders and units of lines: what becomes of the stock, of shipments and of the order.

use futures_util::future::join_all;
use serde_json::json;

use super::{fields, of_lines, shop, units, wrong};
use crate::support::{api::id, app::TestApp};

#[tokio::test]
async fn units_are_canceled_in_parts_until_none_is_left() {
    let test = shop().await;
    let order = test.order_of(&[("a", 4), ("b", 2)], "automatic").await;
    let cut = async |lines: &[(usize, i64)]| {
        test.ask_order(&order, "cancel", json!({ "lines": units(&order, lines) })).await
    };
    let after = cut(&[(0, 3)]).await.expect(200);
    assert_eq!(
        fields(&after, ["status", "amount_canceled", "amount_due", "total_amount"]),
        [json!("pending_payment"), json!(3000), json!(3000), json!(6000)]
    );
    assert_eq!(of_lines(&after, "quantity_canceled"), [3, 0]);
    assert_eq!(test.levels().await, [(10, 1, 0), (10, 2, 0)]);
    assert_eq!(wrong(cut(&[(1, 1), (0, 2)]).await, "line_quantity_unavailable").0, "/lines/1/quantity");
    let (pointer, detail) = wrong(cut(&[(1, 3)]).await, "line_quantity_unavailable");
    assert!(pointer == "/lines/0/quantity" && detail.starts_with("must be 1 to 2"), "{pointer} {detail}");
    cut(&[(0, 1), (1, 1)]).await.expect(200);
    assert!(wrong(cut(&[(0, 1)]).await, "line_quantity_unavailable").1.contains("this one has 0"));
    assert_eq!(test.levels().await, [(10, 0, 0), (10, 1, 0)]);
    let last = cut(&[(1, 1)]).await.expect(200);
    assert_eq!(fields(&last, ["status", "amount_due"]), [json!("canceled"), json!(0)]);
    assert_eq!(test.levels().await, [(10, 0, 0), (10, 0, 0)]);
    let refused = cut(&[(1, 1)]).await.problem(409, "invalid_state_transition");
    assert_eq!(fields(&refused, ["current_status", "allowed"]), [json!("canceled"), json!([])]);
    let expected =
        ["order.created.v1", "order.lines_canceled.v1", "order.lines_canceled.v1", "order.canceled.v1"];
    assert_eq!(test.events(&order).await, expected);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn wrong_requests_name_the_field_and_change_nothing() {
    let test = shop().await;
    let order = test.order_of(&[("a", 2), ("b", 1)], "automatic").await;
    let other = test.order_of(&[("a", 1)], "automatic").await;
    let before = test.snapshot().await;
    let one = units(&order, &[(0, 1)]);
    for (body, pointer, code) in [
        (json!({ "lines": units(&order, &[(0, 1), (0, 1)]) }), "/lines/1/line_id", "inconsistent_fields"),
        (json!({ "lines": units(&other, &[(0, 1)]) }), "/lines/0/line_id", "line_quantity_unavailable"),
    ] {
        let answer = test.ask_order(&order, "cancel", body.clone()).await;
        assert_eq!(wrong(answer, code).0, pointer, "{body}");
    }
    for (body, pointer) in [
        (json!({ "lines": [] }), "/lines"),
        (json!({ "lines": units(&order, &[(0, 0)]) }), "/lines/0/quantity"),
        (json!({ "lines": units(&order, &[(0, -1)]) }), "/lines/0/quantity"),
        (json!({ "lines": [{ "line_id": "x", "quantity": 1 }] }), "/lines/0/line_id"),
        (json!({ "lines": one, "refund": "maybe" }), "/refund"),
        (json!({ "lines": one, "restock": 1 }), "/restock"),
        (json!({ "lines": one, "reason": "" }), "/reason"),
        (json!({ "line": one }), "/line"),
    ] {
        let answer = test.ask_order(&order, "cancel", body.clone()).await;
        assert_eq!(wrong(answer, "validation_failed").0, pointer, "{body}");
    }
    assert_eq!(test.snapshot().await, before);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn what_would_be_left_for_nothing_has_to_be_canceled_whole() {
    let test = shop().await;
    let lines = [("a", 1000), ("b", 0)]
        .map(|(sku, amount)| json!({ "sku": sku, "quantity": 1, "unit_amount": amount }));
    let body = json!({ "currency": "USD", "lines": lines });
    let order = test.api.post("/v1/orders", &body).await.expect(201);
    let cut = async |n| test.ask_order(&order, "cancel", json!({ "lines": units(&order, &[(n, 1)]) })).await;
    let (pointer, detail) = wrong(cut(0).await, "nothing_left_to_pay");
    assert!(pointer == "/lines" && detail.contains("whole order"), "{detail}");
    let after = cut(1).await.expect(200);
    assert_eq!(fields(&after, ["status", "amount_due"]), [json!("pending_payment"), json!(1000)]);
    assert_eq!(cut(0).await.expect(200)["status"], "canceled");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn units_that_cannot_be_sold_again_leave_the_shelf_with_a_reason() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 4)], "automatic").await;
    let body =
        json!({ "lines": units(&order, &[(0, 1)]), "restock": false, "reason": "broken", "refund": "none" });
    test.ask_order(&order, "cancel", body).await.expect(200);
    assert_eq!(test.api.level("a").await, (9, 0, 3));
    let movement = "SELECT count(*) FROM stock_movement WHERE type = 'adjust' AND delta_on_hand = -1
                    AND on_hand_after = 9 AND reason = 'broken' AND reference LIKE 'ord_%' AND actor LIKE 'key_%'";
    assert_eq!(test.count(movement).await, 1);
    test.ask_order(&order, "cancel", json!({ "restock": false })).await.expect(200);
    assert_eq!(test.api.level("a").await, (6, 0, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn units_that_are_not_in_the_building_cannot_leave_it() {
    let test = shop().await;
    let level = json!({ "on_hand": 1, "backorder_limit": 5 });
    test.api.put("/v1/inventory/late/main", &level).await.expect(200);
    let (order, _) = test.paid(&[("late", 3)], "automatic").await;
    let before = test.snapshot().await;
    let gone = test.ask_order(&order, "cancel", json!({ "restock": false })).await;
    let refused = gone.problem(409, "insufficient_stock");
    assert_eq!(
        refused["items"][0],
        json!({ "sku": "late", "location_id": "main", "requested": 3, "available": 1 })
    );
    assert_eq!(test.snapshot().await, before);
    let shipment = test.ask_order(&order, "shipments", json!({})).await.expect(201);
    test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
    test.ask_shipment(&shipment, "ship", json!({})).await.problem(409, "insufficient_stock");
    test.stock("late", 3).await;
    test.ask_shipment(&shipment, "ship", json!({})).await.expect(200);
    assert_eq!(test.api.level("late").await, (0, 0, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_pending_shipment_loses_what_is_canceled_and_a_packed_one_keeps_it() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 5), ("b", 2)], "automatic").await;
    let pending = test.shipping(&order, &[(0, 3), (1, 1)]).await;
    let packed = test.shipping(&order, &[(0, 1)]).await;
    test.ask_shipment(&packed, "pack", json!({})).await.expect(200);
    let cut = async |lines: &[(usize, i64)]| {
        test.ask_order(&order, "cancel", json!({ "lines": units(&order, lines) })).await
    };
    // Four of five: one is packed. What is in no shipment goes first.
    let (_, detail) = wrong(cut(&[(0, 5)]).await, "line_quantity_unavailable");
    assert!(detail.starts_with("must be 1 to 4"), "{detail}");
    cut(&[(0, 2)]).await.expect(200);
    let shipments = async || test.api.order(&id(&order)).await["shipments"].clone();
    let held = shipments().await;
    assert_eq!(
        fields(&held[0]["lines"][0], ["order_line_id", "quantity"]),
        [json!(super::line(&order, 0)), json!(2)]
    );
    cut(&[(0, 2)]).await.expect(200);
    let held = shipments().await;
    assert_eq!((held[0]["lines"].as_array().unwrap().len(), &held[0]["status"]), (1, &json!("pending")));
    assert_eq!(test.levels().await, [(10, 0, 1), (10, 0, 2)]);
    cut(&[(1, 2)]).await.expect(200);
    let held = shipments().await;
    assert_eq!((&held[0]["status"], &held[1]["status"]), (&json!("canceled"), &json!("packed")));
    assert!(wrong(cut(&[(0, 1)]).await, "line_quantity_unavailable").1.contains("this one has 0"));
    test.ask_shipment(&pending, "pack", json!({})).await.problem(409, "invalid_state_transition");
    test.ask_shipment(&packed, "ship", json!({})).await.expect(200);
    assert_eq!(test.api.order(&id(&order)).await["status"], "fulfilled");
    assert_eq!(test.levels().await, [(9, 0, 0), (10, 0, 0)]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn canceling_the_rest_of_an_order_that_has_shipped_completes_it() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 3)], "automatic").await;
    test.shipped(&order, &[(0, 1)]).await;
    let refused = test.ask_order(&order, "cancel", json!({})).await.problem(409, "invalid_state_transition");
    assert_eq!(
        fields(&refused, ["current_status", "allowed"]),
        [json!("partially_fulfilled"), json!(["fulfilled"])]
    );
    let rest = json!({ "lines": units(&order, &[(0, 2)]) });
    let after = test.ask_order(&order, "cancel", rest.clone()).await.expect(200);
    assert_eq!(
        fields(&after, ["status", "fulfillment_status", "amount_due"]),
        [json!("fulfilled"), json!("fulfilled"), json!(1000)]
    );
    assert_eq!(test.api.level("a").await, (9, 0, 0));
    test.ask_order(&order, "cancel", rest).await.problem(409, "invalid_state_transition");
    let events = test.events(&order).await;
    assert!(
        events.ends_with(&[
            "order.lines_canceled.v1".into(),
            "order.fulfilled.v1".into(),
            "refund.created.v1".into()
        ]),
        "{events:?}"
    );
    test.settle_and_finish().await;
}

#[tokio::test]
async fn requests_at_once_release_each_unit_once() {
    let mut test = shop().await;
    let other = test.another_api().await;
    let order = test.order_of(&[("a", 5)], "automatic").await;
    let path = format!("/v1/orders/{}/cancel", id(&order));
    let body = json!({ "lines": units(&order, &[(0, 2)]) });
    let apis = [&test.api, &other];
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&path, &body))).await;
    let done = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers.iter().filter(|answer| answer.status == 422).count();
    assert_eq!((done, refused), (2, 4), "{answers:?}");
    assert_eq!(test.api.level("a").await, (10, 1, 0));
    let whole = json!({});
    let same = join_all((0..6).map(|n| apis[n % 2].post_until_answered("k", &path, &whole))).await;
    assert!(same.iter().all(|answer| answer.status == 200 && answer.text == same[0].text));
    assert_eq!(same.iter().filter(|answer| !answer.replayed()).count(), 1);
    assert_eq!(test.api.level("a").await, (10, 0, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn an_undecided_payment_keeps_every_unit() {
    let test: TestApp = shop().await;
    let order = test.order_of(&[("a", 2)], "automatic").await;
    test.paying(&id(&order), "pm_sandbox_requires_action").await;
    let part = json!({ "lines": units(&order, &[(0, 1)]) });
    test.ask_order(&order, "cancel", part.clone()).await.problem(409, "payment_in_progress");
    test.pump("payment").await;
    test.ask_order(&order, "cancel", part).await.problem(409, "payment_in_progress");
    test.ask_order(&order, "cancel", json!({})).await.problem(409, "payment_in_progress");
    assert_eq!(test.api.level("a").await, (10, 2, 0));
    test.settle_and_finish().await;
}
