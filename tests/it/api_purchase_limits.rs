//! How many units of a SKU one customer may buy, over all its orders, wherever and however they are placed.

use futures_util::future::join_all;
use holdfast::{
    app::ReservationOptions,
    domain::{ids::OrderId, open_orders::OpenOrderCaps},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api_batches::{ONE_LANE, blocked, held, send, waiting},
    support::{
        api::{self, Answer, Api, id, order},
        app::{Setup, TestApp},
    },
};

const LIMITS: &str = "/v1/purchase-limits";

async fn start() -> TestApp {
    let test = TestApp::start().await;
    test.stock("a", 1000).await;
    test
}

async fn limit(test: &TestApp, sku: &str, quantity: i64) {
    test.api.put(&format!("{LIMITS}/{sku}"), &json!({ "quantity": quantity })).await.expect(200);
}

async fn delete(api: &Api, sku: &str) -> Answer {
    api::send(api.request(Method::DELETE, &format!("{LIMITS}/{sku}"))).await
}

fn of(customer: &str, lines: &[(&str, i64)]) -> Value {
    let mut body = order(lines);
    body["customer_id"] = json!(customer);
    body
}

async fn buy(test: &TestApp, customer: &str, lines: &[(&str, i64)]) -> Answer {
    test.api.post("/v1/orders", &of(customer, lines)).await
}

/// What the refusal says: limit, already purchased, requested.
fn exceeded(answer: Answer) -> (String, [i64; 3]) {
    let problem = answer.problem(422, "purchase_limit_exceeded");
    let number = |field: &str| problem[field].as_i64().unwrap();
    let numbers = ["limit", "already_purchased", "requested"].map(number);
    (problem["sku"].as_str().unwrap().to_owned(), numbers)
}

