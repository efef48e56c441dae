//! Orders at the API: replays, all or nothing, lists, what is not there and who may ask.

use holdfast::domain::{
    access::Scope,
    ids::{OrderId, PaymentId},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    api::{Answer, id, order, send},
    app::TestApp,
    eventually,
};

#[tokio::test]
async fn a_repeated_request_gets_the_same_bytes_whatever_happened_since() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let body = json!({ "currency": "USD", "client_reference": "r-1", "customer_id": "c-1", "metadata": { "k": "v" },
                       "lines": [{ "sku": "a", "quantity": 2, "unit_amount": 150 }] });
    let first = test.api.post_as("k", "/v1/orders", &body).await;
    assert_eq!((first.status, first.replayed()), (201, false));
    assert_eq!(first.body["status"], "pending_payment");
    assert_eq!(first.body["total_amount"], 300);
    assert_eq!(first.body["metadata"], json!({ "k": "v" }));
    let order_id = id(&first.body);
    test.api.cancel(&order_id).await.expect(200);
    // Other spaces and another order of the fields are the same request; a quoted key is the same key.
    let reordered = r#"{ "lines": [ {"unit_amount":150, "quantity":2, "sku":"a"} ], "metadata": {"k":"v"},
                         "customer_id": "c-1", "client_reference": "r-1", "currency": "USD" }"#;
    let request = test.api.request(Method::POST, "/v1/orders").header("Idempotency-Key", "\"k\"");
    let again = send(request.header("Content-Type", "application/json; charset=utf-8").body(reordered)).await;
    assert_eq!((again.status, again.replayed(), &again.text), (201, true, &first.text));

    let path = format!("/v1/orders/{order_id}/cancel");
    let canceled = test.api.post_as("k", &path, &json!({})).await;
    // The same key at another route is another key.
    canceled.problem(409, "invalid_state_transition");
    assert_eq!(test.api.order(&order_id).await["status"], "canceled");
    test.finish().await;
}

#[tokio::test]
async fn a_key_with_another_request_is_refused_and_another_callers_key_is_its_own() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let first = test.api.post_as("k", "/v1/orders", &order(&[("a", 1)])).await.expect(201);
    test.api.post_as("k", "/v1/orders", &order(&[("a", 2)])).await.problem(422, "idempotency_key_reused");
    let other = test.api.with_secret(&test.new_key("other", &[Scope::Admin]).await.secret);
    let theirs = other.post_as("k", "/v1/orders", &order(&[("a", 2)])).await;
    assert!(!theirs.replayed());
    assert_ne!(id(&theirs.expect(201)), id(&first));
    assert_eq!(test.api.level("a").await, (5, 3, 0));

    let order_id = id(&first);
    for (path, body) in [
        (
            format!("/v1/orders/{order_id}/payments"),
            json!({ "method": "card", "payment_token": "pm_card_visa" }),
        ),
        (format!("/v1/orders/{}/cancel", id(&test.api.place(&[("a", 1)]).await.expect(201))), json!({})),
        ("/v1/inventory/adjustments".into(), json!({ "items": [{ "sku": "a", "delta": 1 }] })),
    ] {
        let first = test.api.post_as("key", &path, &body).await;
        let again = test.api.post_as("key", &path, &body).await;
        assert!(first.status < 300 && !first.replayed(), "{path}: {}", first.text);
        assert_eq!(
            (again.status, again.replayed(), &again.text),
            (first.status, true, &first.text),
            "{path}"
        );
    }
    assert_eq!(test.api.level("a").await.0, 6);
    test.finish().await;
}

