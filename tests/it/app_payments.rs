//! Payments, step by step: each use case is called as its event would call it, so that what is between two steps can be
//! looked at and time needs not pass.

use holdfast::app::Progress;
use serde_json::{Value, json};

use crate::support::{
    api::send,
    app::TestApp,
    payments::{is_unknown, moves, new_event, paying},
    sandbox::{SECRET_KEY, http_client},
};

#[tokio::test]
async fn an_authorization_without_an_answer_stays_processing_until_it_is_looked_up() {
    for token in ["pm_sandbox_timeout_then_success", "pm_sandbox_error_after_authorize"] {
        let (test, order_id, payment_id) = paying(token).await;
        assert!(is_unknown(&test.authorize(payment_id).await), "{token}");
        let payment = test.payment(payment_id).await;
        assert_eq!(
            (&payment["status"], payment["outcome_unknown_since"].is_string()),
            (&json!("processing"), true)
        );
        let order = order_id.to_string();
        test.api.cancel(&order).await.problem(409, "payment_in_progress");
        test.api.pay(&order, "pm_card_visa").await.problem(409, "payment_in_progress");
        assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
        let payment = test.payment(payment_id).await;
        assert_eq!(
            (&payment["status"], &payment["outcome_unknown_since"]),
            (&json!("authorized"), &Value::Null)
        );
        assert_eq!(test.api.order(&order).await["status"], "confirmed");
        assert_eq!(test.api.level("a").await, (5, 0, 1));
        assert_eq!(moves(&test, payment_id).await, [1, 0, 0]);
        test.finish().await;
    }
}

#[tokio::test]
async fn a_capture_without_an_answer_stays_authorized_until_it_is_looked_up() {
    let (test, _, payment_id) = paying("pm_sandbox_error_after_capture").await;
    test.authorize(payment_id).await.unwrap();
    assert!(is_unknown(&test.capture(payment_id).await));
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["amount_captured"]), (&json!("authorized"), &json!(0)));
    assert!(payment["outcome_unknown_since"].is_string());
    assert_eq!(test.capture(payment_id).await.unwrap(), Progress::Done);
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["amount_captured"]), (&json!("captured"), &json!(1000)));
    assert_eq!(moves(&test, payment_id).await, [1, 1, 0]);
    test.finish().await;
}

#[tokio::test]
async fn every_step_may_be_repeated() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    for _ in 0..3 {
        assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
    }
    for _ in 0..3 {
        assert_eq!(test.capture(payment_id).await.unwrap(), Progress::Done);
    }
    // An order that lives keeps its money.
    assert_eq!(test.release(order_id).await, Progress::Done);
    assert_eq!(test.payment(payment_id).await["status"], "captured");
    test.api.cancel(&order_id.to_string()).await.expect(200);
    for _ in 0..3 {
        assert_eq!(test.release(order_id).await, Progress::Done);
        test.refund().await;
    }
    assert_eq!(test.payment(payment_id).await["status"], "refunded");
    assert_eq!(moves(&test, payment_id).await, [1, 1, 1]);
    let history = "SELECT count(*) FROM payment_event WHERE note <> 'created'";
    assert_eq!(test.count(history).await, 3);
    test.finish().await;
}

#[tokio::test]
async fn an_order_canceled_while_its_capture_has_no_answer_gets_its_money_back() {
    let (test, order_id, payment_id) = paying("pm_sandbox_error_after_capture").await;
    test.authorize(payment_id).await.unwrap();
    assert!(is_unknown(&test.capture(payment_id).await));
    test.api.cancel(&order_id.to_string()).await.expect(200);
    assert_eq!(test.release(order_id).await, Progress::Done);
    assert_eq!(test.capture(payment_id).await.unwrap(), Progress::Done);
    test.refund().await;
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["amount_refunded"]), (&json!("refunded"), &json!(1000)));
    assert_eq!(moves(&test, payment_id).await, [1, 1, 1]);
    test.finish().await;
}

