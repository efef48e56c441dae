//! Endpoints that fail: deliveries are tried again, and nobody else waits for them.

use std::time::Duration;

use holdfast::{webhook::WebhookOptions, worker::WorkerKind};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::time::{Instant, sleep};

use super::{delivered, deliveries, endpoint, path, started};
use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually,
    receiver::{Receiver, Reply},
    setup::local_webhooks,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_tried_again_until_it_succeeds_or_has_failed_and_then_on_request() {
    let test = started().await;
    let receiver = Receiver::start().await;
    receiver.answer_first([500, 302, 400].map(Reply::status));
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    test.placed(&[("a", 1)]).await;
    let delivery = delivered(&test, &endpoint, "delivered", 1).await.remove(0);
    assert_eq!(delivery["attempt_count"], 4);
    assert_eq!(test.api.get(&path(&endpoint, "")).await.expect(200)["failing_since"], Value::Null);

    receiver.answer(Reply::status(503));
    test.placed(&[("a", 1)]).await;
    let failed = delivered(&test, &endpoint, "failed", 1).await.remove(0);
    assert_eq!((&failed["attempt_count"], &failed["last_status_code"]), (&json!(4), &json!(503)));
    assert!(test.api.get(&path(&endpoint, "")).await.expect(200)["failing_since"].is_string());
    receiver.answer(Reply::status(200));
    let again = format!("/v1/webhook-deliveries/{}", failed["id"].as_str().unwrap());
    let queued = test.api.post(&format!("{again}/redeliver"), &json!({})).await.expect(202);
    assert_eq!((&queued["status"], &queued["completed_at"]), (&json!("pending"), &Value::Null));
    delivered(&test, &endpoint, "delivered", 2).await;
    let detail = test.api.get(&again).await.expect(200);
    let attempts: Vec<_> = detail["attempts"].as_array().unwrap().iter().collect();
    let told: Vec<_> =
        attempts.iter().map(|one| (one["number"].as_i64(), one["status_code"].as_i64())).collect();
    let expected: Vec<_> =
        [(5, 200), (4, 503), (3, 503), (2, 503), (1, 503)].map(|(a, b)| (Some(a), Some(b))).into();
    assert_eq!(told, expected);
    assert_eq!(attempts[1]["response"], "said 503");
    // Every copy of an event has its id, and a signature of its own time.
    let received = receiver.received();
    let ids: Vec<_> = received.iter().map(|one| one.header("webhook-id")).collect();
    assert!(
        ids[..4].iter().all(|id| *id == ids[0])
            && ids[4..].iter().all(|id| *id == ids[4])
            && ids[0] != ids[4]
    );
    assert!(received.iter().all(|one| one.signatures_by(endpoint["secret"].as_str().unwrap()) == 1));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_is_disabled_and_what_waits_for_it_is_canceled() {
    let test = started().await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::status(500));
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    test.placed(&[("a", 1)]).await;
    receiver.wait_for(1).await;
    receiver.answer(Reply::status(410));
    test.placed(&[("a", 1)]).await;
    eventually("it is disabled", PATIENCE, async || {
        test.api.get(&path(&endpoint, "")).await.expect(200)["status"] == "disabled"
    })
    .await;
    let disabled = test.api.get(&path(&endpoint, "")).await.expect(200);
    assert_eq!((&disabled["disabled_reason"], disabled["disabled_at"].is_string()), (&json!("gone"), true));
    eventually("nothing is pending", PATIENCE, async || {
        deliveries(&test, &endpoint, "?status=pending").await.is_empty()
    })
    .await;
    let before = receiver.received().len();
    let missed = test.placed(&[("a", 1)]).await;
    test.drain().await;
    test.api.post(&path(&endpoint, "/test"), &json!({})).await.problem(409, "invalid_state_transition");

    receiver.answer(Reply::status(200));
    let enabled = test.api.post(&path(&endpoint, "/enable"), &json!({})).await.expect(200);
    assert_eq!((&enabled["status"], &enabled["disabled_reason"]), (&json!("enabled"), &Value::Null));
    test.placed(&[("a", 1)]).await;
    let received = receiver.wait_for(before + 1).await;
    assert_eq!(received.len(), before + 1);
    assert_ne!(received[before].body["subject"], format!("order/{missed}"));
    test.finish().await;
}

