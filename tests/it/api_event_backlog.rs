//! Events that wait for the broker: from when on it is told, and from when on no new orders are taken.

use std::time::Duration;

use holdfast::{app::BacklogLimits, worker::WorkerKind};

use crate::support::{
    PATIENCE,
    api::order,
    app::{Setup, TestApp},
    eventually,
};

/// Limits that an event passes as soon as it waits.
fn strict() -> BacklogLimits {
    let soon = Some(Duration::from_millis(100));
    BacklogLimits { told_delay: soon, order_delay: soon, order_waiting: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_orders_are_refused_while_events_wait_too_long_and_nothing_else_is() {
    // Nobody publishes.
    let mut test = TestApp::start_with(Setup { backlog: strict(), ..Setup::default() }).await;
    assert_eq!(test.api.get("/readyz").await.expect(200)["events"], "ok");
    test.stock("a", 10).await;
    let body = order(&[("a", 1)]);
    let mut placed = Vec::new();
    eventually("an order is refused", PATIENCE, async || {
        let key = format!("key-{}", placed.len());
        let answer = test.api.post_as(&key, "/v1/orders", &body).await;
        let is_refused = answer.status == 503;
        placed.push(answer);
        is_refused
    })
    .await;
    let refused = placed.pop().unwrap();
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(refused.problem(503, "events_delayed")["retryable"], true);
    let ready = test.api.get("/readyz").await.expect(200);
    assert_eq!((&ready["status"], &ready["events"]), (&"degraded".into(), &"delayed".into()));

    // An order that was placed before is found by its key, and lives on.
    if let Some(first) = placed.first() {
        let again = test.api.post_as("key-0", "/v1/orders", &body).await;
        assert!(again.replayed(), "{again:?}");
        assert_eq!(again.expect(201)["id"], first.body["id"]);
        test.api.cancel(first.body["id"].as_str().unwrap()).await.expect(200);
    }
    // Once they are sent, orders are taken again.
    test.start_workers(&[WorkerKind::Relay]);
    eventually("orders are taken again", PATIENCE, async || test.api.place(&[("a", 1)]).await.status == 201)
        .await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_orders_are_refused_while_too_many_events_wait() {
    let limits = BacklogLimits { order_waiting: Some(100), ..BacklogLimits::default() };
    let test = TestApp::start_with(Setup { backlog: limits, ..Setup::default() }).await;
    test.stock("a", 1_000_000).await;
    let waiting = "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data)
                   SELECT gen_random_uuid(), 0, gen_random_uuid(), 1, 'order.expired.v1', 'order/x', '{}'
                   FROM generate_series(1, 101)";
    sqlx::query(waiting).execute(&mut *test.conn().await).await.unwrap();
    let refused = async || test.api.place(&[("a", 1)]).await.code() == "events_delayed";
    eventually("an order is refused", PATIENCE, refused).await;
    sqlx::query("DELETE FROM outbox").execute(&mut *test.conn().await).await.unwrap();
    eventually("orders are taken again", PATIENCE, async || test.api.place(&[("a", 1)]).await.status == 201)
        .await;
    test.stop().await;
}

/// The broker may refuse one event for ever. That is told of, by its attempts, and is no reason to close the shop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_that_is_held_back_alone_stops_no_orders() {
    let limits = BacklogLimits {
        order_delay: Some(Duration::from_mins(10)),
        told_delay: Some(Duration::from_mins(1)),
        order_waiting: None,
    };
    let setup = Setup { backlog: limits, workers: &[WorkerKind::Relay], ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 1000).await;
    let stuck =
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data, created_at)
                 SELECT gen_random_uuid(), 0, gen_random_uuid(), 1, 'order.teleported.v1', 'order/x', '{}',
                        now() - interval '1 hour'";
    test.placed(&[("a", 1)]).await;
    eventually("it is sent", PATIENCE, async || test.count("SELECT count(*) FROM outbox").await == 0).await;
    sqlx::query(stuck).execute(&mut *test.conn().await).await.unwrap();
    let held_back = "SELECT count(*) FROM outbox WHERE attempts > 0";
    eventually("it is held back", PATIENCE, async || test.count(held_back).await == 1).await;
    let seen = holdfast::store::outbox::backlog(&mut *test.conn().await).await.unwrap();
    assert!(seen.oldest_seconds > 3_500.0 && seen.delay_seconds < 60.0 && seen.waiting == 1, "{seen:?}");
    sqlx::query("DELETE FROM outbox").execute(&mut *test.conn().await).await.unwrap();
    test.finish().await;
}

/// In a quiet hour nothing later is sent that would show that they are alone, and without a new order nothing would be. More
/// than a few are no exception, and neither is one that the broker was never asked to take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_events_that_were_refused_last_stop_no_orders() {
    let test = TestApp::start().await;
    let waiting = "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, data, created_at, attempts)
                   SELECT gen_random_uuid(), 0, gen_random_uuid(), 1, 'order.expired.v1', 'order/x', '{}',
                          now() - interval '1 hour', $1 FROM generate_series(1, $2)";
    let mut conn = test.conn().await;
    for (attempts, count, is_late) in [(3, 10, false), (3, 11, true), (0, 1, true)] {
        sqlx::query(waiting).bind(attempts).bind(count).execute(&mut *conn).await.unwrap();
        let delay = holdfast::store::outbox::backlog(&mut conn).await.unwrap().delay_seconds;
        assert_eq!(delay > 3_500.0, is_late, "{count} that were tried {attempts} times: {delay} s");
        sqlx::query("DELETE FROM outbox").execute(&mut *conn).await.unwrap();
    }
    drop(conn);
    test.stop().await;
}