#[tokio::test]
async fn a_limit_is_set_read_listed_and_deleted() {
    let test = start().await;
    for sku in ["b", "a", "c%2Fd"] {
        limit(&test, sku, 3).await;
    }
    let set = test
        .api
        .put(&format!("{LIMITS}/a"), &json!({ "quantity": 5, "window_seconds": 60 }))
        .await
        .expect(200);
    let version = set["version"].clone();
    assert_eq!(set, json!({ "sku": "a", "quantity": 5, "window_seconds": 60, "version": version }));
    assert_eq!(test.api.get(&format!("{LIMITS}/a")).await.expect(200), set);
    // What is absent stays as it is, and null takes the window away.
    for (body, quantity, window) in [
        (json!({ "quantity": 6 }), 6, json!(60)),
        (json!({ "quantity": 7, "window_seconds": null }), 7, Value::Null),
        (json!({ "quantity": 8 }), 8, Value::Null),
    ] {
        let set = test.api.put(&format!("{LIMITS}/a"), &body).await.expect(200);
        assert_eq!((&set["quantity"], &set["window_seconds"]), (&json!(quantity), &window), "{body}");
        assert_eq!(test.api.get(&format!("{LIMITS}/a")).await.expect(200), set);
    }
    let skus = |page: &Value| {
        let limits = page["data"].as_array().unwrap();
        limits.iter().map(|limit| limit["sku"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let page = test.api.get(&format!("{LIMITS}?limit=2")).await.expect(200);
    assert_eq!((skus(&page), &page["has_more"]), (vec!["a".into(), "b".into()], &json!(true)));
    let page = test.api.get(&format!("{LIMITS}?starting_after=b")).await.expect(200);
    assert_eq!((skus(&page), &page["has_more"]), (vec!["c/d".into()], &json!(false)));
    let deleted = delete(&test.api, "a").await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    delete(&test.api, "a").await.problem(404, "not_found");
    test.api.get(&format!("{LIMITS}/a")).await.problem(404, "not_found");
    for (path, body, pointer) in [
        ("a", json!({ "quantity": 0 }), "/quantity"),
        ("a", json!({ "quantity": 1_000_000_001 }), "/quantity"),
        ("a", json!({}), "/quantity"),
        ("a", json!({ "quantity": 1, "window_seconds": 0 }), "/window_seconds"),
        ("a", json!({ "quantity": 1, "window_seconds": 315_360_001 }), "/window_seconds"),
        ("a", json!({ "quantity": 1, "sku": "b" }), "/sku"),
        ("a%20b", json!({ "quantity": 1 }), "{sku}"),
        ("%ff", json!({ "quantity": 1 }), "{sku}"),
    ] {
        let answer = test.api.put(&format!("{LIMITS}/{path}"), &body).await;
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{body}: {}", answer.text);
        answer.problem(422, "validation_failed");
    }
    assert_eq!(test.count("SELECT count(*) FROM purchase_limit").await, 2);
    test.finish().await;
}

/// Asks for something of the limit of SKU `a` with an `If-Match` header.
async fn ask_if(test: &TestApp, method: Method, tag: &str, body: Option<&Value>) -> Answer {
    let request = test.api.request(method, &format!("{LIMITS}/a")).header("If-Match", tag);
    api::send(match body {
        Some(body) => request.json(body),
        None => request,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_set_and_deleted_in_the_version_that_is_meant() {
    let test = start().await;
    let (path, body) = (format!("{LIMITS}/a"), json!({ "quantity": 3 }));
    let put = async |tag: &str| ask_if(&test, Method::PUT, tag, Some(&body)).await;
    let delete = async |tag: &str| ask_if(&test, Method::DELETE, tag, None).await;
    // There is nothing that could have a version; what is not there cannot be deleted anyway.
    assert_eq!(put("*").await.problem(412, "version_conflict")["current_version"], Value::Null);
    delete("*").await.problem(404, "not_found");
    let tag_of = async || test.api.get(&path).await.header("etag").to_owned();
    let first = test.api.put(&path, &body).await.header("etag").to_owned();
    assert_eq!(tag_of().await, first);
    let second = put(&first).await;
    let (tag, version) = (second.header("etag").to_owned(), second.expect(200)["version"].clone());
    assert_eq!((format!("\"{version}\""), tag != first), (tag.clone(), true));
    let before = test.snapshot().await;
    for answer in [put(&first).await, delete(&first).await, delete("W/\"1\"").await] {
        assert_eq!(answer.problem(412, "version_conflict")["current_version"], version);
    }
    for answer in [put("1").await, delete("1").await] {
        answer.problem(400, "if_match_invalid");
    }
    assert_eq!(test.snapshot().await, before);
    // Of many who have seen the same version, one wins.
    let twins = join_all((0..8).map(|_| put(&tag))).await;
    assert_eq!(twins.iter().filter(|answer| answer.status == 200).count(), 1);
    assert!(twins.iter().all(|answer| answer.status == 200 || answer.code() == "version_conflict"));
    // Whoever has seen a limit that was deleted has not seen the one that was made since.
    let deleted = tag_of().await;
    assert_eq!(delete(&deleted).await.status, 204);
    for _ in 0..4 {
        test.api.put(&path, &body).await.expect(200);
        put(&deleted).await.problem(412, "version_conflict");
        delete(&tag_of().await).await;
    }
    test.finish().await;
}

/// Held, paid, canceled, expired: units of orders that live count, and come back when they do not.
#[tokio::test]
async fn what_a_customer_has_counts_over_all_its_orders() {
    let test = start().await;
    test.stock("b", 1000).await;
    limit(&test, "a", 5).await;
    let first = id(&buy(&test, "eve", &[("a", 2), ("b", 9)]).await.expect(201));
    let refused = test.api.post_as("k", "/v1/orders", &of("eve", &[("a", 2), ("b", 1), ("a", 2)])).await;
    assert_eq!(exceeded(refused), ("a".into(), [5, 2, 4]));
    let second = id(&buy(&test, "eve", &[("a", 1), ("a", 2)]).await.expect(201));
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 1)]).await), ("a".into(), [5, 5, 1]));
    assert_eq!((test.api.level("a").await, test.api.level("b").await), ((1000, 5, 0), (1000, 9, 0)));
    // Another customer, and another SKU.
    buy(&test, "adam", &[("a", 5)]).await.expect(201);
    buy(&test, "eve", &[("b", 100)]).await.expect(201);

    test.api.cancel(&first).await.expect(200);
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 3)]).await), ("a".into(), [5, 3, 3]));
    test.run_out(&second, 1.0).await;
    assert_eq!(test.app.expire_orders(None, 10, &holdfast::app::Cause::default()).await.unwrap(), 1);
    // Nothing was kept under the key of what was refused.
    let body = of("eve", &[("a", 2), ("b", 1), ("a", 2)]);
    let placed = test.api.post_as("k", "/v1/orders", &body).await;
    assert_eq!((placed.status, placed.replayed()), (201, false));
    assert!(test.api.post_as("k", "/v1/orders", &body).await.replayed());
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 2)]).await), ("a".into(), [5, 4, 2]));
    // Without the limit everything goes, also where a process remembers that there was one.
    delete(&test.api, "a").await;
    buy(&test, "eve", &[("a", 100)]).await.expect(201);
    test.placed(&[("a", 1)]).await;
    test.finish().await;
}

#[tokio::test]
async fn units_that_are_canceled_may_be_bought_again() {
    let test = start().await;
    limit(&test, "a", 3).await;
    let order = buy(&test, "eve", &[("a", 3)]).await.expect(201);
    let lines = json!({ "lines": [{ "line_id": order["lines"][0]["id"], "quantity": 2 }] });
    test.api.post(&format!("/v1/orders/{}/cancel", id(&order)), &lines).await.expect(200);
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 3)]).await), ("a".into(), [3, 1, 3]));
    buy(&test, "eve", &[("a", 2)]).await.expect(201);
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 1)]).await), ("a".into(), [3, 3, 1]));
    test.finish().await;
}