/// The transaction that disables it began before the one that makes the delivery, and commits after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_while_an_endpoint_is_being_disabled_is_canceled() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    let mut conn = test.conn().await;
    let mut disabling = conn.begin().await.unwrap();
    let disable = "UPDATE webhook_endpoint SET status = 'disabled', disabled_reason = 'requested', disabled_at = clock_timestamp()";
    sqlx::query(disable).execute(&mut *disabling).await.unwrap();
    test.placed(&[("a", 1)]).await;
    eventually("it is queued", PATIENCE, async || {
        deliveries(&test, &endpoint, "?status=pending").await.len() == 1
    })
    .await;
    disabling.commit().await.unwrap();
    delivered(&test, &endpoint, "canceled", 1).await;
    assert_eq!(receiver.received().len(), 0);
    drop(conn);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_has_failed_for_days_is_disabled() {
    let test = started().await;
    let receiver = Receiver::start().await;
    receiver.answer(Reply::status(500));
    let endpoint = endpoint(&test, &receiver, &[]).await;
    test.placed(&[("a", 1)]).await;
    delivered(&test, &endpoint, "failed", 1).await;
    let aged = "UPDATE webhook_endpoint SET failing_since = now() - interval '5 days 1 second'";
    sqlx::query(aged).execute(&mut *test.conn().await).await.unwrap();
    test.placed(&[("a", 1)]).await;
    eventually("it is disabled", PATIENCE, async || {
        test.api.get(&path(&endpoint, "")).await.expect(200)["disabled_reason"] == "failing"
    })
    .await;
    test.finish().await;
}

