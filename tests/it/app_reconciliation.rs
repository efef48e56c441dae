//! Reconciliation: whatever happened to the events, a payment that is not settled is looked up, by one process at a time,
//! less and less often, until it is.

use holdfast::{
    app::Progress,
    domain::ids::{PaymentId, RefundId},
    store::payment_lookups::{FIRST_WAIT_SECONDS, IDLE_WAIT_SECONDS, LONGEST_WAIT_SECONDS},
};
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    app::TestApp,
    eventually,
    faulty_provider::Fault,
    payments::{A_MINUTE, is_unknown, moves, new_event, paying, paying_by_hand, status, wait},
};

/// Longer than any wait, jitter included.
const LONG: f64 = LONGEST_WAIT_SECONDS * 1.25 + 1.0;

/// The one refund and its status.
async fn refund_of(test: &TestApp) -> (RefundId, String) {
    let (id, status): (uuid::Uuid, String) =
        sqlx::query_as("SELECT id, status FROM refund").fetch_one(&mut *test.conn().await).await.unwrap();
    (id.into(), status)
}

#[tokio::test]
async fn a_payment_whose_events_are_all_lost_is_authorized_and_captured() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    assert_eq!(test.reconcile().await, 0);
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, test.reconcile().await), (1, 0));
    assert_eq!(status(&test, payment_id).await, "authorized");
    assert_eq!(test.api.order(&order_id.to_string()).await["status"], "confirmed");
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, test.reconcile().await), (1, 0));
    assert_eq!(status(&test, payment_id).await, "captured");
    assert_eq!(moves(&test, payment_id).await, [1, 1, 0]);
    // Nothing is owed any more.
    assert_eq!(wait(&test).await, None);
    // The events come after all.
    assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
    assert_eq!(test.capture(payment_id).await.unwrap(), Progress::Done);
    assert_eq!(moves(&test, payment_id).await, [1, 1, 0]);
    test.finish().await;
}

#[tokio::test]
async fn a_capture_without_an_answer_is_settled() {
    let (test, _, payment_id) = paying("pm_sandbox_error_after_capture").await;
    test.authorize(payment_id).await.unwrap();
    assert!(is_unknown(&test.capture(payment_id).await));
    test.payments_age(A_MINUTE).await;
    assert_eq!(test.reconcile().await, 1);
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["amount_captured"]), (&json!("captured"), &json!(1000)));
    assert_eq!(payment["outcome_unknown_since"], Value::Null);
    assert_eq!((moves(&test, payment_id).await, wait(&test).await), ([1, 1, 0], None));
    test.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_given_up_after_the_payment_was_settled_changes_nothing() {
    let (mut test, order_id, payment_id) = paying("pm_card_visa").await;
    let elsewhere = test.another_app().await;
    let provider = test.make_faulty(Fault::AnswerHeld);
    let late = test.authorize(payment_id);
    let meanwhile = async {
        let asked = async || moves(&test, payment_id).await[0] == 1;
        eventually("the provider was asked", PATIENCE, asked).await;
        test.payments_age(A_MINUTE).await;
        assert_eq!(elsewhere.reconcile_payments(10).await.unwrap(), 1);
        assert_eq!(status(&test, payment_id).await, "captured");
        provider.becomes(Fault::None);
    };
    let (late, ()) = tokio::join!(late, meanwhile);
    assert!(is_unknown(&late));
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["outcome_unknown_since"], wait(&test).await), (&Value::Null, None));
    assert_eq!(test.api.order(&order_id.to_string()).await["status"], "confirmed");
    elsewhere.store.close().await;
    test.finish().await;
}

#[tokio::test]
async fn a_look_up_clears_an_outcome_that_nothing_can_change_any_more() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    let left_behind = "UPDATE payment SET outcome_unknown_since = now(), next_lookup_at = now()";
    sqlx::query(left_behind).execute(&mut *test.conn().await).await.unwrap();
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(test.payment(payment_id).await["outcome_unknown_since"], Value::Null);
    test.finish().await;
}

#[tokio::test]
async fn a_refund_of_unknown_outcome_is_settled_once() {
    for fault in [Fault::AnswerLost, Fault::RequestLost] {
        let (mut test, order_id, payment_id) = paying("pm_card_visa").await;
        test.authorize(payment_id).await.unwrap();
        test.capture(payment_id).await.unwrap();
        assert_eq!(wait(&test).await, None);
        test.api.cancel(&order_id.to_string()).await.expect(200);
        let provider = test.make_faulty(fault);
        assert_eq!(test.release(order_id).await, Progress::Done);
        let refund_id = refund_of(&test).await.0;
        assert!(is_unknown(&test.app.carry_out_refund(&new_event(), refund_id).await));
        assert_eq!(status(&test, payment_id).await, "captured");
        provider.becomes(Fault::None);
        test.payments_age(A_MINUTE).await;
        assert_eq!(test.reconcile().await, 1);
        assert_eq!(status(&test, payment_id).await, "refunded", "{fault:?}");
        assert_eq!(test.count("SELECT count(*) FROM refund WHERE status = 'succeeded'").await, 1);
        // Where the look-up itself found the money gone, one more finds that nothing is owed.
        test.payments_age(A_MINUTE).await;
        test.reconcile().await;
        assert_eq!((moves(&test, payment_id).await, wait(&test).await), ([1, 1, 1], None));
        test.finish().await;
    }
}

