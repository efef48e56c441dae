//! Orders that are placed together: each gets its own answer, whatever its neighbours in the batch meet.
//!
//! A batch is made by holding the row lock of a level: the first order waits for it in the database, and those that come
//! meanwhile wait in the engine's queue.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use holdfast::{
    app::{App, ReservationEngine, ReservationOptions},
    domain::{allocation::Allocation, ids::ClientId, new_order::NewOrder, open_orders::OpenOrderCaps},
    store::{
        Store, StoreOptions,
        idempotency::{IdempotencyKey, IdempotentRequest},
        placement::{self, Batch, PlacedOrder, ReserveStock},
    },
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinHandle;

use crate::{
    api_allocation::north_and_south,
    support::{
        PATIENCE,
        api::{Answer, Api, order},
        app::{Setup, TestApp},
        eventually,
        tcp_proxy::{TcpProxy, Traffic},
    },
};

pub(crate) const ONE_LANE: ReservationOptions = ReservationOptions {
    lanes: 1,
    queue: 4096,
    batch_orders: 256,
    batch_lines: 1024,
    share_locks: true,
    caps: OpenOrderCaps::NONE,
};

/// Backends of this test's database that wait for a row lock.
const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// An API whose first order waits in the database, for as long as [`Held`] lives.
pub(crate) async fn held(reservation: ReservationOptions) -> (TestApp, Held) {
    let test = TestApp::start_with(Setup { reservation, ..Setup::default() }).await;
    test.stock("held", 100).await;
    let held = Held::new(&test).await;
    (test, held)
}

pub(crate) struct Held(PgConnection);

impl Held {
    async fn new(test: &TestApp) -> Self {
        let mut conn = test.database.connect().await;
        sqlx::raw_sql("BEGIN; SELECT 1 FROM inventory_level WHERE sku = 'held' FOR UPDATE")
            .execute(&mut conn)
            .await
            .unwrap();
        Self(conn)
    }

    pub(crate) async fn release(self) {
        self.0.close().await.unwrap();
    }
}

pub(crate) fn send(api: &Api, body: Value) -> JoinHandle<Answer> {
    let api = api.clone();
    tokio::spawn(async move { api.post("/v1/orders", &body).await })
}

pub(crate) async fn blocked(test: &TestApp, count: i64) {
    eventually("a statement waits for the row", PATIENCE, async || test.count(BLOCKED).await == count).await;
}

/// Waits until so many orders are in the queue of the engine.
pub(crate) async fn waiting(test: &TestApp, count: usize) {
    let shown = format!("waiting: {count},");
    eventually(&shown, PATIENCE, async || format!("{:?}", test.app.engine).contains(&shown)).await;
}

