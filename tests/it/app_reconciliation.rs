//! Reconciliation: whatever happened to the events, a payment that is not settled is looked up, by one process at a time,
//! less and less often, until it is.

use holdfast::{
    app::Progress,
    domain::ids::PaymentId,
    store::payment_lookups::{self, FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS},
};
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    faulty_provider::Fault,
    payments::{is_unknown, moves, new_event, paying},
    webhooks::event,
};

/// A little longer than a payment has to be settled by events.
const A_MINUTE: f64 = FIRST_WAIT_SECONDS + 1.0;

/// Longer than any wait, jitter included.
const LONG: f64 = LONGEST_WAIT_SECONDS * 1.25 + 1.0;

async fn status(test: &TestApp, id: PaymentId) -> Value {
    test.payment(id).await["status"].clone()
}

/// Seconds until the next look-up; `None` where there will be none.
async fn wait(test: &TestApp) -> Option<f64> {
    let query = "SELECT extract(epoch FROM next_lookup_at - now())::float8 FROM payment";
    sqlx::query_scalar(query).fetch_one(&mut *test.conn().await).await.unwrap()
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
async fn a_refund_of_unknown_outcome_is_settled_once() {
    for fault in [Fault::AnswerLost, Fault::RequestLost] {
        let (mut test, order_id, payment_id) = paying("pm_card_visa").await;
        test.authorize(payment_id).await.unwrap();
        test.capture(payment_id).await.unwrap();
        assert_eq!(wait(&test).await, None);
        test.api.cancel(&order_id.to_string()).await.expect(200);
        let provider = test.make_faulty(fault);
        assert!(is_unknown(&test.app.release_payment(&new_event(), order_id).await));
        assert_eq!(status(&test, payment_id).await, "captured");
        provider.becomes(Fault::None);
        test.payments_age(A_MINUTE).await;
        assert_eq!(test.reconcile().await, 1);
        assert_eq!(status(&test, payment_id).await, "refunded", "{fault:?}");
        assert_eq!((moves(&test, payment_id).await, wait(&test).await), ([1, 1, 1], None));
        assert_eq!(test.count("SELECT count(*) FROM refund WHERE status = 'succeeded'").await, 1);
        test.finish().await;
    }
}

#[tokio::test]
async fn money_that_comes_for_a_dead_order_goes_back_without_any_event() {
    let (test, order_id, payment_id) = paying("pm_sandbox_error_after_authorize").await;
    assert!(is_unknown(&test.authorize(payment_id).await));
    test.run_out(&order_id.to_string(), 1.0).await;
    assert_eq!(test.expire(order_id).await, 1);
    test.payments_age(A_MINUTE).await;
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(status(&test, payment_id).await, "voided");
    assert_eq!(test.sandbox.summary().await["voided"], 1);
    assert_eq!(wait(&test).await, None);
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
async fn what_the_provider_tells_during_a_look_up_is_looked_up_again() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    let reference = test.payment(payment_id).await["provider_reference"].as_str().unwrap().to_owned();
    let tell = async |id: &str| {
        test.api.webhook(&event(id, "payment_intent.succeeded", &reference, "")).await.expect(200);
    };
    tell("evt_1").await;
    let due = payment_lookups::claim(&mut *test.conn().await, 10).await.unwrap();
    assert_eq!(due.len(), 1);
    assert!(!due[0].is_overdue);
    tell("evt_2").await;
    payment_lookups::mark_settled(&mut *test.conn().await, &due[0]).await.unwrap();
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(test.count("SELECT count(*) FROM provider_event WHERE processed_at IS NULL").await, 0);
    test.finish().await;
}

#[tokio::test]
async fn what_the_provider_has_told_stays_due_when_an_older_answer_is_recorded() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    let told = event("evt_1", "payment_intent.succeeded", "pi_unknown", &payment_id.to_string());
    test.api.webhook(&told).await.expect(200);
    test.capture(payment_id).await.unwrap();
    assert!(wait(&test).await.unwrap() <= 0.0);
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
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