#[tokio::test]
async fn what_was_asked_for_is_carried_out_though_its_events_are_lost() {
    let (test, _, payment_id) = paying_by_hand().await;
    let ask = async |what: &str, body: Value| {
        let answer = test.api.post(&format!("/v1/payments/{payment_id}/{what}"), &body).await;
        assert!(answer.status < 300, "{what}: {}", answer.text);
        assert!(wait(&test).await.unwrap() <= FIRST_WAIT_SECONDS, "{what}");
        test.payments_age(A_MINUTE).await;
        assert_eq!((test.reconcile().await, wait(&test).await), (1, None), "{what}");
        status(&test, payment_id).await
    };
    test.authorize(payment_id).await.unwrap();
    test.payments_age(A_MINUTE).await;
    // Authorized by hand, it waits for the merchant, and is looked up now and then.
    assert_eq!(test.reconcile().await, 1);
    assert!(wait(&test).await.unwrap() > IDLE_WAIT_SECONDS - 60.0);
    assert_eq!(ask("capture", json!({ "amount": 400 })).await, "captured");
    assert_eq!(ask("refunds", json!({ "amount": 100 })).await, "partially_refunded");
    assert_eq!(ask("refunds", json!({})).await, "refunded");
    assert_eq!(moves(&test, payment_id).await, [1, 1, 2]);
    assert_eq!(test.payment(payment_id).await["amount_refunded"], 400);
    test.finish().await;
}

#[tokio::test]
async fn a_payment_that_was_to_be_voided_is_voided_though_the_event_is_lost() {
    let (test, order_id, payment_id) = paying("pm_sandbox_requires_action").await;
    test.authorize(payment_id).await.unwrap();
    assert_eq!(status(&test, payment_id).await, "requires_action");
    test.api.post(&format!("/v1/payments/{payment_id}/void"), &json!({})).await.expect(202);
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(status(&test, payment_id).await, "voided");
    test.api.pay(&order_id.to_string(), "pm_card_visa").await.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn a_refund_that_the_provider_never_knew_fails_after_two_days_and_not_before() {
    // Refused where it is asked for again: that says nothing of the first time.
    let (test, _, payment_id) = paying("pm_sandbox_refund_refused").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    let path = format!("/v1/payments/{payment_id}/refunds");
    test.api.post(&path, &json!({ "amount": 300 })).await.expect(201);
    let lost = "UPDATE refund SET asked_at = now(), outcome_unknown_since = now()";
    sqlx::query(lost).execute(&mut *test.conn().await).await.unwrap();
    for (hours, expected) in [(0.1, "pending"), (21.0, "pending"), (28.0, "failed")] {
        test.payments_age(hours * 3600.0).await;
        assert_eq!(test.reconcile().await, 1, "{hours}");
        assert_eq!(refund_of(&test).await.1, expected, "{hours}");
    }
    let refunds = test.api.get(&path).await.expect(200);
    assert_eq!(refunds["data"][0]["failure_code"], "not_found");
    assert_eq!(test.payment(payment_id).await["amount_refund_claimed"], 0);
    assert_eq!((moves(&test, payment_id).await, wait(&test).await), ([1, 1, 0], None));
    test.finish().await;
}

#[tokio::test]
async fn what_was_never_asked_for_is_asked_for_however_old_it_is() {
    for days in [1.0, 3.0] {
        let (test, _, payment_id) = paying("pm_card_visa").await;
        test.payments_age(days * 86_400.0).await;
        test.authorize(payment_id).await.unwrap();
        test.capture(payment_id).await.unwrap();
        let path = format!("/v1/payments/{payment_id}/refunds");
        test.api.post(&path, &json!({ "amount": 300 })).await.expect(201);
        // Nobody was there to do it.
        test.payments_age(days * 86_400.0).await;
        assert_eq!(
            test.app.carry_out_refund(&new_event(), refund_of(&test).await.0).await.unwrap(),
            Progress::Done
        );
        assert_eq!(
            (refund_of(&test).await.1.as_str(), moves(&test, payment_id).await),
            ("succeeded", [1, 1, 1])
        );
        assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
        test.finish().await;
    }
}

#[tokio::test]
async fn a_refund_of_a_dead_order_that_was_refused_is_not_made_again_and_again() {
    let (test, order_id, payment_id) = paying("pm_sandbox_refund_refused").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    test.api.cancel(&order_id.to_string()).await.expect(200);
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(
        (refund_of(&test).await.1.as_str(), test.count("SELECT count(*) FROM refund").await),
        ("failed", 1)
    );
    test.finish().await;
}

#[tokio::test]
async fn the_wait_doubles_to_a_quarter_of_an_hour_and_no_outage_ends_it() {
    let (mut test, _, payment_id) = paying("pm_card_visa").await;
    let provider = test.make_faulty(Fault::Away);
    let mut expected = FIRST_WAIT_SECONDS;
    for _ in 0..8 {
        test.payments_age(LONG).await;
        assert_eq!((test.reconcile().await, test.reconcile().await), (1, 0));
        let wait = wait(&test).await.unwrap();
        assert!((expected * 0.74..expected * 1.26).contains(&wait), "{wait} s for {expected} s");
        expected = (expected * 2.0).min(LONGEST_WAIT_SECONDS);
    }
    // Nothing reached the provider, so nothing is unknown, and nothing has failed.
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["outcome_unknown_since"]), (&json!("processing"), &Value::Null));
    provider.becomes(Fault::None);
    test.payments_age(LONG).await;
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(status(&test, payment_id).await, "authorized");
    test.finish().await;
}