async fn answers(orders: Vec<JoinHandle<Answer>>) -> Vec<(u16, String)> {
    let answers = join_all(orders).await.into_iter().map(|answer| answer.unwrap());
    answers.map(|answer| (answer.status, answer.code().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_wait_together_are_one_transaction_and_get_an_answer_each() {
    let (test, held) = held(ONE_LANE).await;
    test.stock("a", 5).await;
    let mut taken = order(&[("a", 1)]);
    taken["client_reference"] = json!("taken");
    test.api.post("/v1/orders", &taken).await.expect(201);

    let first = send(&test.api, order(&[("held", 1)]));
    blocked(&test, 1).await;
    let mut orders = vec![send(&test.api, order(&[("a", 3), ("held", 1)]))];
    waiting(&test, 1).await;
    for (queued, body) in [
        (2, order(&[("a", 2)])),
        (3, order(&[("nobody-has-it", 1)])),
        (4, taken.clone()),
        (5, order(&[("a", 1)])),
        (6, order(&[("held", 2)])),
    ] {
        orders.push(send(&test.api, body));
        waiting(&test, queued).await;
    }
    held.release().await;
    first.await.unwrap().expect(201);
    let expected = [
        (201, ""),
        // 1 of 5 was sold before, 3 to the order before this one.
        (409, "insufficient_stock"),
        (422, "unknown_sku"),
        (409, "duplicate_client_reference"),
        (201, ""),
        (201, ""),
    ];
    assert_eq!(answers(orders).await, expected.map(|(status, code)| (status, code.to_owned())));
    // "taken" and the first order by themselves, the rest together.
    assert_eq!(test.count("SELECT count(DISTINCT xmin::text) FROM orders").await, 3);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 5);
    assert_eq!((test.api.level("a").await, test.api.level("held").await), ((5, 5, 0), (100, 4, 0)));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_and_its_repetition_in_the_queue_are_one_order() {
    let (mut test, held) = held(ONE_LANE).await;
    let other = test.another_api().await;
    let first = send(&test.api, order(&[("held", 1)]));
    blocked(&test, 1).await;
    let twin = |api: &Api| {
        let api = api.clone();
        tokio::spawn(
            async move { api.post_until_answered("twin", "/v1/orders", &order(&[("held", 1)])).await },
        )
    };
    // Its client hangs up and asks again: the process places what it accepted.
    let hung_up = twin(&test.api);
    waiting(&test, 1).await;
    hung_up.abort();
    let here = twin(&test.api);
    waiting(&test, 2).await;
    let body = order(&[("held", 1)]);
    test.api.post_as("twin", "/v1/orders", &body).await.problem(409, "idempotency_key_in_use");
    let there = twin(&other);
    blocked(&test, 2).await;
    held.release().await;
    first.await.unwrap().expect(201);
    let (here, there) = (here.await.unwrap(), there.await.unwrap());
    assert_eq!((here.status, there.status, &here.text), (201, 201, &there.text));
    // The first of this process or the one of the other made the order.
    assert!(here.replayed());
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 2);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_written_does_not_take_its_neighbours_with_it() {
    let (test, held) = held(ONE_LANE).await;
    let trigger = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                   BEGIN RAISE EXCEPTION 'a bug of ours'; END $$;
                   CREATE TRIGGER refuse BEFORE INSERT ON orders
                   FOR EACH ROW WHEN (NEW.customer_id = 'poison') EXECUTE FUNCTION refuse()";
    sqlx::raw_sql(trigger).execute(&mut *test.conn().await).await.unwrap();
    let first = send(&test.api, order(&[("held", 1)]));
    blocked(&test, 1).await;
    let mut orders = Vec::new();
    for customer in ["a", "b", "poison", "c"] {
        let mut body = order(&[("held", 1)]);
        body["customer_id"] = json!(customer);
        orders.push(send(&test.api, body));
        waiting(&test, orders.len()).await;
    }
    held.release().await;
    first.await.unwrap().expect(201);
    let statuses: Vec<u16> = answers(orders).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(statuses, [201, 201, 500, 201]);
    assert_eq!(test.api.level("held").await, (100, 4, 0));
    test.finish().await;
}

/// An API of one lane that does not wait long for row locks.
async fn impatient(test: &mut TestApp) -> Api {
    let lock_timeout = Duration::from_millis(500);
    let store = Store::connect(&StoreOptions { lock_timeout, ..test.database.options() }).await.unwrap();
    let engine = ReservationEngine::new(store.clone(), ONE_LANE);
    let app = App { store, engine, ..test.app.clone() };
    test.app = app.clone();
    test.serve(app).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_level_somebody_keeps_locked_does_not_take_its_neighbours_with_it() {
    let mut test = TestApp::start().await;
    test.stock("held", 100).await;
    test.stock("a", 100).await;
    let api = impatient(&mut test).await;
    let held = Held::new(&test).await;
    let mut orders = vec![send(&api, order(&[("held", 1)]))];
    blocked(&test, 1).await;
    // These are one batch once the first order has waited in vain.
    for lines in [&[("a", 1)][..], &[("a", 1), ("held", 1)], &[("a", 2)], &[("nobody-has-it", 1)]] {
        orders.push(send(&api, order(lines)));
        waiting(&test, orders.len() - 1).await;
    }
    let busy = (503, "database_unavailable".to_owned());
    let placed = (201, String::new());
    let unknown = (422, "unknown_sku".to_owned());
    assert_eq!(answers(orders).await, [busy.clone(), placed.clone(), busy, placed, unknown]);
    held.release().await;
    assert_eq!((test.api.level("a").await, test.api.level("held").await), ((100, 3, 0), (100, 0, 0)));
    api.place(&[("held", 1)]).await.expect(201);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_passes_by_a_locked_level_that_it_is_not_expected_to_be_taken_from() {
    let mut test = TestApp::start().await;
    test.stock("held", 100).await;
    north_and_south(&test, "b", 10, 10).await;
    let api = impatient(&mut test).await;
    // Since this order the process knows the levels of both.
    api.place(&[("b", 1), ("held", 1)]).await.expect(201);
    let held = Held::new(&test).await;
    let mut south = test.database.connect().await;
    let lock = "BEGIN; SELECT 1 FROM inventory_level WHERE sku = 'b' AND location_id = 'south' FOR UPDATE";
    sqlx::raw_sql(lock).execute(&mut south).await.unwrap();
    let mut orders = vec![send(&api, order(&[("held", 1)]))];
    blocked(&test, 1).await;
    // The last of them has to be decided, for no shelf has all of it.
    for lines in [&[("b", 1)][..], &[("b", 1), ("held", 1)], &[("b", 11)]] {
        orders.push(send(&api, order(lines)));
        waiting(&test, orders.len() - 1).await;
    }
    let busy = (503, "database_unavailable".to_owned());
    assert_eq!(answers(orders).await, [busy.clone(), (201, String::new()), busy.clone(), busy]);
    held.release().await;
    south.close().await.unwrap();
    let reserved = "SELECT reserved FROM inventory_level WHERE sku = 'b' AND location_id = 'north'";
    assert_eq!(test.count(reserved).await, 2);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_answered_503_and_loses_nothing() {
    let (test, held) = held(ReservationOptions { queue: 4, ..ONE_LANE }).await;
    test.stock("a", 1).await;
    let before = test.api.post_as("before", "/v1/orders", &order(&[("a", 1)])).await;
    let mut accepted = vec![send(&test.api, order(&[("held", 1)]))];
    blocked(&test, 1).await;
    for queued in 1..=3 {
        accepted.push(send(&test.api, order(&[("held", 1)])));
        waiting(&test, queued).await;
    }
    let refused = test.api.post_as("again", "/v1/orders", &order(&[("held", 1)])).await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.problem(503, "overloaded")["retryable"], true);
    // What was placed before needs no room.
    let repeated = test.api.post_as("before", "/v1/orders", &order(&[("a", 1)])).await;
    assert_eq!((repeated.status, repeated.replayed(), &repeated.text), (201, true, &before.text));
    held.release().await;
    assert!(answers(accepted).await.iter().all(|(status, _)| *status == 201));
    let again = test.api.post_as("again", "/v1/orders", &order(&[("held", 1)])).await;
    assert!(!again.replayed());
    again.expect(201);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 6);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_order_that_waits_keeps_only_those_waiting_who_share_a_sku_with_it() {
    let (test, held) = held(ReservationOptions { lanes: 2, ..ONE_LANE }).await;
    let skus: Vec<String> = (0..59).map(|n| format!("sku-{n}")).collect();
    let mut lines: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 1)).collect();
    for (sku, _) in &lines {
        test.stock(sku, 100).await;
    }
    test.stock("small", 100).await;
    lines.push(("held", 1));
    let large = send(&test.api, order(&lines));
    blocked(&test, 1).await;
    for _ in 0..5 {
        test.placed(&[("small", 1)]).await;
    }
    let shares = send(&test.api, order(&[("sku-7", 1)]));
    waiting(&test, 1).await;
    test.placed(&[("small", 1)]).await;
    assert!(!large.is_finished() && !shares.is_finished());
    held.release().await;
    large.await.unwrap().expect(201);
    shares.await.unwrap().expect(201);
    assert_eq!(test.api.level("sku-7").await, (100, 2, 0));
    test.finish().await;
}

/// The server ends the connection while the statement is on its way: it took no effect, which nobody can know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_connection_was_ended_is_placed_again_once() {
    let (test, held) = held(ONE_LANE).await;
    let orders = vec![send(&test.api, order(&[("held", 1)]))];
    blocked(&test, 1).await;
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(test.count(terminate).await, 1);
    // The next try.
    eventually("another statement waits", PATIENCE, async || test.count(BLOCKED).await == 1).await;
    held.release().await;
    assert_eq!(answers(orders).await, [(201, String::new())]);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 1);
    test.finish().await;
}

/// The server carries the statement out, and its answer gets lost: the next try finds the stored answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_is_found_by_its_key() {
    let mut test = TestApp::start().await;
    test.stock("a", 10).await;
    let proxy = TcpProxy::start(&test.database.address()).await;
    let options = StoreOptions { url: test.database.url_at(&proxy.address()), ..test.database.options() };
    let store = Store::connect(&options).await.unwrap();
    let engine = ReservationEngine::new(store.clone(), ONE_LANE);
    let api = test.serve(App { store, engine, ..test.app.clone() }).await;
    // Its connection is open, and it knows the time.
    api.place(&[("a", 1)]).await.expect(201);

    let mut lock = test.database.connect().await;
    sqlx::raw_sql("BEGIN; SELECT 1 FROM inventory_level FOR UPDATE").execute(&mut lock).await.unwrap();
    let lost = send(&api, order(&[("a", 1)]));
    blocked(&test, 1).await;
    proxy.allow(Traffic::RequestsOnly);
    lock.close().await.unwrap();
    test.count("SELECT count(*) FROM orders").await;
    eventually("it is committed", PATIENCE, async || test.count("SELECT count(*) FROM orders").await == 2)
        .await;
    assert!(!lost.is_finished());
    proxy.cut();
    proxy.allow(Traffic::All);
    let answer = lost.await.unwrap();
    assert!(answer.replayed(), "{answer:?}");
    answer.expect(201);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 2);
    test.finish().await;
}

