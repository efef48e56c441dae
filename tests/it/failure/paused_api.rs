//! An API process that stops in the middle of an order, and goes on when others have overtaken it.
//!
//! The worst place is reached on purpose: the test holds the row of the level, so that the process waits for it with the
//! SKU's lock in its hands; then it is stopped and the row is let go. From then on PostgreSQL holds the row for a process
//! that does nothing.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::support::system::{Servers, System};

/// How long PostgreSQL bears with a transaction in which nothing happens.
const IDLE: (&str, &str) = ("HOLDFAST__DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS", "2000");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_paused_past_its_session_sells_nothing_twice() {
    let settings = [
        IDLE,
        ("HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS", "1000"),
        // Longer than the pause, so that the order that was overtaken is tried again and not refused.
        ("HOLDFAST__LOCK__ACQUIRE_TIMEOUT_MS", "60000"),
    ];
    let system = System::start(Servers::ZooKeeper, &settings).await;
    system.import_stock("sku,on_hand\nlast-one,1\nplenty,9\n").await;
    tokio::join!(system.api("api"), system.api("api-b"));
    let (last_one, plenty) = (system.hold_level("last-one").await, system.hold_level("plenty").await);
    let overtaken = async {
        tokio::join!(system.place("api", "a-1", "last-one", 1), system.place("api", "a-2", "plenty", 4))
    };
    let others = async {
        system.wait_for_waiters(2).await;
        system.stack.pause("api").unwrap();
        last_one.rollback().await.unwrap();
        plenty.rollback().await.unwrap();
        let rivals = tokio::join!(
            system.place("api-b", "b-1", "last-one", 1),
            system.place("api-b", "b-2", "plenty", 4)
        );
        system.stack.resume("api").unwrap();
        rivals
    };
    let ((late_1, late_2), (rival_1, rival_2)) = tokio::join!(overtaken, others);
    // The overtaken one is decided anew: what is gone is refused, what is still there is sold.
    assert_eq!((rival_1.status.as_u16(), rival_2.status.as_u16()), (201, 201), "{rival_1:?} {rival_2:?}");
    assert_eq!((late_1.status.as_u16(), late_2.status.as_u16()), (409, 201), "{late_1:?} {late_2:?}");
    assert_eq!(late_1.body["code"], json!("insufficient_stock"));
    let log = system.log("api");
    assert_eq!(log.matches("fencing token is stale").count(), 2, "{log}");
    let sold = "SELECT sum(reserved)::bigint FROM inventory_level WHERE sku IN ('last-one', 'plenty')";
    assert_eq!(system.count(sold).await, 9);
    system.assert_clean().await;
}

/// Without locks, so that nothing but PostgreSQL's time-out ends the wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_transaction_holds_others_up_for_a_bounded_time() {
    let system = System::start(Servers::Neither, &[IDLE]).await;
    system.import_stock("sku,on_hand\nbusy,1000\n").await;
    tokio::join!(system.api("api"), system.api("api-b"));
    let busy = system.hold_level("busy").await;
    let held_up = async { system.place("api", "paused", "busy", 1).await };
    let others = async {
        system.wait_for_waiters(1).await;
        system.stack.pause("api").unwrap();
        busy.rollback().await.unwrap();
        let began = Instant::now();
        let load = (0..8).map(|client| place_many(&system, client, 5));
        futures_util::future::join_all(load).await;
        let waited = began.elapsed();
        system.stack.resume("api").unwrap();
        waited
    };
    let (answer, waited) = tokio::join!(held_up, others);
    // They did wait for the paused one, and not much longer than they must.
    assert!(waited >= Duration::from_millis(1500), "{waited:?}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(system.count("SELECT reserved FROM inventory_level WHERE sku = 'busy'").await, 41);
    system.assert_clean().await;
}

async fn place_many(system: &System, client: u32, orders: u32) {
    for order in 0..orders {
        let answer = system.place("api-b", &format!("load-{client}-{order}"), "busy", 1).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
}

/// COMMIT was sent and its answer never read: the order exists, and the client is told so when it asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_killed_between_commit_and_answer_gives_the_same_answer_later() {
    let system = System::start(Servers::Neither, &[]).await;
    system.import_stock("sku,on_hand\nonce,9\n").await;
    system.api("api").await;
    let gate = system.close_order_gate().await;
    let order = async { system.place("api", "once", "once", 3).await };
    let crash = async {
        system.wait_at_gate().await;
        system.stack.pause("api").unwrap();
        gate.open().await;
        system.wait_for_count("SELECT count(*) FROM orders WHERE client_reference = 'once'", 1).await;
        system.crash("api");
    };
    let (answer, ()) = tokio::join!(order, crash);
    let stored: String = sqlx::query_scalar("SELECT 'ord_' || replace(id::text, '-', '') FROM orders")
        .fetch_one(&system.database)
        .await
        .unwrap();
    assert_eq!(answer.id(), stored);
    assert_eq!(system.count("SELECT reserved FROM inventory_level WHERE sku = 'once'").await, 3);
    system.assert_clean().await;
}
