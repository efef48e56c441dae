//! `Prefer: wait=N` on a payment: the answer comes when the payment is decided, and says how.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use holdfast::worker::WorkerKind;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    PATIENCE,
    api::{Answer, payment, send},
    app::{Setup, TestApp},
    eventually,
};

async fn started(workers: &'static [WorkerKind]) -> TestApp {
    let test = TestApp::start_with(Setup { workers, ..Setup::default() }).await;
    test.stock("a", 100).await;
    test
}

async fn pay(test: &TestApp, order_id: &str, token: &str, key: &str, prefer: &str) -> Answer {
    let request = test.api.request(Method::POST, &format!("/v1/orders/{order_id}/payments"));
    send(request.header("Idempotency-Key", key).header("Prefer", prefer).json(&payment(token))).await
}

fn new_key() -> String {
    Uuid::now_v7().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_gets_the_outcome() {
    let test = started(&WorkerKind::ALL).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let key = new_key();
    let answer = pay(&test, &order_id, "pm_card_visa", &key, "respond-async, wait=30").await;
    assert_eq!((answer.header("preference-applied"), answer.replayed()), ("wait=30", false));
    let paid = answer.expect(201);
    assert!(["authorized", "captured"].contains(&paid["status"].as_str().unwrap()), "{paid}");
    test.order_becomes(&order_id, "fulfilled").await;
    // Again, it is answered as it stands now; without the preference, as it was then.
    let again = pay(&test, &order_id, "pm_card_visa", &key, "wait=5").await;
    assert_eq!((again.header("preference-applied"), again.replayed()), ("wait=5", true));
    let again = again.expect(201);
    assert_eq!((&again["id"], &again["status"]), (&paid["id"], &json!("captured")));
    let plain = pay(&test, &order_id, "pm_card_visa", &key, "return=minimal").await;
    assert_eq!((plain.header("preference-applied"), plain.replayed()), ("", true));
    assert_eq!(plain.expect(201)["status"], "processing");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declined_payment_is_402_to_who_waits() {
    let test = started(&WorkerKind::ALL).await;
    let order_id = test.placed(&[("a", 1)]).await;
    for (token, code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let key = new_key();
        for replayed in [false, true] {
            let answer = pay(&test, &order_id, token, &key, "wait=30").await;
            assert_eq!((answer.header("preference-applied"), answer.replayed()), ("wait=30", replayed));
            let problem = answer.problem(402, "payment_declined");
            assert_eq!((&problem["decline_code"], &problem["retryable"]), (&json!(code), &json!(false)));
            let payment_id = problem["payment_id"].as_str().unwrap();
            test.payment_becomes(payment_id, "failed").await;
        }
    }
    test.finish().await;
}

#[tokio::test]
async fn a_wait_that_is_over_is_answered_with_what_there_is() {
    let test = started(&[]).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let key = new_key();
    let began = Instant::now();
    let answer = pay(&test, &order_id, "pm_card_visa", &key, "wait=1").await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(answer.header("preference-applied"), "wait=1");
    let paid = answer.expect(201);
    assert_eq!((&paid["status"], &paid["decline_code"]), (&json!("processing"), &Value::Null));
    test.finish().await;
}

#[tokio::test]
async fn a_preference_that_is_none_is_ignored() {
    let test = started(&[]).await;
    for prefer in ["wait=soon", "wait=-1", "wait", "wait=0", ""] {
        let order_id = test.placed(&[("a", 1)]).await;
        let answer = pay(&test, &order_id, "pm_card_visa", &new_key(), prefer).await;
        assert_eq!(answer.header("preference-applied"), "", "{prefer}");
        assert_eq!(answer.expect(201)["status"], "processing", "{prefer}");
    }
    // A request that fails has nothing to wait for.
    let order_id = test.placed(&[("a", 1)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    pay(&test, &order_id, "pm_card_visa", &new_key(), "wait=30").await.problem(409, "payment_in_progress");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_wait_than_the_pool_has_connections_and_nobody_starves() {
    let test = started(&[]).await;
    // More than the pool has connections.
    let orders = join_all((0..60).map(|_| test.placed(&[("a", 1)]))).await;
    let waiting =
        join_all(orders.iter().map(async |order_id| {
            pay(&test, order_id, "pm_card_visa", &new_key(), "wait=30").await.expect(201)
        }));
    let decided = async {
        let count = "SELECT count(*) FROM payment";
        while test.count(count).await < 60 {
            tokio::task::yield_now().await;
        }
        // All of them wait now, and the API answers others as ever.
        test.stock("b", 1).await;
        let statement = "UPDATE payment SET status = 'authorized'";
        sqlx::query(statement).execute(&mut *test.conn().await).await.unwrap();
    };
    let (answers, ()) = tokio::join!(waiting, decided);
    assert!(answers.iter().all(|payment| payment["status"] == "authorized"), "{answers:?}");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_process_answers_who_waits() {
    let test = started(&[]).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/payments");
    let request = test.api.request(Method::POST, &path).header("Idempotency-Key", new_key());
    let waiting = tokio::spawn(send(request.header("Prefer", "wait=30").json(&payment("pm_card_visa"))));
    let begun = async || test.count("SELECT count(*) FROM payment").await == 1;
    eventually("the payment is committed", PATIENCE, begun).await;
    test.stop().await;
    assert_eq!(waiting.await.unwrap().expect(201)["status"], "processing");
}

/// The payment is there, and its event: what becomes of the waiting makes no error of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_told_the_outcome_is_told_what_was_begun() {
    let test = started(&[]).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let key = new_key();
    let waiting = pay(&test, &order_id, "pm_card_visa", &key, "wait=1");
    let unreadable = async {
        let begun = async || test.count("SELECT count(*) FROM payment").await == 1;
        eventually("the payment is committed", PATIENCE, begun).await;
        let hide = "ALTER TABLE payment RENAME TO hidden";
        sqlx::query(hide).execute(&mut *test.conn().await).await.unwrap();
    };
    let (answer, ()) = tokio::join!(waiting, unreadable);
    assert_eq!((answer.header("preference-applied"), answer.replayed()), ("", false));
    let begun = answer.expect(201);
    assert_eq!(begun["status"], "processing");
    let show = "ALTER TABLE hidden RENAME TO payment";
    sqlx::query(show).execute(&mut *test.conn().await).await.unwrap();
    let again = pay(&test, &order_id, "pm_card_visa", &key, "return=minimal").await;
    assert_eq!((again.replayed(), &again.body), (true, &begun));
    test.finish().await;
}
