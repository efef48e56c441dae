//! Around the commit: what is committed is told and handled, whoever dies in between, and what is not is neither (G8, G4).

use tokio::task::block_in_place;

use crate::support::system::{Servers, System, WORKERS};

/// Ends the server processes that wait for a lock: they would go on without their client.
const END_WAITERS: &str = "SELECT count(*)
    FROM (SELECT pid FROM pg_stat_activity
          WHERE application_name = 'holdfast' AND wait_event_type = 'Lock' OFFSET 0) AS waiting
    WHERE pg_terminate_backend(pid)";

/// An event takes its number before its transaction commits, and others commit in between: who only looked for higher numbers
/// than the last would never see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_commits_late_is_sent_after_those_that_overtook_it() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.worker("relay", &["relay"]);
    system.wait_for_log("relay", "relay leases shards=16").await;
    // Of another order each, in the same shard.
    let insert = "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
                  SELECT gen_random_uuid(), 3, gen_random_uuid(), 1, 'inventory.adjusted.v1', $1, '{}'
                  FROM generate_series(1, 5)";
    let mut late = system.database.begin().await.unwrap();
    sqlx::query(insert).bind("late").execute(&mut *late).await.unwrap();
    for round in 1..=3 {
        sqlx::query(insert).bind("early").execute(&system.database).await.unwrap();
        system.wait_for_count("SELECT count(*) FROM outbox_sent", round * 5).await;
    }
    assert_eq!(system.count("SELECT count(*) FROM outbox_sent WHERE subject = 'late'").await, 0);
    late.commit().await.unwrap();
    system.wait_for_empty_outbox().await;
    let late = "SELECT count(*) FROM outbox_sent l WHERE subject = 'late' AND NOT EXISTS (
                    SELECT FROM outbox_sent e WHERE e.subject = 'early' AND (e.id < l.id OR e.position > l.position))";
    assert_eq!(system.count(late).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_never_seen_without_its_event() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,9\n").await;
    system.start_roles().await;
    let order = system.place("api", "order", "book", 1).await.id().to_owned();
    system.wait_for_empty_outbox().await;
    // Nobody can write an event.
    let mut outbox = system.database.begin().await.unwrap();
    sqlx::query("LOCK TABLE outbox IN SHARE MODE").execute(&mut *outbox).await.unwrap();
    let payment = async { system.pay("api", &order, "pm_card_visa").await };
    let crash = async {
        system.wait_for_waiters(1).await;
        assert_eq!(system.count("SELECT count(*) FROM payment").await, 0);
        system.stack.kill("api").unwrap();
        system.count(END_WAITERS).await;
        outbox.rollback().await.unwrap();
        assert_eq!(system.count("SELECT count(*) FROM payment").await, 0);
        block_in_place(|| system.stack.restart("api")).unwrap();
    };
    let (payment, ()) = tokio::join!(payment, crash);
    assert_eq!(payment.status, 201, "{payment:?}");
    system.wait_for_order("api", &order, "fulfilled").await;
    system.assert_accounted_for().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
}

/// Nothing of what it did is there, and the broker must not think that it was handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_before_its_commit_does_it_again() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.import_stock("sku,on_hand\nbook,9\n").await;
    system.start_roles().await;
    let gate = system.close_inbox_gate("fulfilment").await;
    let order = system.place("api", "killed", "book", 1).await.id().to_owned();
    system.pay("api", &order, "pm_card_visa").await.id();
    system.wait_at_gate().await;
    system.stack.kill("worker-fulfilment").unwrap();
    let at_gate = "SELECT count(*)
                   FROM (SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory' OFFSET 0) AS waiting
                   WHERE pg_terminate_backend(pid)";
    assert!(system.count(at_gate).await >= 1);
    gate.open().await;
    assert_eq!(system.count("SELECT count(*) FROM inbox WHERE consumer = 'fulfilment'").await, 0);
    block_in_place(|| system.stack.restart("worker-fulfilment")).unwrap();
    system.wait_for_order("api", &order, "fulfilled").await;
    system.assert_accounted_for().await;
    system.assert_clean().await;
}

/// SIGKILL of every server process at once, again and again, while orders are placed, paid, published and shipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_killed_under_load_loses_no_order_and_no_event() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    system.start_roles().await;
    system.begin_replay(100, &["--ttl", "10", "--concurrency", "4"]).await;
    for kill in 1..=4 {
        system.wait_for_orders(kill * 15).await;
        block_in_place(|| system.stack.kill("postgres").and_then(|()| system.stack.restart("postgres")))
            .unwrap();
    }
    system.finish_replay().await;
    system.assert_accounted_for().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
    // Each process has found its way back by itself.
    for name in WORKERS.iter().chain(&["api"]) {
        assert!(system.stack.pid(name).is_some(), "{name}: {}", system.log(name));
    }
}
