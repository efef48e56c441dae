//! Lists of orders, payments and shipments: filters, pages, and plans that do not read whole tables.

use serde_json::{Value, json};

use super::{fields, shop, wrong};
use crate::support::{api::id, app::TestApp};

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(id).collect()
}

impl TestApp {
    async fn listed(&self, query: &str) -> Vec<String> {
        ids(&self.api.get(query).await.expect(200))
    }
}

#[tokio::test]
async fn orders_are_found_by_sku_and_time() {
    let test = shop().await;
    let mut placed = Vec::new();
    for sku in ["a", "b", "a"] {
        placed.push(test.order_of(&[(sku, 1), ("c", 1)], "automatic").await);
    }
    let [first, second, third] = [0, 1, 2].map(|n| id(&placed[n]));
    let created = |n: usize| placed[n]["created_at"].as_str().unwrap().to_owned();
    let window = "created_gte=2026-01-01T00:00:00Z&created_lt=2026-01-31T00:00:00Z";
    assert_eq!(test.listed(&format!("/v1/orders?sku=a&{window}")).await, Vec::<String>::new());
    let window = {
        let from =
            placed[0]["created_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let day = chrono::TimeDelta::days(1);
        format!("created_gte={}&created_lt={}", (from - day).to_rfc3339(), (from + day).to_rfc3339())
    };
    assert_eq!(test.listed(&format!("/v1/orders?sku=a&{window}")).await, [third.as_str(), first.as_str()]);
    assert_eq!(test.listed(&format!("/v1/orders?sku=c&{window}&limit=1")).await, [third.as_str()]);
    assert_eq!(test.listed(&format!("/v1/orders?sku=x&{window}")).await, Vec::<String>::new());
    let (from, to) = (created(1), created(2));
    assert_eq!(
        test.listed(&format!("/v1/orders?created_gte={from}")).await,
        [third.as_str(), second.as_str()]
    );
    assert_eq!(test.listed(&format!("/v1/orders?created_lt={to}")).await, [second.as_str(), first.as_str()]);
    assert_eq!(
        test.listed(&format!("/v1/orders?created_gte={from}&created_lt={to}")).await,
        [second.as_str()]
    );
    for (query, pointer) in [
        ("sku=a", "?created_gte"),
        ("sku=a&created_gte=2026-01-01T00:00:00Z", "?created_lt"),
        ("sku=a&created_gte=2026-01-01T00:00:00Z&created_lt=2026-02-02T00:00:00Z", "?created_lt"),
    ] {
        let answer = test.api.get(&format!("/v1/orders?{query}")).await;
        assert_eq!(wrong(answer, "inconsistent_fields").0, pointer, "{query}");
    }
    for (query, pointer) in [
        ("created_gte=yesterday", "?created_gte"),
        ("created_lt=2026-01-01", "?created_lt"),
        ("sku=a%20b", "?sku"),
        ("status=paid", "?status"),
    ] {
        let answer = test.api.get(&format!("/v1/orders?{query}")).await;
        assert_eq!(wrong(answer, "validation_failed").0, pointer, "{query}");
    }
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_list_shows_what_became_of_each_order() {
    let test = shop().await;
    let (paid, payment_id) = test.paid(&[("a", 2)], "automatic").await;
    test.shipped(&paid, &[(0, 1)]).await;
    let waiting = test.order_of(&[("b", 1)], "automatic").await;
    test.paying(&id(&waiting), "pm_card_visa").await;
    let unpaid = test.order_of(&[("b", 1)], "automatic").await;
    // The answer that tells of the placing has nothing to tell yet.
    assert_eq!(fields(&unpaid, ["payment_status", "amount_due"]), [Value::Null, Value::Null]);
    let page = test.api.get("/v1/orders").await.expect(200);
    let names = ["payment_status", "fulfillment_status", "return_status", "amount_due"];
    let shown: Vec<_> = page["data"].as_array().unwrap().iter().map(|order| fields(order, names)).collect();
    assert_eq!(
        shown,
        [
            [json!("unpaid"), json!("unfulfilled"), json!("none"), json!(1000)],
            [json!("pending"), json!("unfulfilled"), json!("none"), json!(1000)],
            [json!("paid"), json!("partially_fulfilled"), json!("none"), json!(2000)],
        ]
    );
    assert_eq!(test.payment(&payment_id).await["status"], "captured");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn payments_and_shipments_are_listed_newest_first_in_pages_and_by_filter() {
    let test = shop().await;
    let (mut payments, mut shipments) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let (order, payment_id) = test.paid(&[("a", 2)], if n == 1 { "manual" } else { "automatic" }).await;
        let shipment = test.shipping(&order, &[(0, 2)]).await;
        if n == 2 {
            test.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
        }
        payments.insert(0, (payment_id, id(&order)));
        shipments.insert(0, id(&shipment));
    }
    let payment_ids: Vec<String> = payments.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(test.listed("/v1/payments").await, payment_ids);
    assert_eq!(test.listed("/v1/payments?status=authorized").await, [payment_ids[1].as_str()]);
    assert_eq!(test.listed("/v1/payments?status=captured&limit=1").await, [payment_ids[0].as_str()]);
    assert_eq!(
        test.listed(&format!("/v1/payments?order_id={}", payments[2].1)).await,
        [payment_ids[2].as_str()]
    );
    let after = format!("/v1/payments?starting_after={}&limit=1", payment_ids[0]);
    let page = test.api.get(&after).await.expect(200);
    assert_eq!((ids(&page), &page["has_more"]), (vec![payment_ids[1].clone()], &json!(true)));

    assert_eq!(test.listed("/v1/shipments").await, shipments);
    assert_eq!(test.listed("/v1/shipments?status=packed").await, [shipments[0].as_str()]);
    assert_eq!(test.listed("/v1/shipments?status=pending&location_id=main").await, shipments[1..]);
    assert_eq!(test.listed("/v1/shipments?location_id=north").await, Vec::<String>::new());
    assert_eq!(
        test.listed(&format!("/v1/shipments?order_id={}", payments[0].1)).await,
        [shipments[0].as_str()]
    );
    let after = format!("/v1/shipments?starting_after={}", shipments[0]);
    assert_eq!(test.listed(&after).await, shipments[1..]);
    for query in ["/v1/payments?status=paid", "/v1/shipments?status=gone", "/v1/shipments?location_id=a%20b"]
    {
        test.api.get(query).await.problem(422, "validation_failed");
    }
    test.api.get("/v1/payments?sku=a").await.problem(422, "validation_failed");
    test.settle_and_finish().await;
}
