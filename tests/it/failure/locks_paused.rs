//! Holders that stop: before their first statement, between it and the commit, and after they have sent COMMIT.
//!
//! `failure/paused_api.rs` has the holder that stops in its first statement, `failure/fence.rs` the one that reads and
//! writes in two transactions, which nothing but the fence can stop.

use std::time::Duration;

use sqlx::Connection as _;
use tokio::time::sleep;

use crate::support::{
    eventually,
    lock_system::{Differences, LockSystem},
    rival::Rival,
    shop::Answer,
    system::PATIENCE,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper,
};

/// The session of a test's API, and three seconds.
const PAST_SESSION: Duration = Duration::from_secs(4);

/// One got the last unit, the other learnt that it is gone.
fn assert_one_sold(mut answers: [&Answer; 2]) {
    answers.sort_by_key(|answer| answer.status);
    assert_eq!(answers.map(|answer| answer.status.as_u16()), [201, 409], "{answers:?}");
    assert_eq!(answers[1].body["code"], "insufficient_stock");
}

/// Two processes that stop for longer than their session lives. One has written the level and not the order: PostgreSQL
/// ends its transaction, and it must not go on under its old token. The other has sent COMMIT: that takes effect before
/// the rival can have read anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_holder_past_session() {
    let idle = ("HOLDFAST__DATABASE__IDLE_IN_TRANSACTION_TIMEOUT_MS", "1500");
    let system = LockSystem::start(zookeeper::shared(), &[idle], &[("written", 1), ("committing", 1)]).await;
    tokio::join!(system.api("writer"), system.api("committer"), system.api("rival"));
    system
        .execute(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.client_reference = 'committer') EXECUTE FUNCTION wait_at_gate()",
        )
        .await;
    // An order under the same reference, not committed, holds up the insertion of the writer's.
    let mut gate = system.database.acquire().await.unwrap().detach();
    let mut reference = gate.begin().await.unwrap();
    let blocking = "INSERT INTO orders (id, client_reference, status, version, currency, total_amount, capture_method,
                        expires_at, created_at, updated_at)
                    VALUES (gen_random_uuid(), 'writer', 'pending_payment', 1, 'USD', 1, 'automatic', now(), now(), now())";
    sqlx::query(blocking).execute(&mut *reference).await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(4711)").execute(&mut *reference).await.unwrap();
    let overtaken = async {
        tokio::join!(
            system.order("writer", "writer", &[("written", 1)]),
            system.order("committer", "committer", &[("committing", 1)])
        )
    };
    let others = async {
        system.wait_for_waiters(2).await;
        for name in ["writer", "committer"] {
            system.stack.pause(name).unwrap();
        }
        let rivals = async {
            tokio::join!(
                system.order("rival", "rival-1", &[("written", 1)]),
                system.order("rival", "rival-2", &[("committing", 1)])
            )
        };
        let overtake = async {
            sleep(PAST_SESSION).await;
            // Both at once: the writer's insertion, and the committer's commit.
            reference.rollback().await.unwrap();
        };
        let (rivals, ()) = tokio::join!(rivals, overtake);
        for name in ["writer", "committer"] {
            system.stack.resume(name).unwrap();
        }
        rivals
    };
    let ((writer, committer), (rival_1, rival_2)) = tokio::join!(overtaken, others);
    assert_one_sold([&writer, &rival_1]);
    assert_eq!(committer.status, 201, "what was committed is said to be: {committer:?}");
    assert_one_sold([&committer, &rival_2]);
    system.finish(2).await;
}

/// It has the lock, and its first statement is on the way to PostgreSQL. There is stock for the rival and for itself, but it
/// must not sell under the token of then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_before_fence() {
    let system = LockSystem::start(zookeeper::shared(), &[], &[("plenty", 9)]).await;
    let url = system.stack.addresses().postgres_url.clone().unwrap();
    let (credentials, address) = url.rsplit_once('@').unwrap();
    let (address, database) = address.split_once('/').unwrap();
    let proxy = TcpProxy::start(address).await;
    let through = format!("{credentials}@{}/{database}", proxy.address());
    let through = Differences { postgres: Some(&through), ..Differences::default() };
    tokio::join!(system.api_with("paused", &through), system.api("rival"));
    let first = Rival::connect(&system.locks).await;
    let guard = first.take(&["plenty"], PATIENCE).await.unwrap();
    let overtaken = async { system.order("paused", "paused", &[("plenty", 1)]).await };
    let others = async {
        // It stands in the queue: the database was asked all that comes before.
        system.observer.wait_for_nodes(2, PATIENCE).await;
        proxy.allow(Traffic::None);
        guard.release().await;
        first.close().await;
        system.observer.wait_for_nodes(1, PATIENCE).await;
        let [node] = system.observer.nodes().await.try_into().unwrap();
        sleep(Duration::from_millis(300)).await;
        system.stack.pause("paused").unwrap();
        let rival = system.order("rival", "rival", &[("plenty", 1)]).await;
        let gone = async || !system.observer.nodes().await.contains(&node);
        eventually("the paused holder's node is gone", PATIENCE, gone).await;
        proxy.allow(Traffic::All);
        system.stack.resume("paused").unwrap();
        rival
    };
    let (late, rival) = tokio::join!(overtaken, others);
    assert_eq!((late.status.as_u16(), rival.status.as_u16()), (201, 201), "{late:?} {rival:?}");
    system.finish(2).await;
}
