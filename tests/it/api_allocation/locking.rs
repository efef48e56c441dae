//! What an order locks: of a SKU that has several levels the one that it is taken from, unless there is something to decide.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use holdfast::{
    app::App,
    lock::{ZooKeeperLock, ZooKeeperOptions},
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::{named, north_and_south, order_of, start, stock_at};
use crate::support::{
    PATIENCE,
    api::order,
    app::{Setup, TestApp},
    eventually,
    zookeeper::{self, Locks},
};

const BLOCKED: &str = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";

/// Keeps the row lock of a level until it is closed.
async fn keep(test: &TestApp, sku: &str, location: &str) -> PgConnection {
    let mut conn = test.database.connect().await;
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
    let lock = "SELECT 1 FROM inventory_level WHERE sku = $1 AND location_id = $2 FOR UPDATE";
    sqlx::query(lock).bind(sku).bind(location).execute(&mut conn).await.unwrap();
    conn
}

/// An order that goes the way of one statement meets no level but those that it is taken from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_fits_touches_only_the_level_that_it_is_taken_from() {
    let test = start(true).await;
    north_and_south(&test, "a", 100, 100).await;
    stock_at(&test, "only", "south", 100).await;
    // Since this order the process knows the database's time and what the levels have.
    test.api.post("/v1/orders", &order_of("a", 1)).await.expect(201);
    let lower = keep(&test, "a", "south").await;
    let upper = keep(&test, "only", "north").await;
    let baskets = (0..40).map(|_| test.api.place(&[("a", 1), ("only", 1)]));
    for placed in join_all(baskets).await {
        let lines = placed.expect(201)["lines"].clone();
        assert_eq!((&lines[0]["location_id"], &lines[1]["location_id"]), (&json!("north"), &json!("south")));
    }
    // This one wants the level whose row is kept.
    let api = test.api.clone();
    let waits = tokio::spawn(async move { api.post("/v1/orders", &named(order_of("a", 1), "south")).await });
    eventually("it waits", PATIENCE, async || test.count(BLOCKED).await == 1).await;
    lower.close().await.unwrap();
    upper.close().await.unwrap();
    waits.await.unwrap().expect(201);
    test.finish().await;
}

/// Orders that do not fit at the best location are decided under the row locks of all, and the next ones know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_pass_on_to_the_next_location_in_one_statement() {
    let test = start(false).await;
    north_and_south(&test, "a", 2, 100).await;
    for location in ["north", "north", "south"] {
        let placed = test.api.place(&[("a", 1)]).await.expect(201);
        assert_eq!(placed["lines"][0]["location_id"], location);
    }
    let upper = keep(&test, "a", "north").await;
    for placed in join_all((0..40).map(|_| test.api.place(&[("a", 1)]))).await {
        assert_eq!(placed.expect(201)["lines"][0]["location_id"], "south");
    }
    upper.close().await.unwrap();
    test.finish().await;
}

/// The lock of a SKU is one for all its locations: a holder that was overtaken at one of them decides about none.
#[tokio::test]
async fn an_order_that_is_decided_under_a_stale_token_is_refused_whatever_location_it_wants() {
    let lock_timeout = Duration::from_secs(1);
    let mut test = TestApp::start_with(Setup { zookeeper: true, lock_timeout, ..Setup::default() }).await;
    north_and_south(&test, "a", 5, 5).await;
    let newer = ZooKeeperOptions { epoch: 2, ..Locks::new(zookeeper::shared()).options() };
    let locks = Arc::new(ZooKeeperLock::connect(newer).await.unwrap());
    let newer = test.serve(App { locks, ..test.app.clone() }).await;
    newer.post("/v1/orders", &named(order_of("a", 1), "north")).await.expect(201);
    let before = test.snapshot().await;
    // More than any location has: it takes a look at all of them.
    let mut wanted = order(&[("a", 6)]);
    wanted["allow_split"] = json!(true);
    test.api.post("/v1/orders", &wanted).await.problem(503, "lock_unavailable");
    assert_eq!(test.snapshot().await, before);
    newer.post("/v1/orders", &wanted).await.expect(201);
    assert_eq!(test.count("SELECT count(*) FROM inventory_level WHERE fence_epoch = 2").await, 2);
    test.finish().await;
}
