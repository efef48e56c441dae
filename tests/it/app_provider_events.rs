//! What the provider has told of is looked up, whatever else is recorded meanwhile and whoever crashes.

use holdfast::store::payment_lookups::{self, FIRST_WAIT_SECONDS};

use crate::support::{
    payments::{A_MINUTE, paying, wait},
    webhooks::event,
};

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
async fn what_the_provider_has_told_is_looked_up_though_the_look_up_of_it_ended_in_a_crash() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    let told = event("evt_1", "payment_intent.succeeded", "pi_unknown", &payment_id.to_string());
    test.api.webhook(&told).await.expect(200);
    // Claimed by a process that dies; meanwhile another one records something else.
    assert_eq!(payment_lookups::claim(&mut *test.conn().await, 10).await.unwrap().len(), 1);
    test.capture(payment_id).await.unwrap();
    assert!(wait(&test).await.unwrap() <= FIRST_WAIT_SECONDS);
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(test.count("SELECT count(*) FROM provider_event WHERE processed_at IS NULL").await, 0);
    test.finish().await;
}
