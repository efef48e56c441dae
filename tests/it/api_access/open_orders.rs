//! How many unpaid orders somebody may have: nobody parks the stock by ordering and never paying.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use holdfast::{
    app::{Cause, Once, ReservationOptions, RotateApiKey},
    domain::{
        access::Scope, allocation::Allocation, ids::ClientId, inventory::LevelKey, new_order::NewOrder,
        open_orders::OpenOrderCaps,
    },
    store::{
        idempotency::{IdempotencyKey, IdempotentRequest},
        placement::{self, Batch, PlacedOrder, ReserveStock},
    },
    worker::WorkerKind,
};
use serde_json::{Value, json};

use crate::{
    api_batches::{ONE_LANE, blocked, held, send, waiting},
    support::{
        api::{Api, id, order},
        app::{Setup, TestApp},
    },
};

const fn capped(per_customer: Option<i64>, per_client: Option<i64>) -> ReservationOptions {
    ReservationOptions { caps: OpenOrderCaps { per_customer, per_client }, ..ONE_LANE }
}

async fn start(reservation: ReservationOptions) -> TestApp {
    let test = TestApp::start_with(Setup { reservation, ..Setup::default() }).await;
    test.stock("a", 1000).await;
    test
}

fn of(customer: &str, lines: &[(&str, i64)]) -> Value {
    let mut body = order(lines);
    body["customer_id"] = json!(customer);
    body
}

async fn counted(test: &TestApp, id: &str) -> i64 {
    let count = "SELECT open FROM open_order_count WHERE id = $1";
    sqlx::query_scalar(count).bind(id).fetch_one(&mut *test.conn().await).await.unwrap()
}

#[tokio::test]
async fn an_order_waits_until_its_last_unit_is_canceled() {
    let test = start(capped(Some(1), None)).await;
    let body = of("eve", &[("a", 2)]);
    let order = test.api.post("/v1/orders", &body).await.expect(201);
    let unit = json!({ "lines": [{ "line_id": order["lines"][0]["id"], "quantity": 1 }] });
    let cancel =
        async || test.api.post(&format!("/v1/orders/{}/cancel", id(&order)), &unit).await.expect(200);
    assert_eq!(cancel().await["status"], "pending_payment");
    assert_eq!(counted(&test, "eve").await, 1);
    test.api.post("/v1/orders", &body).await.problem(409, "open_order_limit_reached");
    assert_eq!(cancel().await["status"], "canceled");
    assert_eq!(counted(&test, "eve").await, 0);
    test.api.post("/v1/orders", &body).await.expect(201);
    test.finish().await;
}

/// Paid, canceled, expired: whatever ends the wait makes room for one more.
#[tokio::test]
async fn a_customer_has_so_many_unpaid_orders_and_no_more() {
    let setup = Setup { reservation: capped(Some(3), None), workers: &WorkerKind::ALL, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 1000).await;
    let body = of("eve", &[("a", 1)]);
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(id(&test.api.post("/v1/orders", &body).await.expect(201)));
    }
    let refused = test.api.post_as("k", "/v1/orders", &body).await.problem(409, "open_order_limit_reached");
    assert_eq!(
        (&refused["whose"], &refused["limit"], &refused["open"]),
        (&json!("customer"), &json!(3), &json!(3))
    );
    assert_eq!(refused["retryable"], false);
    assert_eq!((counted(&test, "eve").await, test.api.level("a").await), (3, (1000, 3, 0)));
    // Nobody else is concerned.
    test.api.post("/v1/orders", &of("adam", &[("a", 1)])).await.expect(201);
    test.placed(&[("a", 1)]).await;

    test.paying(&orders[0], "pm_card_visa").await;
    test.order_becomes(&orders[0], "fulfilled").await;
    assert_eq!(counted(&test, "eve").await, 2);
    // Nothing was kept under the key of what was refused.
    let placed = test.api.post_as("k", "/v1/orders", &body).await;
    assert_eq!((placed.status, placed.replayed()), (201, false));
    test.api.cancel(&orders[1]).await.expect(200);
    assert_eq!(counted(&test, "eve").await, 2);
    test.run_out(&orders[2], 1.0).await;
    test.order_becomes(&orders[2], "expired").await;
    assert_eq!(counted(&test, "eve").await, 1);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_orders_over_two_processes_do_not_pass_the_cap() {
    for zookeeper in [false, true] {
        let setup = Setup { reservation: capped(Some(5), None), zookeeper, ..Setup::default() };
        let mut test = TestApp::start_with(setup).await;
        for sku in ["a", "b", "c", "d"] {
            test.stock(sku, 100).await;
        }
        let there = test.another_api().await;
        let place = |number: usize| {
            let api = if number.is_multiple_of(2) { test.api.clone() } else { there.clone() };
            let (sku, customer) = (["a", "b", "c", "d"][number / 2 % 4], ["eve", "adam"][number / 8 % 2]);
            async move { api.post("/v1/orders", &of(customer, &[(sku, 1)])).await }
        };
        let answers = join_all((0..48).map(place)).await;
        let placed = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(placed, 10);
        for answer in answers.into_iter().filter(|answer| answer.status != 201) {
            assert_eq!(answer.problem(409, "open_order_limit_reached")["open"], 5);
        }
        assert_eq!((counted(&test, "eve").await, counted(&test, "adam").await), (5, 5));
        test.finish().await;
    }
}