/// So many deliveries wait for each endpoint, none for another.
async fn backlog(test: &TestApp, count: i32) {
    let backlog = "INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence, body)
        SELECT event_id_from(now() - row_number() OVER () * interval '1 second'), e.id, gen_random_uuid(), 'webhook.test.v1', 'x/' || n, 1,
               '{\"type\":\"webhook.test.v1\"}'
        FROM webhook_endpoint e, generate_series(1, $1) n";
    sqlx::query(backlog).bind(count).execute(&mut *test.conn().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_a_dead_endpoint_keep_no_other_waiting() {
    let test = started().await;
    let [slow, dead, good] = [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    slow.answer(Reply { delay: Duration::from_mins(1), ..Reply::status(200) });
    dead.answer(Reply::status(500));
    let silent = endpoint(&test, &slow, &[]).await;
    let failing = endpoint(&test, &dead, &[]).await;
    // Far more than there are turns.
    backlog(&test, 300).await;
    slow.wait_for(5).await;
    dead.wait_for(5).await;
    let order = endpoint(&test, &good, &["order.created.v1"]).await;
    let began = Instant::now();
    for count in 1..=20 {
        test.placed(&[("a", 1)]).await;
        good.wait_for(count).await;
    }
    // The slow one alone would take 2 s for each round.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    delivered(&test, &order, "delivered", 20).await;
    // What waits for the dead one is left alone: its turns at once, and then one now and then.
    assert!((5..60).contains(&dead.received().len()), "{}", dead.received().len());
    assert!(deliveries(&test, &silent, "?status=pending&limit=100").await.len() > 50);
    assert!(deliveries(&test, &failing, "?status=pending&limit=100").await.len() > 50);
    let timed_out = "SELECT count(*) FROM webhook_attempt WHERE error_code = 'timed_out'";
    eventually("the slow one times out", PATIENCE, async || test.count(timed_out).await > 0).await;
    test.stop().await;
}

/// Together they have a turn for everything that is under way, and what waits for them is older.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_answer_slowly_keep_no_other_waiting() {
    let workers = &[WorkerKind::Relay, WorkerKind::Webhook];
    let webhook = WebhookOptions { timeout: Duration::from_secs(15), ..local_webhooks() };
    let test = TestApp::start_with(Setup { workers, webhook, ..Setup::default() }).await;
    test.stock("a", 1000).await;
    for number in 0..8 {
        let slow = Receiver::start().await;
        // All different, so that turns come free one by one.
        let delay = |answer: u64| Duration::from_millis(2000 + (answer * 370 + number * 1010) % 2000);
        slow.answer_first((0..200).map(|answer| Reply { delay: delay(answer), ..Reply::status(200) }));
        endpoint(&test, &slow, &[]).await;
    }
    // Over a minute for all turns.
    backlog(&test, 200).await;
    let busy = "SELECT count(*) FROM webhook_delivery WHERE claimed_until IS NOT NULL";
    eventually("no turn is left", PATIENCE, async || test.count(busy).await >= 60).await;
    let good = Receiver::start().await;
    let order = endpoint(&test, &good, &["order.created.v1"]).await;
    let began = Instant::now();
    for count in 1..=10 {
        test.placed(&[("a", 1)]).await;
        good.wait_for(count).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    delivered(&test, &order, "delivered", 10).await;
    assert!(test.count(busy).await >= 50);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_asks_for_time_gets_it() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let busy = Reply { header: Some(("retry-after", "3".into())), ..Reply::status(429) };
    receiver.answer_first([busy]);
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    test.placed(&[("a", 1)]).await;
    receiver.wait_for(1).await;
    let began = Instant::now();
    test.placed(&[("a", 1)]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(receiver.received().len(), 1);
    delivered(&test, &endpoint, "delivered", 2).await;
    assert!(began.elapsed() > Duration::from_secs(2), "{:?}", began.elapsed());
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_fails_before_anything_is_sent_costs_no_try() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    let away = "ALTER TABLE webhook_secret RENAME TO webhook_secret_away";
    sqlx::query(away).execute(&mut *test.conn().await).await.unwrap();
    test.placed(&[("a", 1)]).await;
    let queued = "SELECT count(*) FROM webhook_delivery";
    eventually("it is queued", PATIENCE, async || test.count(queued).await == 1).await;
    // The worker looks for what is due many times meanwhile.
    sleep(Duration::from_secs(1)).await;
    let back = "ALTER TABLE webhook_secret_away RENAME TO webhook_secret";
    sqlx::query(back).execute(&mut *test.conn().await).await.unwrap();
    let delivery = delivered(&test, &endpoint, "delivered", 1).await.remove(0);
    assert_eq!((&delivery["attempt_count"], receiver.received().len()), (&json!(1), 1));
    let detail = format!("/v1/webhook-deliveries/{}", delivery["id"].as_str().unwrap());
    assert_eq!(test.api.get(&detail).await.expect(200)["attempts"].as_array().unwrap().len(), 1);
    test.finish().await;
}

/// More than are looked at for one claim, of one subject, in the order in which each keeps those that were queued before it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_delivered_again_the_newest_first_comes() {
    let test = started().await;
    let receiver = Receiver::start().await;
    let endpoint = endpoint(&test, &receiver, &[]).await;
    let later = "UPDATE webhook_endpoint SET paused_until = now() + interval '1 hour'";
    sqlx::query(later).execute(&mut *test.conn().await).await.unwrap();
    // Tried once each, and due: as after a time in which the endpoint was away.
    let failing = "INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence, body, attempts, tries,
                                                 created_at, queued_at)
        SELECT event_id_from(now() - (300 - n) * interval '1 second'), e.id, gen_random_uuid(), 'webhook.test.v1', 'order/x', n,
               '{\"type\":\"webhook.test.v1\"}', 1, 1, now() - (300 - n) * interval '1 second',
               now() - (300 - n) * interval '1 second'
        FROM webhook_endpoint e, generate_series(1, 210) n";
    sqlx::query(failing).execute(&mut *test.conn().await).await.unwrap();
    let ids: Vec<uuid::Uuid> = sqlx::query_scalar("SELECT id FROM webhook_delivery ORDER BY id DESC")
        .fetch_all(&mut *test.conn().await)
        .await
        .unwrap();
    for id in ids {
        let again = format!("/v1/webhook-deliveries/whd_{}/redeliver", id.simple());
        test.api.post(&again, &json!({})).await.expect(202);
    }
    let now = "UPDATE webhook_endpoint SET paused_until = NULL";
    sqlx::query(now).execute(&mut *test.conn().await).await.unwrap();
    let over = "SELECT count(*) FROM webhook_delivery WHERE status = 'delivered'";
    eventually("all are delivered", PATIENCE, async || test.count(over).await == 210).await;
    let pending = deliveries(&test, &endpoint, "?status=pending").await;
    assert_eq!((pending.len(), receiver.received().len()), (0, 210));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_is_queued_again_during_an_attempt_is_tried_at_once_with_the_whole_schedule() {
    let test = started().await;
    let receiver = Receiver::start().await;
    // The last attempt that the schedule has, during which somebody asks for it again; one more, and then it is taken.
    let slow = Reply { delay: Duration::from_millis(1500), ..Reply::status(500) };
    receiver.answer_first([
        Reply::status(500),
        Reply::status(500),
        Reply::status(500),
        slow,
        Reply::status(500),
    ]);
    let endpoint = endpoint(&test, &receiver, &["order.created.v1"]).await;
    test.placed(&[("a", 1)]).await;
    receiver.wait_for(4).await;
    let waiting = deliveries(&test, &endpoint, "?status=pending").await.remove(0);
    let again = format!("/v1/webhook-deliveries/{}/redeliver", waiting["id"].as_str().unwrap());
    test.api.post(&again, &json!({})).await.expect(202);
    let delivery = delivered(&test, &endpoint, "delivered", 1).await.remove(0);
    assert_eq!((&delivery["attempt_count"], receiver.received().len()), (&json!(6), 6));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_old_url_answers_is_not_held_against_the_new_one() {
    let test = started().await;
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    old.answer(Reply { delay: Duration::from_millis(1500), ..Reply::status(410) });
    let endpoint = endpoint(&test, &old, &["order.created.v1"]).await;
    test.placed(&[("a", 1)]).await;
    old.wait_for(1).await;
    test.api.put(&path(&endpoint, ""), &json!({ "url": new.url })).await.expect(200);
    let delivery = delivered(&test, &endpoint, "delivered", 1).await.remove(0);
    assert_eq!((&delivery["attempt_count"], new.received().len()), (&json!(2), 1));
    let told = test.api.get(&path(&endpoint, "")).await.expect(200);
    assert_eq!((&told["status"], &told["failing_since"]), (&json!("enabled"), &Value::Null));
    test.finish().await;
}
