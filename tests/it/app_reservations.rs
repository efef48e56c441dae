//! Reservations: who ends them, who may not, and what stops a holder of a lock whose time has passed.

use std::{sync::Arc, time::Duration};

use holdfast::{
    app::{App, Cause},
    domain::open_orders::OpenOrderCaps,
    lock::{ZooKeeperLock, ZooKeeperOptions},
    store::{
        Error,
        placement::{self, Batch, ReserveStock},
    },
};
use serde_json::json;
use sqlx::Executor as _;

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    zookeeper::{self, Locks},
};

async fn expire(test: &TestApp) -> usize {
    test.app.expire_orders(None, 100, &Cause::default()).await.unwrap()
}

#[tokio::test]
async fn a_placement_that_finds_too_little_ends_expired_holds_itself() {
    for zookeeper in [true, false] {
        let test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        test.stock("a", 3).await;
        test.stock("b", 3).await;
        let overdue = test.placed(&[("a", 2), ("b", 1)]).await;
        let alive = test.placed(&[("a", 1)]).await;
        test.run_out(&overdue, 1.0).await;
        let short = test.api.place(&[("a", 3)]).await.problem(409, "insufficient_stock");
        // It ended what it could, and that was not enough.
        assert_eq!(short["items"][0]["available"], 2);
        assert_eq!(test.api.order(&overdue).await["status"], "expired");
        assert_eq!((test.api.level("a").await, test.api.level("b").await), ((3, 1, 0), (3, 0, 0)));

        let overdue = test.placed(&[("a", 2)]).await;
        test.run_out(&overdue, 1.0).await;
        test.placed(&[("a", 2), ("b", 3)]).await;
        assert_eq!(test.api.order(&overdue).await["status"], "expired");
        assert_eq!(test.api.order(&alive).await["status"], "pending_payment");
        test.finish().await;
    }
}

#[tokio::test]
async fn a_crowd_of_expired_holds_refuses_nobody() {
    let test = TestApp::start().await;
    test.stock("a", 70).await;
    for _ in 0..70 {
        let overdue = test.placed(&[("a", 1)]).await;
        test.run_out(&overdue, 1.0).await;
    }
    test.placed(&[("a", 70)]).await;
    assert_eq!(test.api.level("a").await, (70, 70, 0));
    test.finish().await;
}

#[tokio::test]
async fn expiring_takes_only_what_is_overdue_and_only_once() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    let mut orders = Vec::new();
    for _ in 0..4 {
        orders.push(test.placed(&[("a", 1)]).await);
    }
    for order_id in &orders[..3] {
        test.run_out(order_id, 1.0).await;
    }
    test.api.cancel(&orders[0]).await.expect(200);
    let (first, second) = tokio::join!(expire(&test), expire(&test));
    assert_eq!((first + second, expire(&test).await), (2, 0));
    assert_eq!(test.api.level("a").await, (10, 1, 0));
    test.finish().await;
}

#[tokio::test]
async fn the_store_refuses_a_token_older_than_the_newest_it_has_seen() {
    let test = TestApp::start().await;
    test.stock("a", 10).await;
    let key = holdfast::domain::inventory::LevelKey {
        sku: "a".parse().unwrap(),
        location_id: "main".parse().unwrap(),
    };
    let reserve = async |fence: Option<(i32, i64)>| {
        let mut tx = test.app.store.begin("test").await.unwrap();
        let levels = [(&key, ReserveStock { quantity: 1, fence, from_shelf: false })].into();
        let outcome =
            placement::insert(&mut tx, &Batch { orders: Vec::new(), levels, caps: OpenOrderCaps::NONE })
                .await;
        if outcome.is_ok() {
            tx.commit().await.unwrap();
        }
        outcome
    };
    for (fence, accepted) in [
        (Some((1, 50)), true),
        (Some((1, 50)), true),
        (Some((1, 49)), false),
        (Some((0, 99)), false),
        // A backend without tokens leaves the newest as it is.
        (None, true),
        (Some((1, 49)), false),
        (Some((2, 1)), true),
        (Some((1, 99)), false),
    ] {
        let outcome = reserve(fence).await;
        assert_eq!(outcome.is_ok(), accepted, "{fence:?}: {outcome:?}");
        assert!(
            accepted || outcome.as_ref().is_err_and(|error| error.constraint() == Some(placement::LEVELS)),
            "{outcome:?}"
        );
    }
    assert_eq!(test.api.level("a").await.1, 4);
    test.stop().await;
}

