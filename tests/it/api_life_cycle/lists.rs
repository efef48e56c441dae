//! Lists of orders, payments, refunds and shipments: filters and pages. What holds for every list is in `api_input::lists`.

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

    /// The same list, page by page of one.
    async fn paged(&self, path: &str) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().map(|last| format!("&starting_after={last}")).unwrap_or_default();
            let page = self.api.get(&format!("{path}?limit=1{after}")).await.expect(200);
            assert_eq!(ids(&page).len(), 1, "{page}");
            seen.extend(ids(&page));
            if page["has_more"] == false {
                return seen;
            }
        }
    }

    /// An order with three payments, two of them declined, three shipments and three refunds, each the newest first. The last
    /// refund is pending, until the next order is paid.
    async fn order_of_threes(&self) -> (String, [Vec<Value>; 3]) {
        let order = self.order_of(&[("a", 3)], "automatic").await;
        for token in ["pm_card_visa_chargeDeclined", "pm_card_visa_chargeDeclined", "pm_card_visa"] {
            self.paying(&id(&order), token).await;
            self.pump("payment").await;
        }
        let order = self.api.order(&id(&order)).await;
        let payment_id = id(&order["payments"][2]);
        for amount in [100, 200, 300] {
            self.shipping(&order, &[(0, 1)]).await;
            self.ask_payment(&payment_id, "refunds", json!({ "amount": amount })).await.expect(201);
            if amount == 200 {
                self.pump("payment").await;
            }
        }
        let order = self.api.order(&id(&order)).await;
        let newest = |name: &str| order[name].as_array().unwrap().iter().rev().cloned().collect();
        (id(&order), ["payments", "refunds", "shipments"].map(newest))
    }
}

fn ids_of(things: &[Value]) -> Vec<String> {
    things.iter().map(id).collect()
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

#[tokio::test]
async fn what_belongs_to_one_order_or_payment_is_listed_in_pages_and_by_status() {
    let test = shop().await;
    let (order_id, [payments, refunds, shipments]) = test.order_of_threes().await;
    let (other_id, [other_payments, ..]) = test.order_of_threes().await;
    let (of_payment, other_payment) = (id(&payments[0]), id(&other_payments[0]));
    let (payments, refunds, shipments) = (ids_of(&payments), ids_of(&refunds), ids_of(&shipments));
    for (path, other, things, (status, of_status)) in [
        (
            format!("/v1/orders/{order_id}/payments"),
            format!("/v1/orders/{other_id}/payments"),
            &payments,
            ("failed", &payments[1..]),
        ),
        (
            format!("/v1/orders/{order_id}/shipments"),
            format!("/v1/orders/{other_id}/shipments"),
            &shipments,
            ("pending", &shipments[..]),
        ),
        (
            format!("/v1/payments/{of_payment}/refunds"),
            format!("/v1/payments/{other_payment}/refunds"),
            &refunds,
            ("pending", &refunds[..0]),
        ),
    ] {
        assert_eq!(things.len(), 3, "{path}");
        assert_eq!((&test.listed(&path).await, &test.paged(&path).await), (things, things), "{path}");
        assert_eq!(test.listed(&format!("{path}?status={status}")).await, of_status, "{path}");
        assert_eq!(test.listed(&format!("{path}?starting_after={}", things[1])).await, things[2..], "{path}");
        // A place in the list of another order is a place in time: nothing of that order is shown.
        let last = test.listed(&other).await.remove(0);
        assert_eq!(&test.listed(&format!("{path}?starting_after={last}")).await, things, "{path}");
    }
    for path in [format!("/v1/orders/{order_id}/shipments?status=gone"), "/v1/refunds?status=gone".into()] {
        assert_eq!(wrong(test.api.get(&path).await, "validation_failed").0, "?status", "{path}");
    }
    test.settle_and_finish().await;
}

#[tokio::test]
async fn refunds_are_listed_newest_first_in_pages_and_by_filter() {
    let test = shop().await;
    let (first_order, [first_payments, first, _]) = test.order_of_threes().await;
    let (second_order, [_, second, _]) = test.order_of_threes().await;
    let (first, second) = (ids_of(&first), ids_of(&second));
    let all: Vec<String> = second.iter().chain(&first).cloned().collect();
    assert_eq!((&test.listed("/v1/refunds").await, &test.paged("/v1/refunds").await), (&all, &all));
    let payment = id(&first_payments[0]);
    let (declined, other) = (id(&first_payments[1]), format!("payment_id={payment}&order_id={second_order}"));
    for (query, expected) in [
        (format!("order_id={first_order}"), first.clone()),
        (format!("order_id={second_order}"), second.clone()),
        (format!("payment_id={payment}"), first.clone()),
        (format!("payment_id={payment}&order_id={first_order}"), first.clone()),
        (format!("payment_id={declined}"), Vec::new()),
        (other, Vec::new()),
        ("status=pending".into(), vec![second[0].clone()]),
        ("status=succeeded&limit=2".into(), second[1..].to_vec()),
        ("status=failed".into(), Vec::new()),
        (format!("status=succeeded&order_id={first_order}"), first.clone()),
    ] {
        assert_eq!(test.listed(&format!("/v1/refunds?{query}")).await, expected, "{query}");
    }
    test.settle_and_finish().await;
}

#[tokio::test]
async fn payments_refunds_and_shipments_are_found_by_time() {
    let test = shop().await;
    let (_, lists) = test.order_of_threes().await;
    for (path, things) in ["/v1/payments", "/v1/refunds", "/v1/shipments"].into_iter().zip(lists) {
        let ids = ids_of(&things);
        let time = |n: usize| things[n]["created_at"].as_str().unwrap();
        let (middle, newest) = (time(1), time(0));
        for (query, expected) in [
            (format!("created_gte={middle}"), &ids[..2]),
            (format!("created_lt={middle}"), &ids[2..]),
            (format!("created_gte={middle}&created_lt={newest}"), &ids[1..2]),
            ("created_gte=2020-01-01T00:00:00Z".into(), &ids[..]),
            ("created_lt=2020-01-01T00:00:00Z".into(), &[]),
        ] {
            assert_eq!(test.listed(&format!("{path}?{query}")).await, expected, "{path}?{query}");
        }
        for query in ["created_gte=yesterday", "created_lt=2026-01-01"] {
            let pointer = format!("?{}", query.split('=').next().unwrap());
            let answer = test.api.get(&format!("{path}?{query}")).await;
            assert_eq!(wrong(answer, "validation_failed").0, pointer, "{path}?{query}");
        }
    }
    test.settle_and_finish().await;
}
