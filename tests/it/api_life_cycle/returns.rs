//! Returns: units that come back, in parts, onto the shelf or not, and what does not follow by itself.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{fields, of_lines, shop, units, wrong};
use crate::support::api::id;

#[tokio::test]
async fn units_come_back_in_parts_until_all_are_back() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 3), ("b", 1)], "automatic").await;
    let shipment = test.shipped(&order, &[(0, 3), (1, 1)]).await;
    let give = async |lines: &[(usize, i64)], restock: bool| {
        let body = json!({ "lines": units(&order, lines), "restock": restock, "reason": "too small" });
        test.ask_shipment(&shipment, "return", body).await
    };
    assert_eq!(test.levels().await, [(7, 0, 0), (9, 0, 0)]);
    let part = give(&[(0, 1)], true).await.expect(200);
    assert_eq!((&part["status"], &part["lines"][0]["quantity_returned"]), (&json!("shipped"), &json!(1)));
    assert_eq!(test.levels().await, [(8, 0, 0), (9, 0, 0)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&now, ["status", "return_status", "payment_status"]),
        [json!("fulfilled"), json!("partially_returned"), json!("paid")]
    );
    test.ask_shipment(&shipment, "deliver", json!({})).await.expect(200);
    give(&[(0, 1)], false).await.expect(200);
    assert_eq!(test.levels().await, [(8, 0, 0), (9, 0, 0)]);
    let (pointer, detail) = wrong(give(&[(0, 2)], true).await, "line_quantity_unavailable");
    assert!(pointer == "/lines/0/quantity" && detail.starts_with("must be 1 to 1"), "{pointer} {detail}");
    let all = json!({ "restock": true, "reason": "refused at the door" });
    let last = test.ask_shipment(&shipment, "return", all.clone()).await.expect(200);
    assert_eq!(last["status"], "returned");
    assert_eq!(test.levels().await, [(9, 0, 0), (10, 0, 0)]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        (&now["return_status"], of_lines(&now, "quantity_returned")),
        (&json!("returned"), vec![3, 1])
    );
    test.ask_shipment(&shipment, "return", all).await.problem(409, "invalid_state_transition");
    let movements = "SELECT count(*) FROM stock_movement WHERE type = 'return' AND delta_on_hand = 1
                     AND reference LIKE 'shp_%' AND reason IN ('too small', 'refused at the door')";
    assert_eq!(test.count(movements).await, 3);
    assert_eq!(test.events(&order).await.iter().filter(|event| *event == "shipment.returned.v1").count(), 3);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [4000, 0, 0]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn wrong_requests_name_the_field_and_change_nothing() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 2), ("b", 1)], "automatic").await;
    let shipment = test.shipped(&order, &[(0, 2)]).await;
    let before = test.snapshot().await;
    let back = |lines: Value| json!({ "restock": true, "reason": "x", "lines": lines });
    let (field, left) = ("validation_failed", "line_quantity_unavailable");
    for (body, pointer, code) in [
        (json!({ "reason": "x" }), "/restock", field),
        (json!({ "restock": true }), "/reason", field),
        (json!({ "restock": true, "reason": "" }), "/reason", field),
        (back(json!([])), "/lines", field),
        // Not in this shipment.
        (back(units(&order, &[(1, 1)])), "/lines/0/line_id", left),
        (back(units(&order, &[(0, 3)])), "/lines/0/quantity", left),
        (back(units(&order, &[(0, 1), (0, 1)])), "/lines/1/line_id", "inconsistent_fields"),
    ] {
        let answer = test.ask_shipment(&shipment, "return", body.clone()).await;
        assert_eq!(wrong(answer, code).0, pointer, "{body}");
    }
    assert_eq!(test.snapshot().await, before);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn returns_at_once_count_each_unit_once() {
    let mut test = shop().await;
    let other = test.another_api().await;
    let (order, _) = test.paid(&[("a", 3)], "automatic").await;
    let shipment = test.shipped(&order, &[(0, 3)]).await;
    let path = format!("/v1/shipments/{}/return", id(&shipment));
    let body = json!({ "lines": units(&order, &[(0, 2)]), "restock": true, "reason": "x" });
    let apis = [&test.api, &other];
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&path, &body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(test.api.level("a").await, (9, 0, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_line_in_two_shipments_comes_back_by_the_shipment_it_left_with() {
    let test = shop().await;
    let (order, _) = test.paid(&[("a", 3)], "automatic").await;
    let first = test.shipped(&order, &[(0, 1)]).await;
    let second = test.shipped(&order, &[(0, 2)]).await;
    let body = |quantity| json!({ "lines": units(&order, &[(0, quantity)]), "restock": true, "reason": "x" });
    assert_eq!(
        wrong(test.ask_shipment(&first, "return", body(2)).await, "line_quantity_unavailable").0,
        "/lines/0/quantity"
    );
    assert_eq!(test.ask_shipment(&first, "return", body(1)).await.expect(200)["status"], "returned");
    assert_eq!(test.ask_shipment(&second, "return", body(2)).await.expect(200)["status"], "returned");
    assert_eq!(test.api.level("a").await, (10, 0, 0));
    test.settle_and_finish().await;
}