#[tokio::test]
async fn a_refused_request_uses_no_key() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let body = order(&[("a", 2)]);
    test.api.post_as("k", "/v1/orders", &body).await.problem(409, "insufficient_stock");
    test.stock("a", 2).await;
    let answer = test.api.post_as("k", "/v1/orders", &body).await;
    assert!(!answer.replayed());
    answer.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn an_order_gets_all_of_its_lines_or_nothing() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    test.stock("b", 1).await;
    test.stock("c", 0).await;
    let before = test.snapshot().await;
    let short = test.api.place(&[("a", 5), ("b", 2), ("c", 1)]).await.problem(409, "insufficient_stock");
    let item = |sku: &str, requested: i64, available: i64| json!({ "sku": sku, "location_id": "main", "requested": requested, "available": available });
    assert_eq!(short["items"], json!([item("b", 2, 1), item("c", 1, 0)]));
    // Each line alone would fit; together they do not.
    let short = test.api.place(&[("a", 3), ("b", 1), ("a", 3)]).await.problem(409, "insufficient_stock");
    assert_eq!(short["items"], json!([item("a", 6, 5)]));
    let unknown = test.api.place(&[("a", 1), ("x", 1), ("y", 1)]).await.problem(422, "unknown_sku");
    let pointers: Vec<_> = unknown["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
    assert_eq!(pointers, ["/lines/1/sku", "/lines/2/sku"]);
    assert_eq!(test.snapshot().await, before);

    let placed = test.api.place(&[("a", 2), ("b", 1), ("a", 3)]).await.expect(201);
    assert_eq!(placed["lines"].as_array().unwrap().len(), 3);
    assert_eq!((test.api.level("a").await, test.api.level("b").await), ((5, 5, 0), (1, 1, 0)));
    test.finish().await;
}