#[tokio::test]
async fn a_payment_that_the_provider_never_knew_fails_after_two_days_and_not_before() {
    let (mut test, order_id, payment_id) = paying("pm_card_visa").await;
    let provider = test.make_faulty(Fault::RequestLost);
    assert!(is_unknown(&test.authorize(payment_id).await));
    provider.becomes(Fault::None);
    // The provider may have forgotten the id, so the payment is not asked for again; nor is it given up.
    test.payments_age(21.0 * 3600.0).await;
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(status(&test, payment_id).await, "processing");
    test.api.pay(&order_id.to_string(), "pm_card_visa").await.problem(409, "payment_in_progress");
    test.payments_age(28.0 * 3600.0).await;
    assert_eq!(test.reconcile().await, 1);
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["decline_code"]), (&json!("failed"), &json!("not_found")));
    assert_eq!((moves(&test, payment_id).await, wait(&test).await), ([0, 0, 0], None));
    test.finish().await;
}

#[tokio::test]
async fn the_providers_id_is_kept_while_it_has_not_decided() {
    let (test, _, payment_id) = paying("pm_sandbox_late_success_after_expiry").await;
    assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Waiting);
    let payment = test.payment(payment_id).await;
    assert_eq!(payment["status"], "processing");
    assert!(payment["provider_reference"].as_str().unwrap().starts_with("pi_"), "{payment}");
    // Long after the provider has forgotten the payment's id as a key, it is looked up and not asked for again.
    test.payments_age(72.0 * 3600.0).await;
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Waiting);
    assert_eq!(status(&test, payment_id).await, "processing");
    assert_eq!(test.sandbox.payment(payment_id).await["intents"], 1);
    test.stop().await;
}

#[tokio::test]
async fn a_look_up_that_is_rejected_says_nothing_about_the_payment() {
    let (test, order_id, payment_id) = paying("pm_sandbox_late_success_after_expiry").await;
    test.authorize(payment_id).await.unwrap();
    let lost = "UPDATE payment SET provider_reference = 'pi_of_another_account'";
    sqlx::query(lost).execute(&mut *test.conn().await).await.unwrap();
    assert!(is_unknown(&test.authorize(payment_id).await));
    test.payments_age(A_MINUTE).await;
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(status(&test, payment_id).await, "processing");
    test.api.pay(&order_id.to_string(), "pm_card_visa").await.problem(409, "payment_in_progress");
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_look_ups() {
    let test = TestApp::start().await;
    test.stock("a", 100).await;
    let mut payments = Vec::new();
    for _ in 0..40 {
        let order_id = test.placed(&[("a", 1)]).await;
        payments.push(test.paying(&order_id, "pm_card_visa").await.parse::<PaymentId>().unwrap());
    }
    test.payments_age(A_MINUTE).await;
    let other = test.another_app().await;
    let (mut mine, mut others) = (0, 0);
    while mine + others < 40 {
        let (a, b) = tokio::join!(test.app.reconcile_payments(7), other.reconcile_payments(7));
        (mine, others) = (mine + a.unwrap(), others + b.unwrap());
    }
    assert_eq!((mine + others, test.reconcile().await), (40, 0));
    assert!(mine > 0 && others > 0, "{mine} and {others}");
    for payment_id in payments {
        assert_eq!(status(&test, payment_id).await, "authorized");
    }
    assert_eq!(test.sandbox.summary().await["intents"], 40);
    other.store.close().await;
    test.finish().await;
}

#[tokio::test]
async fn the_database_refuses_an_undecided_payment_that_nobody_looks_up() {
    let (test, _, _) = paying("pm_card_visa").await;
    let forget =
        sqlx::query("UPDATE payment SET next_lookup_at = NULL").execute(&mut *test.conn().await).await;
    let error = forget.expect_err("refused");
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    assert_eq!(constraint, Some("payment_undecided_is_looked_up"));
    test.finish().await;
}