#[tokio::test]
async fn an_order_of_nobody_is_refused_where_there_is_a_limit() {
    let mut test = start().await;
    let there = test.another_api().await;
    there.place(&[("a", 1)]).await.expect(201);
    limit(&test, "a", 2).await;
    for api in [&test.api, &there] {
        let answer = api.place(&[("a", 1)]).await;
        assert_eq!(answer.body["errors"][0]["pointer"], "/customer_id", "{}", answer.text);
        answer.problem(422, "customer_needed");
    }
    assert_eq!(test.api.level("a").await, (1000, 1, 0));
    test.finish().await;
}

#[tokio::test]
async fn a_window_forgets_what_was_bought_before() {
    let test = start().await;
    let path = format!("{LIMITS}/a");
    test.api.put(&path, &json!({ "quantity": 2, "window_seconds": 3600 })).await.expect(200);
    let order_id = id(&buy(&test, "eve", &[("a", 2)]).await.expect(201));
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 1)]).await).1, [2, 2, 1]);
    let age = "UPDATE orders SET created_at = now() - make_interval(secs => $2) WHERE id = $1";
    let aged = async |seconds: f64| {
        let id = order_id.parse::<OrderId>().unwrap().uuid();
        sqlx::query(age).bind(id).bind(seconds).execute(&mut *test.conn().await).await.unwrap();
    };
    aged(3500.0).await;
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 1)]).await).1, [2, 2, 1]);
    aged(3601.0).await;
    buy(&test, "eve", &[("a", 1)]).await.expect(201);
    // Without a window it is found again.
    test.api.put(&path, &json!({ "quantity": 2, "window_seconds": null })).await.expect(200);
    assert_eq!(exceeded(buy(&test, "eve", &[("a", 1)]).await).1, [2, 3, 1]);
    test.finish().await;
}

/// Two locations are two levels, two locks of rows and two batches: only the lock of customer and SKU is common to them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_orders_over_processes_and_locations_buy_exactly_the_limit() {
    for zookeeper in [false, true] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        for location in ["main", "east"] {
            let path = format!("/v1/inventory/a/{location}");
            test.api.put(&path, &json!({ "on_hand": 100 })).await.expect(200);
        }
        limit(&test, "a", 3).await;
        let there = test.another_api().await;
        let place = |number: usize| {
            let api = if number.is_multiple_of(2) { test.api.clone() } else { there.clone() };
            let mut body = of("eve", &[("a", 1)]);
            body["lines"][0]["location_id"] = json!(["main", "east"][number / 2 % 2]);
            async move { api.post("/v1/orders", &body).await }
        };
        let answers = join_all((0..20).map(place)).await;
        let (placed, refused): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.status == 201);
        assert_eq!(placed.len(), 3);
        for answer in refused {
            assert_eq!(exceeded(answer), ("a".into(), [3, 3, 1]));
        }
        assert_eq!(test.count("SELECT sum(quantity)::bigint FROM order_line").await, 3);
        test.finish().await;
    }
}

/// As if the orders of the batch came one after the other: whoever is refused takes neither stock nor units.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_the_limit_does_not_take_its_neighbours_with_it() {
    let (test, held) = held(ReservationOptions { caps: OpenOrderCaps::NONE, ..ONE_LANE }).await;
    test.stock("limited", 10).await;
    limit(&test, "limited", 4).await;
    let first = send(&test.api, order(&[("held", 1)]));
    blocked(&test, 1).await;
    let mut orders = Vec::new();
    for (customer, quantity) in
        [("eve", 3), ("eve", 2), ("adam", 4), ("eve", 1), ("eve", 1), ("cain", 3), ("abel", 2)]
    {
        orders.push(send(&test.api, of(customer, &[("held", 1), ("limited", quantity)])));
        waiting(&test, orders.len()).await;
    }
    orders.push(send(&test.api, order(&[("held", 1)])));
    waiting(&test, orders.len()).await;
    held.release().await;
    first.await.unwrap().expect(201);
    let answers = join_all(orders).await.into_iter().map(|answer| answer.unwrap());
    let codes: Vec<String> = answers.map(|answer| answer.code().to_owned()).collect();
    let (short, over) = ("insufficient_stock", "purchase_limit_exceeded");
    assert_eq!(codes, ["", over, "", "", over, short, "", ""]);
    assert_eq!((test.api.level("limited").await, test.api.level("held").await), ((10, 10, 0), (100, 6, 0)));
    test.finish().await;
}

/// A process that has not heard of the limit writes in one statement, which finds it.
#[tokio::test]
async fn a_limit_holds_at_once_in_every_process() {
    let mut test = start().await;
    test.stock("b", 1000).await;
    let there = test.another_api().await;
    for api in [&test.api, &there] {
        api.post("/v1/orders", &of("eve", &[("a", 2), ("b", 1)])).await.expect(201);
    }
    limit(&test, "a", 4).await;
    for api in [&test.api, &there] {
        let answer = api.post("/v1/orders", &of("eve", &[("a", 1), ("b", 1)])).await;
        assert_eq!(exceeded(answer), ("a".into(), [4, 4, 1]));
        api.post("/v1/orders", &of("eve", &[("b", 1)])).await.expect(201);
    }
    test.finish().await;
}
