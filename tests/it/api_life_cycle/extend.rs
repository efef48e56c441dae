//! Extending the time to pay: bounded in length and in number.

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

use super::{fields, shop, wrong};
use crate::support::api::{id, order};

fn time(value: &Value) -> DateTime<chrono::Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_order_gets_more_time_three_times() {
    let test = shop().await;
    let placed = test.api.post("/v1/orders", &order(&[("a", 1)])).await.expect(201);
    let mut expected = time(&placed["expires_at"]);
    for n in 1..=3 {
        let longer =
            test.ask_order(&placed, "reservation/extend", json!({ "seconds": 60 })).await.expect(200);
        expected += TimeDelta::seconds(60);
        assert_eq!((time(&longer["expires_at"]), &longer["extensions"]), (expected, &json!(n)));
        assert_eq!(longer["status"], "pending_payment");
    }
    let refused = test.ask_order(&placed, "reservation/extend", json!({ "seconds": 1 })).await;
    let refused = refused.problem(409, "extension_limit_reached");
    assert_eq!(fields(&refused, ["extensions", "max_extensions"]), [json!(3), json!(3)]);
    let held = "SELECT count(*) FROM reservation r JOIN orders o ON o.id = r.order_id
                WHERE r.status = 'held' AND r.expires_at = o.expires_at";
    assert_eq!(test.count(held).await, 1);
    assert_eq!(
        test.events(&placed).await,
        ["order.created.v1", "order.extended.v1", "order.extended.v1", "order.extended.v1"]
    );
    test.settle_and_finish().await;
}

#[tokio::test]
async fn no_order_is_held_for_longer_than_the_longest_time() {
    let test = shop().await;
    let mut body = order(&[("a", 1)]);
    body["reservation_ttl_seconds"] = json!(86_400 - 100);
    let placed = test.api.post("/v1/orders", &body).await.expect(201);
    let extend = async |seconds: i64| {
        test.ask_order(&placed, "reservation/extend", json!({ "seconds": seconds })).await
    };
    let before = test.snapshot().await;
    for seconds in [101, 86_400] {
        let (pointer, detail) = wrong(extend(seconds).await, "extension_too_long");
        assert!(pointer == "/seconds" && detail.starts_with("must be 1 to 100"), "{pointer} {detail}");
    }
    for body in [json!({}), json!({ "seconds": 0 }), json!({ "seconds": -5 }), json!({ "seconds": 86_401 })] {
        let answer = test.ask_order(&placed, "reservation/extend", body).await;
        assert_eq!(wrong(answer, "validation_failed").0, "/seconds");
    }
    assert_eq!(test.snapshot().await, before);
    extend(100).await.expect(200);
    assert!(wrong(extend(1).await, "extension_too_long").1.contains("as long as an order may be held"));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn an_overdue_order_gets_no_more_time_and_an_extended_one_does_not_expire() {
    let test = shop().await;
    let late = test.api.post("/v1/orders", &order(&[("a", 1)])).await.expect(201);
    test.run_out(&id(&late), 1.0).await;
    let refused = test.ask_order(&late, "reservation/extend", json!({ "seconds": 60 })).await;
    refused.problem(409, "reservation_expired");

    let mut body = order(&[("b", 1)]);
    body["reservation_ttl_seconds"] = json!(1);
    let short = test.api.post("/v1/orders", &body).await.expect(201);
    test.ask_order(&short, "reservation/extend", json!({ "seconds": 600 })).await.expect(200);
    crate::support::eventually("the first second has passed", crate::support::PATIENCE, async || {
        test.count("SELECT count(*) FROM orders WHERE created_at < clock_timestamp() - interval '1100 ms'")
            .await
            == 2
    })
    .await;
    assert_eq!(test.app.expire_orders(None, 10, &holdfast::app::Cause::default()).await.unwrap(), 1);
    assert_eq!(test.levels().await, [(10, 0, 0), (10, 1, 0)]);
    test.paying(&id(&short), "pm_card_visa").await;
    test.settle_and_finish().await;
}
