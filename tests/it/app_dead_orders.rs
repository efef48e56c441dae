//! A dead order keeps no money, though no event says so: look-ups find what is still there.

use holdfast::{app::Progress, store::payment_lookups::FIRST_WAIT_SECONDS};

use crate::support::{
    faulty_provider::Fault,
    payments::{A_MINUTE, is_unknown, paying, paying_by_hand, status, wait},
};

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
async fn money_that_waits_for_the_merchant_is_voided_with_its_order_without_any_event() {
    let (test, order_id, payment_id) = paying_by_hand().await;
    test.authorize(payment_id).await.unwrap();
    test.payments_age(A_MINUTE).await;
    assert_eq!(test.reconcile().await, 1);
    test.api.cancel(&order_id).await.expect(200);
    assert!(wait(&test).await.unwrap() <= FIRST_WAIT_SECONDS);
    // A look-up that the provider asks for does not end the look-ups of money that is still there.
    sqlx::query("UPDATE payment SET next_lookup_at = now(), updated_at = now()")
        .execute(&mut *test.conn().await)
        .await
        .unwrap();
    assert_eq!(test.reconcile().await, 1);
    assert_eq!(status(&test, payment_id).await, "authorized");
    assert!(wait(&test).await.unwrap() <= FIRST_WAIT_SECONDS * 1.25);
    test.payments_age(FIRST_WAIT_SECONDS * 1.25 + 1.0).await;
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(status(&test, payment_id).await, "voided");
    assert_eq!(test.sandbox.summary().await["voided"], 1);
    test.finish().await;
}

#[tokio::test]
async fn a_payment_that_waits_for_the_customer_of_a_dead_order_is_given_up() {
    let (mut test, order_id, payment_id) = paying("pm_sandbox_requires_action").await;
    let provider = test.make_faulty(Fault::AnswerLost);
    assert!(is_unknown(&test.authorize(payment_id).await));
    provider.becomes(Fault::None);
    test.run_out(&order_id.to_string(), 1.0).await;
    assert_eq!(test.expire(order_id).await, 1);
    // The event of that finds nothing to let go of yet.
    assert_eq!(test.release(order_id).await, Progress::Done);
    test.payments_age(A_MINUTE).await;
    assert_eq!((test.reconcile().await, wait(&test).await), (1, None));
    assert_eq!(status(&test, payment_id).await, "voided");
    test.finish().await;
}
