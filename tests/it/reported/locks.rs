//! Locks of several keys. Row 5.
//!
//! That a release deletes its own node alone, and that a token which was overtaken writes nothing, is shown where the lock and
//! the fence are: `contract/`, `failure/lock_nodes.rs`, `app_reservations.rs`.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;

use crate::support::{
    PATIENCE,
    api::tally,
    app::{Setup, TestApp},
    rival::Rival,
};

/// Row 5. medusajs/medusa #16285, PR #11403: of several keys some stayed locked when one was not to be had, and a key named
/// twice waited for itself. Here the keys are sorted and named once, and a claim that fails leaves every queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_does_not_get_all_its_locks_keeps_none() {
    let lock_timeout = Duration::from_millis(300);
    let test = TestApp::start_with(Setup { zookeeper: true, lock_timeout, ..Setup::default() }).await;
    for sku in ["a", "b"] {
        test.stock(sku, 5).await;
    }
    let lines = [("b", 1), ("a", 1), ("b", 1), ("a", 1)];
    let rival = Rival::connect(&test.locks).await;
    let before = test.snapshot().await;
    for (taken, free) in [("b", "a"), ("a", "b")] {
        let held = rival.take(&[taken], PATIENCE).await.unwrap();
        test.api.place(&lines).await.problem(503, "lock_unavailable");
        // The process that gave up left nothing in the queue of the other key either.
        rival.take(&[free], PATIENCE).await.unwrap().release().await;
        held.release().await;
    }
    assert_eq!(test.snapshot().await, before);
    test.placed(&lines).await;
    assert_eq!((test.api.level("a").await, test.api.level("b").await), ((5, 2, 0), (5, 2, 0)));
    rival.close().await;
    test.finish().await;
}

/// Row 5 as well: two requests, each with the key that the other one wanted, waited for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_the_same_skus_in_any_order_do_not_deadlock() {
    for zookeeper in [true, false] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        let other = test.another_api().await;
        let skus = ["a", "b", "c", "d"];
        for sku in skus {
            test.stock(sku, 40).await;
        }
        let orders = (0..60).map(|n: usize| {
            let api = if n.is_multiple_of(2) { test.api.clone() } else { other.clone() };
            let mut lines: Vec<_> = skus.iter().map(|sku| (*sku, 1)).collect();
            lines.rotate_left(n % 4);
            async move { api.place(&lines).await }
        });
        let answers = join_all(orders).await;
        let expected = BTreeMap::from([((201, ""), 40), ((409, "insufficient_stock"), 20)]);
        assert_eq!(tally(&answers), expected);
        test.finish().await;
    }
}