#[tokio::test]
async fn the_statement_refuses_a_time_that_is_not_the_databases() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    let mut order = order(&[("a", 1)]);
    order["lines"][0]["location_id"] = json!("main");
    let order: NewOrder = serde_json::from_value(order).unwrap();
    let draft = order.validate(&test.app.settings.limits).unwrap();
    let level = draft.lines[0].named_level().unwrap();
    let allocations = [Allocation::whole(level.clone(), 1)];
    let request = IdempotentRequest {
        key: Arc::new(IdempotencyKey::new(ClientId::new(), "POST /v1/orders".into(), "time".into())),
        fingerprint: [0; 32],
        success_status: 201,
    };
    let place = async |off: TimeDelta| {
        let clock = sqlx::query_scalar("SELECT clock_timestamp()");
        let now: DateTime<Utc> = clock.fetch_one(&mut *test.conn().await).await.unwrap();
        let (created_at, expires_at) = (now + off, now + TimeDelta::minutes(1));
        let order = PlacedOrder {
            draft: &draft,
            allocations: &allocations,
            created_at,
            expires_at,
            request: &request,
            body: "{}",
            correlation_id: None,
            trace_parent: None,
        };
        let reserve = ReserveStock { quantity: 1, fence: None, from_shelf: false };
        let levels = [(&level, reserve)].into();
        test.app.store.place(&Batch { orders: vec![order], levels, caps: OpenOrderCaps::NONE }).await
    };
    let before = test.snapshot().await;
    for off in [TimeDelta::seconds(3), TimeDelta::seconds(-3)] {
        let refused = place(off).await.unwrap_err();
        assert_eq!(refused.constraint(), Some(placement::TIME), "{refused}");
        assert!(placement::is_refused(&refused));
    }
    assert_eq!(test.snapshot().await, before);
    assert_eq!(place(TimeDelta::zero()).await.unwrap().available, [9]);
    test.stop().await;
}