#[tokio::test]
async fn an_order_under_a_lock_whose_token_is_stale_is_refused_and_writes_nothing() {
    let lock_timeout = Duration::from_secs(1);
    let mut test = TestApp::start_with(Setup { zookeeper: true, lock_timeout, ..Setup::default() }).await;
    test.stock("a", 10).await;
    test.placed(&[("a", 1)]).await;
    let fence = "SELECT count(*) FROM inventory_level WHERE fence_epoch = 1 AND fence > 0";
    assert_eq!(test.count(fence).await, 1);

    // Somebody restored ZooKeeper from a backup, and gave its tokens a new epoch: there, and not here.
    let newer = ZooKeeperOptions { epoch: 2, ..Locks::new(zookeeper::shared()).options() };
    let locks = Arc::new(ZooKeeperLock::connect(newer).await.unwrap());
    let newer = test.serve(App { locks, ..test.app.clone() }).await;
    newer.place(&[("a", 1)]).await.expect(201);
    let before = test.snapshot().await;
    let refused = test.api.place(&[("a", 1)]).await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "lock_unavailable");
    assert_eq!(test.snapshot().await, before);
    newer.place(&[("a", 1)]).await.expect(201);
    assert_eq!(test.api.level("a").await, (10, 3, 0));
    test.finish().await;
}

#[tokio::test]
async fn the_database_refuses_what_no_use_case_would_do() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 3)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    assert!(payment_id.starts_with("pay_"));
    let before = test.snapshot().await;
    for (statement, constraint) in [
        ("UPDATE inventory_level SET reserved = 6", "inventory_level_no_oversell"),
        ("UPDATE inventory_level SET committed = 3", "inventory_level_no_oversell"),
        ("UPDATE inventory_level SET on_hand = 2", "inventory_level_no_oversell"),
        ("UPDATE inventory_level SET reserved = -1", "inventory_level_not_negative"),
        ("UPDATE inventory_level SET fence = fence - 1", "inventory_level_fence_grows"),
        ("UPDATE inventory_level SET fence_epoch = -1, fence = 9", "inventory_level_fence_grows"),
        (
            "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method)
             SELECT gen_random_uuid(), id, 'wallet', 'stripe', 'x', 'processing', 'USD', 3000, 'automatic' FROM orders",
            "payment_one_live_key",
        ),
        ("UPDATE payment SET amount_refunded = 1", "payment_money_bounds"),
        ("UPDATE payment SET amount_captured = 1", "payment_captured_status"),
        ("UPDATE payment SET status = 'captured', amount_captured = 3001", "payment_money_bounds"),
        ("UPDATE order_line SET quantity_canceled = 4", "order_line_progress"),
        (
            "INSERT INTO orders SELECT gen_random_uuid(), 'ref', customer_id, status, version, currency, total_amount,
                 capture_method, metadata, expires_at, canceled_at, cancel_reason, created_at, updated_at
             FROM orders, generate_series(1, 2)",
            "orders_client_reference_key",
        ),
    ] {
        let error = sqlx::query(statement).execute(&mut *test.conn().await).await.unwrap_err();
        assert_eq!(Error::from(error).constraint(), Some(constraint), "{statement}");
    }
    assert_eq!(test.snapshot().await, before);
    test.finish().await;
}

#[tokio::test]
async fn backorders_and_safety_stock_move_the_limit() {
    let test = TestApp::start().await;
    let set = json!({ "on_hand": 5, "safety_stock": 2, "backorder_limit": 1 });
    test.api.put("/v1/inventory/a/main", &set).await.expect(200);
    let short = test.api.place(&[("a", 5)]).await.problem(409, "insufficient_stock");
    assert_eq!(short["items"][0]["available"], 4);
    test.placed(&[("a", 4)]).await;
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    test.finish().await;
}

/// Puts a view in front of the payments that waits for advisory lock 1 before it is read, with the snapshot of the statement
/// that reads it.
const PAYMENTS_THAT_WAIT: &str = "
    ALTER TABLE payment RENAME TO payment_row;
    CREATE FUNCTION payments_that_wait() RETURNS SETOF payment_row LANGUAGE plpgsql STABLE AS $$
    BEGIN
        PERFORM pg_advisory_lock(1);
        PERFORM pg_advisory_unlock(1);
        RETURN QUERY SELECT * FROM payment_row;
    END $$;
    CREATE VIEW payment AS SELECT * FROM payments_that_wait()";

#[tokio::test]
async fn a_payment_that_is_accepted_while_the_expiry_looks_keeps_the_order_alive() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    test.run_out(&order_id, 1.0).await;
    let (mut other, mut watch) = (test.database.connect().await, test.database.connect().await);
    other.execute(PAYMENTS_THAT_WAIT).await.unwrap();
    other.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let accepted = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
        let looks = async || sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watch).await.unwrap() == 1;
        eventually("the expiry looks at the payments", PATIENCE, looks).await;
        // As `start_payment` does: the order's row and the payment in one transaction.
        other
            .execute(
                "BEGIN;
                 UPDATE orders SET version = version + 1;
                 INSERT INTO payment_row (id, order_id, method, provider, payment_token, status, currency, amount,
                                          capture_method)
                 SELECT gen_random_uuid(), id, 'card', 'stripe', 'x', 'processing', currency, total_amount, 'automatic'
                 FROM orders;
                 COMMIT;
                 SELECT pg_advisory_unlock(1)",
            )
            .await
            .unwrap();
    };
    let (expired, ()) = tokio::join!(expire(&test), accepted);
    assert_eq!(expired, 0);
    assert_eq!(test.api.level("a").await, (1, 1, 0));
    test.stop().await;
}
