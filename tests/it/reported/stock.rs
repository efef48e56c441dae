//! Stock that was sold twice, or held by halves. Rows 1 to 4.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use holdfast::{
    domain::{inventory::LevelKey, open_orders::OpenOrderCaps},
    store::placement::{self, Batch, ReserveStock},
    worker::WorkerKind,
};
use serde_json::json;

use crate::support::{
    api::{Answer, Api, tally},
    app::{Setup, TestApp},
};

/// Row 1. vendurehq/vendure #3508, #1738, #1355: stock was checked in one step and allocated in another, by reading, adding
/// and writing back; buyers at the same moment drove it below zero. Here the check and the hold are one statement.
async fn two_hundred_orders_for_fifty_units(zookeeper: bool, processes: usize) {
    let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
    let mut apis = vec![test.api.clone()];
    for _ in 1..processes {
        apis.push(test.another_api().await);
    }
    test.stock("hot", 50).await;
    let orders = (0..200).map(|n| {
        let api: Api = apis[n % processes].clone();
        tokio::spawn(async move { api.place(&[("hot", 1)]).await })
    });
    let answers: Vec<Answer> = join_all(orders).await.into_iter().map(Result::unwrap).collect();
    let expected = BTreeMap::from([((201, ""), 50), ((409, "insufficient_stock"), 150)]);
    assert_eq!(tally(&answers), expected);
    let short = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(
        short.body["items"][0],
        json!({ "sku": "hot", "location_id": "main", "requested": 1, "available": 0 })
    );
    assert_eq!(test.api.level("hot").await, (50, 50, 0));
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 50);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_place_fifty_with_zookeeper() {
    two_hundred_orders_for_fifty_units(true, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_place_fifty_without_locks() {
    two_hundred_orders_for_fifty_units(false, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_processes_place_fifty_with_zookeeper() {
    two_hundred_orders_for_fifty_units(true, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_processes_place_fifty_without_locks() {
    two_hundred_orders_for_fifty_units(false, 2).await;
}

/// Row 2. medusajs/medusa #16569: reserving was safe only if the caller held a lock, and with none two reservations of the one
/// unit lived. Here no lock is held, and the second of two that ask at a time is refused: by the constraint, whoever
/// writes, and before it by the statement that places orders.
#[tokio::test]
async fn the_database_refuses_to_oversell_with_no_lock_held() {
    let test = TestApp::start().await;
    for sku in ["a", "b"] {
        test.stock(sku, 1).await;
    }
    let anybody = "UPDATE inventory_level SET reserved = reserved + 1 WHERE sku = 'a'";
    assert_eq!(test.database.meet(anybody, anybody).await, Err("inventory_level_no_oversell".into()));

    let key = LevelKey { sku: "b".parse().unwrap(), location_id: "main".parse().unwrap() };
    let levels = [(&key, ReserveStock { quantity: 1, fence: None, from_shelf: false })].into();
    let batch = Batch { orders: Vec::new(), levels, caps: OpenOrderCaps::NONE };
    let mut first = test.app.store.begin("first").await.unwrap();
    placement::insert(&mut first, &batch).await.unwrap();
    let second = async {
        let mut second = test.app.store.begin("second").await.unwrap();
        placement::insert(&mut second, &batch).await
    };
    let commit = async {
        test.database.somebody_waits().await;
        first.commit().await.unwrap();
    };
    let (second, ()) = tokio::join!(second, commit);
    assert_eq!(second.unwrap_err().constraint(), Some(placement::LEVELS));

    // What was written here is of no order, and `verify` would say so.
    assert_eq!((test.api.level("a").await, test.api.level("b").await), ((1, 1, 0), (1, 1, 0)));
    let violations = test.app.verify_invariants().await.unwrap().violations;
    assert_eq!(violations.iter().map(|violation| violation.id).collect::<Vec<_>>(), ["I2"]);
    let take_back = "UPDATE inventory_level SET reserved = 0";
    sqlx::query(take_back).execute(&mut *test.conn().await).await.unwrap();
    test.api.place(&[("a", 1)]).await.expect(201);
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    test.finish().await;
}

/// Row 3. medusajs/medusa #16502, vendurehq/vendure #2702: two lines of one item each passed against the same availability.
/// Here the demand of an order is added up for each SKU and location before anything is compared.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_lines_of_one_sku_are_held_against_their_sum() {
    for zookeeper in [true, false] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        for sku in ["a", "b"] {
            test.stock(sku, 5).await;
        }
        let before = test.snapshot().await;
        let short = test.api.place(&[("a", 3), ("b", 1), ("a", 3)]).await.problem(409, "insufficient_stock");
        assert_eq!(
            short["items"],
            json!([{ "sku": "a", "location_id": "main", "requested": 6, "available": 5 }])
        );
        assert_eq!(test.snapshot().await, before);
        // What fits is held, paid and shipped line by line.
        test.start_workers(&WorkerKind::ALL);
        let order_id = test.placed(&[("a", 3), ("b", 1), ("a", 2)]).await;
        assert_eq!((test.api.level("a").await, test.api.level("b").await), ((5, 5, 0), (5, 1, 0)));
        test.paying(&order_id, "pm_card_visa").await;
        test.order_becomes(&order_id, "fulfilled").await;
        assert_eq!((test.api.level("a").await, test.api.level("b").await), ((0, 0, 0), (4, 0, 0)));
        test.finish().await;
    }
}

/// Row 4. medusajs/medusa #16825: the loser of a race for the last units was left behind as an order without reservation or
/// payment, because one of several parallel steps had failed. Here order, lines, reservations, event and answer are one
/// commit, so the loser leaves no row at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_loser_of_a_race_leaves_nothing_behind() {
    for zookeeper in [true, false] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        let other = test.another_api().await;
        test.stock("plenty", 100).await;
        test.stock("scarce", 3).await;
        let orders = (0..40).map(|n: usize| {
            let api = if n.is_multiple_of(2) { &test.api } else { &other };
            api.place(&[("plenty", 1), ("scarce", 1)])
        });
        let answers = join_all(orders).await;
        let expected = BTreeMap::from([((201, ""), 3), ((409, "insufficient_stock"), 37)]);
        assert_eq!(tally(&answers), expected);
        for (table, rows) in [
            ("SELECT count(*) FROM orders", 3),
            ("SELECT count(*) FROM order_line", 6),
            ("SELECT count(*) FROM reservation", 6),
            ("SELECT count(*) FROM outbox WHERE type = 'order.created.v1'", 3),
            ("SELECT count(*) FROM idempotency_key WHERE route LIKE '%/v1/orders'", 3),
        ] {
            assert_eq!(test.count(table).await, rows, "{table}");
        }
        assert_eq!(test.api.level("plenty").await, (100, 3, 0));
        test.finish().await;
    }
}