/// Orders that come and go while others are placed: the counts stay exact and nothing deadlocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_stay_exact_while_orders_come_and_go() {
    let mut test = start(capped(Some(4), Some(6))).await;
    test.stock("b", 1000).await;
    let there = test.another_api().await;
    let client = async |number: usize| {
        let api = if number.is_multiple_of(2) { test.api.clone() } else { there.clone() };
        let customers = [["eve", "adam"], ["adam", "eve"]][number % 2];
        for round in 0..8 {
            let body = of(customers[round % 2], &[("a", 1), ("b", 1)]);
            let answer = api.post("/v1/orders", &body).await;
            if answer.status != 201 {
                answer.problem(409, "open_order_limit_reached");
                continue;
            }
            let order_id = id(&answer.body);
            if round % 3 == 0 {
                test.run_out(&order_id, 1.0).await;
                test.app.expire_orders(None, 100, &Cause::default()).await.unwrap();
            } else {
                api.cancel(&order_id).await.expect(200);
            }
        }
    };
    join_all((0..8).map(client)).await;
    test.app.expire_orders(None, 100, &Cause::default()).await.unwrap();
    assert_eq!(test.count("SELECT count(*) FROM open_order_count WHERE open <> 0").await, 0);
    assert_eq!(test.count("SELECT count(*) FROM open_order_count").await, 3);
    test.finish().await;
}

#[tokio::test]
async fn a_client_is_counted_where_clients_are_capped() {
    let test = start(capped(None, Some(2))).await;
    let key = test.new_key("shop", &[Scope::OrdersWrite, Scope::OrdersRead]).await;
    let rotated = test.app.rotate_api_key(key.key.id, &RotateApiKey::default(), None).await.unwrap();
    let Once::Now(rotated) = rotated else { panic!("{rotated:?}") };
    let (before, after) = (test.api.with_secret(&key.secret), test.api.with_secret(&rotated.secret));
    let first = id(&before.place(&[("a", 1)]).await.expect(201));
    after.post("/v1/orders", &of("eve", &[("a", 1)])).await.expect(201);
    for api in [&before, &after] {
        let refused = api.place(&[("a", 1)]).await.problem(409, "open_order_limit_reached");
        assert_eq!((&refused["whose"], &refused["limit"]), (&json!("client"), &json!(2)));
    }
    test.api.place(&[("a", 1)]).await.expect(201);
    test.api.cancel(&first).await.expect(200);
    before.place(&[("a", 1)]).await.expect(201);
    test.finish().await;
}

/// As if the orders of the batch came one after the other: whoever is refused takes neither stock nor a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_over_the_cap_does_not_take_its_neighbours_with_it() {
    let (test, held) = held(capped(Some(2), None)).await;
    let first = send(&test.api, order(&[("held", 1)]));
    blocked(&test, 1).await;
    let mut orders = Vec::new();
    for (customer, quantity) in
        [("eve", 1), ("eve", 1000), ("eve", 1), ("eve", 90), ("adam", 90), ("eve", 7), ("adam", 7)]
    {
        orders.push(send(&test.api, of(customer, &[("held", quantity)])));
        waiting(&test, orders.len()).await;
    }
    held.release().await;
    first.await.unwrap().expect(201);
    let answers = join_all(orders).await.into_iter().map(|answer| answer.unwrap());
    let codes: Vec<String> = answers.map(|answer| answer.code().to_owned()).collect();
    let (short, over) = ("insufficient_stock", "open_order_limit_reached");
    assert_eq!(codes, ["", short, "", over, "", over, ""]);
    assert_eq!(test.api.level("held").await, (100, 100, 0));
    test.finish().await;
}

/// The bound is the statement's own: it does not rely on anybody having looked before.
#[tokio::test]
async fn the_statement_refuses_what_passes_a_cap() {
    let test = start(ONE_LANE).await;
    let place = async |api: &Api, per_customer: Option<i64>| {
        let order: NewOrder = serde_json::from_value(of("eve", &[("a", 1)])).unwrap();
        let draft = order.validate(&test.app.settings.limits).unwrap();
        let location_id = test.app.settings.limits.default_location.clone();
        let level = LevelKey { sku: draft.lines[0].sku.clone(), location_id };
        let allocations = [Allocation::whole(level.clone(), 1)];
        let clock = sqlx::query_scalar("SELECT clock_timestamp()");
        let now: DateTime<Utc> = clock.fetch_one(&mut *test.conn().await).await.unwrap();
        let request = IdempotentRequest {
            key: Arc::new(IdempotencyKey::new(ClientId::new(), "POST /v1/orders".into(), "k".into())),
            fingerprint: [0; 32],
            success_status: 201,
        };
        let expires_at = now + TimeDelta::minutes(1);
        let created = draft.to_created(&allocations, now, expires_at);
        let order = PlacedOrder {
            draft: &draft,
            allocations: &allocations,
            created_at: now,
            expires_at,
            request: &request,
            body: &serde_json::to_string(&created).unwrap(),
            correlation_id: None,
            trace_parent: None,
        };
        let levels = [(&level, ReserveStock { quantity: 1, fence: None, from_shelf: false })].into();
        let caps = OpenOrderCaps { per_customer, per_client: None };
        let placed = test.app.store.place(&Batch { orders: vec![order], levels, caps }).await;
        (placed.map(drop), api.level("a").await.1)
    };
    assert!(matches!(place(&test.api, Some(1)).await, (Ok(()), 1)));
    let (refused, reserved) = place(&test.api, Some(1)).await;
    let refused = refused.unwrap_err();
    assert_eq!((refused.constraint(), reserved), (Some(placement::OPEN_ORDERS), 1));
    assert!(placement::is_refused(&refused));
    // Without a cap they are counted all the same: the next process may have one.
    assert!(matches!(place(&test.api, None).await, (Ok(()), 2)));
    assert_eq!(counted(&test, "eve").await, 2);
    test.finish().await;
}
