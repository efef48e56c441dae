//! What an order locks: of a SKU that has several levels the one that it is taken from, unless there is something to decide.

use std::{sync::Arc, time::Duration};

use holdfast::{
    app::App,
    lock::{ZooKeeperLock, ZooKeeperOptions},
};
use serde_json::json;

use super::{named, north_and_south, order_of, start, stock_at};
use crate::support::{
    PATIENCE,
    api::order,
    app::{Setup, TestApp},
    eventually,
    zookeeper::{self, Locks},
};

/// The transaction that was the last to lock or to change the row of SKU a at this location.
async fn last_locked_by(test: &TestApp, location: &str) -> String {
    let locker = "SELECT xmin::text || ' ' || xmax FROM inventory_level WHERE sku = 'a' AND location_id = $1";
    sqlx::query_scalar(locker).bind(location).fetch_one(&mut *test.conn().await).await.unwrap()
}

/// Places orders of one unit of SKU a and one of others, which get it from `location`, until one of them has left the other
/// location alone: now and then one is too slow for the one statement.
async fn place_past(test: &TestApp, others: &[&str], location: &str, other: &str) {
    let lines: Vec<(&str, i64)> =
        std::iter::once("a").chain(others.iter().copied()).map(|sku| (sku, 1)).collect();
    eventually(&format!("an order leaves {other} alone"), PATIENCE, async || {
        let before = last_locked_by(test, other).await;
        let placed = test.api.place(&lines).await.expect(201);
        assert_eq!(placed["lines"][0]["location_id"], location);
        last_locked_by(test, other).await == before
    })
    .await;
}

/// An order that goes the way of one statement meets no level but those that it is taken from.
#[tokio::test]
async fn an_order_that_fits_touches_only_the_level_that_it_is_taken_from() {
    for zookeeper in [true, false] {
        let test = start(zookeeper).await;
        north_and_south(&test, "a", 10_000, 10_000).await;
        stock_at(&test, "only", "south", 10_000).await;
        place_past(&test, &["only"], "north", "south").await;
        // One that has to be decided meets all of them.
        let before = last_locked_by(&test, "south").await;
        test.api.post("/v1/orders", &order_of("a", 20_000)).await.problem(409, "insufficient_stock");
        assert_ne!(last_locked_by(&test, "south").await, before);
        test.finish().await;
    }
}

/// Orders that do not fit at the best location are decided under the row locks of all, and the next ones know.
#[tokio::test]
async fn orders_pass_on_to_the_next_location_in_one_statement() {
    let test = start(false).await;
    north_and_south(&test, "a", 2, 10_000).await;
    for location in ["north", "north", "south"] {
        let placed = test.api.place(&[("a", 1)]).await.expect(201);
        assert_eq!(placed["lines"][0]["location_id"], location);
    }
    place_past(&test, &[], "south", "north").await;
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