#[tokio::test]
async fn a_canceled_unpaid_order_frees_its_stock() {
    let test = TestApp::start().await;
    test.stock("a", 2).await;
    let order_id = test.placed(&[("a", 2)]).await;
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    let canceled = test.api.cancel(&order_id).await.expect(200);
    assert_eq!((&canceled["status"], &canceled["cancel_reason"]), (&json!("canceled"), &json!("test")));
    assert_eq!(canceled["lines"][0]["quantity_canceled"], 2);
    assert_eq!(test.api.level("a").await, (2, 0, 0));
    test.placed(&[("a", 2)]).await;
    let refused = test.api.pay(&order_id, "pm_card_visa").await.problem(409, "invalid_state_transition");
    assert_eq!((&refused["current_status"], &refused["allowed"]), (&json!("canceled"), &json!([])));
    test.finish().await;
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn orders_are_listed_newest_first_in_pages_and_by_filter() {
    let test = TestApp::start().await;
    test.stock("a", 50).await;
    let mut placed = Vec::new();
    for n in 0..7 {
        let mut body = order(&[("a", 1)]);
        body["customer_id"] = json!(if n % 2 == 0 { "even" } else { "odd one" });
        body["client_reference"] = json!(format!("ref {n}"));
        placed.push(id(&test.api.post("/v1/orders", &body).await.expect(201)));
    }
    placed.reverse();
    let list = async |query: &str| test.api.get(&format!("/v1/orders{query}")).await.expect(200);
    let all = list("").await;
    assert_eq!((ids(&all), &all["has_more"]), (placed.iter().map(String::as_str).collect(), &json!(false)));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("?limit=3{after}")).await;
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        after = format!("&starting_after={}", seen.last().unwrap());
        if page["has_more"] == false {
            break;
        }
        assert_eq!(ids(&page).len(), 3);
    }
    assert_eq!(seen, placed);

    test.api.cancel(&placed[0]).await.expect(200);
    assert_eq!(ids(&list("?status=canceled").await), [placed[0].as_str()]);
    assert_eq!(ids(&list("?status=pending_payment&limit=100").await).len(), 6);
    assert_eq!(ids(&list("?customer_id=odd+one").await), [&placed[1], &placed[3], &placed[5]]);
    assert_eq!(ids(&list("?customer_id=odd%20one&limit=1").await), [&placed[1]]);
    assert_eq!(ids(&list("?client_reference=ref%203").await), [&placed[3]]);
    assert_eq!(ids(&list("?customer_id=nobody").await), Vec::<&str>::new());
    test.finish().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let test = TestApp::start().await;
    let (order_id, payment_id) = (OrderId::new(), PaymentId::new());
    for path in [
        format!("/v1/orders/{order_id}"),
        format!("/v1/orders/{order_id}/payments"),
        format!("/v1/payments/{payment_id}"),
        "/v1/orders/1".into(),
        "/v1/orders/%ff".into(),
        // An id of another kind.
        format!("/v1/orders/{payment_id}"),
        "/v1/inventory/a/main".into(),
    ] {
        test.api.get(&path).await.problem(404, "not_found");
    }
    test.api.cancel(&order_id.to_string()).await.problem(404, "not_found");
    test.api.pay(&order_id.to_string(), "pm_card_visa").await.problem(404, "not_found");
    for path in ["/", "/v1", "/v1/nothing", "/v1/orders/", "/v2/orders", "/v1/orders/a/b/c"] {
        test.api.get(path).await.problem(404, "unknown_route");
    }
    for (method, path) in [
        (Method::DELETE, "/v1/orders"),
        (Method::PUT, "/v1/orders/x"),
        (Method::POST, "/v1/inventory/a/main"),
        (Method::GET, "/v1/inventory/adjustments"),
        (Method::POST, "/livez"),
    ] {
        send(test.api.request(method, path)).await.problem(405, "method_not_allowed");
    }
    test.finish().await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_live_key() {
    let test = TestApp::start().await;
    let revoked = test.new_key("revoked", &[Scope::Admin]).await;
    test.app.revoke_api_key(revoked.key.id, None).await.unwrap();
    let known = async |answer: Answer| {
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.problem(401, "unauthenticated");
    };
    for (method, path) in [
        (Method::GET, "/v1/orders"),
        (Method::POST, "/v1/orders"),
        (Method::GET, "/v1/orders/x"),
        (Method::POST, "/v1/orders/x/cancel"),
        (Method::POST, "/v1/orders/x/payments"),
        (Method::GET, "/v1/orders/x/payments"),
        (Method::GET, "/v1/payments/x"),
        (Method::GET, "/v1/inventory"),
        (Method::GET, "/v1/inventory/a/main"),
        (Method::PUT, "/v1/inventory/a/main"),
        (Method::POST, "/v1/inventory/adjustments"),
    ] {
        known(send(test.api.bare(method.clone(), path)).await).await;
        known(send(test.api.bare(method.clone(), path).bearer_auth("hf_wrong")).await).await;
        known(send(test.api.bare(method.clone(), path).bearer_auth(&revoked.secret)).await).await;
        known(send(test.api.bare(method, path).basic_auth("hf_wrong", Some(""))).await).await;
    }
    assert_eq!(test.count("SELECT count(*) FROM inventory_level").await, 0);
    test.finish().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_while_in_use_stops_working_within_seconds() {
    let test = TestApp::start().await;
    let key = test.new_key("short-lived", &[Scope::Admin]).await;
    let api = test.api.with_secret(&key.secret);
    api.get("/v1/orders").await.expect(200);
    test.app.revoke_api_key(key.key.id, None).await.unwrap();
    let refused = async || api.get("/v1/orders").await.status == 401;
    eventually("the revoked key is refused", PATIENCE, refused).await;
    test.finish().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_through_to_its_event() {
    let test = TestApp::start().await;
    test.stock("a", 2).await;
    let request = test.api.request(Method::POST, "/v1/orders").header("Idempotency-Key", "k");
    let answer = send(request.header("X-Request-Id", "my-request-1").json(&order(&[("a", 1)]))).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (201, "my-request-1"));
    let events = "SELECT count(*) FROM outbox WHERE correlation_id = 'my-request-1'";
    assert_eq!(test.count(events).await, 1);
    // What could pass for something else in a log is replaced.
    for unusable in ["a b", &"x".repeat(129)] {
        let request = test.api.request(Method::GET, "/v1/orders").header("X-Request-Id", unusable);
        assert!(send(request).await.header("x-request-id").starts_with("req_"));
    }
    test.finish().await;
}