#[tokio::test]
async fn many_events_at_once_refund_a_dead_order_once() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    test.api.cancel(&order_id.to_string()).await.expect(200);
    let refund: uuid::Uuid =
        sqlx::query_scalar("SELECT id FROM refund").fetch_one(&mut *test.conn().await).await.unwrap();
    let release = async || {
        let event = new_event();
        assert_eq!(test.release(order_id).await, Progress::Done);
        // As the bus does: again, while the provider says that it is busy with the same refund.
        loop {
            match test.app.carry_out_refund(&event, refund.into()).await {
                Ok(progress) => break assert_eq!(progress, Progress::Done),
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
        }
    };
    futures_util::future::join_all((0..8).map(|_| release())).await;
    assert_eq!(moves(&test, payment_id).await, [1, 1, 1]);
    assert_eq!(test.count("SELECT count(*) FROM refund WHERE status = 'succeeded'").await, 1);
    assert_eq!(test.count("SELECT count(*) FROM refund").await, 1);
    test.finish().await;
}

#[tokio::test]
async fn a_capture_that_comes_after_the_order_expired_is_refunded() {
    let (test, order_id, payment_id) = paying("pm_sandbox_error_after_authorize").await;
    assert!(is_unknown(&test.authorize(payment_id).await));
    // Somebody captures it in the provider's dashboard.
    let intents = format!("{}/v1/payment_intents", test.sandbox.url);
    let http = http_client();
    let page: Value = http.get(&intents).bearer_auth(SECRET_KEY).send().await.unwrap().json().await.unwrap();
    let intent = page["data"][0]["id"].as_str().unwrap();
    let capture = http.post(format!("{intents}/{intent}/capture")).bearer_auth(SECRET_KEY);
    assert_eq!(capture.send().await.unwrap().status(), 200);
    test.run_out(&order_id.to_string(), 1.0).await;
    assert_eq!(test.expire(order_id).await, 1);
    assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
    assert_eq!(test.payment(payment_id).await["status"], "captured");
    test.refund().await;
    assert_eq!(test.payment(payment_id).await["status"], "refunded");
    assert_eq!(moves(&test, payment_id).await, [1, 1, 1]);
    test.finish().await;
}

#[tokio::test]
async fn a_payment_of_an_order_that_died_first_is_not_asked_for() {
    for by_event in [true, false] {
        let (test, order_id, payment_id) = paying("pm_card_visa").await;
        test.run_out(&order_id.to_string(), 1.0).await;
        assert_eq!(test.expire(order_id).await, 1);
        if by_event {
            assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
        } else {
            test.payments_age(61.0).await;
            assert_eq!(test.reconcile().await, 1);
        }
        let payment = test.payment(payment_id).await;
        assert_eq!((&payment["status"], &payment["decline_code"]), (&json!("failed"), &json!("order_dead")));
        assert_eq!(test.sandbox.summary().await["intents"], 0);
        test.finish().await;
    }
}

#[tokio::test]
async fn a_payment_of_an_overdue_order_is_refused() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    test.run_out(&order_id, 1.0).await;
    test.api.pay(&order_id, "pm_card_visa").await.problem(409, "reservation_expired");
    assert_eq!(test.count("SELECT count(*) FROM payment").await, 0);
    test.finish().await;
}

#[tokio::test]
async fn the_token_of_a_payment_is_shown_to_nobody() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    for path in [format!("/v1/orders/{order_id}"), format!("/v1/payments/{payment_id}")] {
        let answer = send(test.api.request(reqwest::Method::GET, &path)).await;
        assert!(!answer.text.contains("pm_card_visa"), "{}", answer.text);
    }
    assert_eq!(test.count("SELECT count(*) FROM outbox WHERE data::text LIKE '%pm_card_visa%'").await, 0);
    let stored = "SELECT count(*) FROM idempotency_key WHERE response_body LIKE '%pm_card_visa%'";
    assert_eq!(test.count(stored).await, 0);
    test.finish().await;
}
