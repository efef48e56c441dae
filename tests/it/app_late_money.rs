//! Money that comes for a payment that is over: the provider refused it, and the customer tried again where the page was still
//! open, while the order was paid in another way.

use holdfast::{domain::ids::PaymentId, provider::ProviderStatus};
use serde_json::{Value, json};

use crate::support::{
    app::TestApp,
    faulty_provider::Fault,
    payments::{moves, paying},
    sandbox::{SECRET_KEY, http_client},
    webhooks::event,
};

/// A payment that was refused once the customer had acted, and is still open at the provider, because that could not be
/// reached; the order is paid by another one. Gives the first payment with the provider's id of it.
async fn refused_and_open() -> (TestApp, PaymentId, String) {
    let (mut test, order_id, payment_id) = paying("pm_sandbox_requires_action").await;
    test.authorize(payment_id).await.unwrap();
    test.sandbox.decide("payments/refuse", payment_id).await;
    let provider = test.make_faulty(Fault::RequestLost);
    test.payments_age(61.0).await;
    assert_eq!(test.reconcile().await, 1);
    provider.becomes(Fault::None);
    let payment = test.payment(payment_id).await;
    assert_eq!(payment["status"], "failed");
    let reference = payment["provider_reference"].as_str().unwrap().to_owned();
    let second: PaymentId = test.paying(&order_id.to_string(), "pm_card_visa").await.parse().unwrap();
    test.authorize(second).await.unwrap();
    test.capture(second).await.unwrap();
    test.sandbox.decide("payments/confirm", payment_id).await;
    assert_eq!(moves(&test, payment_id).await, [1, 0, 0]);
    (test, payment_id, reference)
}

/// The provider tells of it, and it is looked up.
async fn tell(test: &TestApp, reference: &str) {
    let told = event("evt_1", "payment_intent.amount_capturable_updated", reference, "");
    test.api.webhook(&told).await.expect(200);
    assert_eq!(test.reconcile().await, 1);
}

async fn next_lookup(test: &TestApp, id: PaymentId) -> Option<f64> {
    let query = "SELECT extract(epoch FROM next_lookup_at - now())::float8 FROM payment WHERE id = $1";
    sqlx::query_scalar(query).bind(id.uuid()).fetch_one(&mut *test.conn().await).await.unwrap()
}

#[tokio::test]
async fn a_refused_payment_is_closed_at_the_provider() {
    for token in ["pm_card_chargeDeclined", "pm_sandbox_requires_action"] {
        let (test, _, payment_id) = paying(token).await;
        test.authorize(payment_id).await.unwrap();
        if token == "pm_sandbox_requires_action" {
            test.sandbox.decide("payments/refuse", payment_id).await;
            test.payments_age(61.0).await;
            assert_eq!(test.reconcile().await, 1);
        }
        let payment = test.payment(payment_id).await;
        assert_eq!(
            (&payment["status"], &payment["decline_code"]),
            (&json!("failed"), &json!("generic_decline"))
        );
        test.sandbox.decide("payments/confirm", payment_id).await;
        let reference = payment["provider_reference"].as_str().unwrap();
        let seen = test.app.provider.as_ref().unwrap().get(reference).await.unwrap();
        assert_eq!((seen.status, moves(&test, payment_id).await), (ProviderStatus::Voided, [0, 0, 0]));
        test.finish().await;
    }
}

#[tokio::test]
async fn money_that_is_set_aside_for_a_payment_that_is_over_is_given_free() {
    let (test, payment_id, reference) = refused_and_open().await;
    tell(&test, &reference).await;
    assert_eq!(test.sandbox.summary().await["voided"], 1);
    assert_eq!(
        (test.payment(payment_id).await["status"].clone(), next_lookup(&test, payment_id).await),
        (json!("failed"), None)
    );
    let history = "SELECT note FROM payment_event WHERE note LIKE '%all the same%'";
    let note: String = sqlx::query_scalar(history).fetch_one(&mut *test.conn().await).await.unwrap();
    assert_eq!(note, "the provider set money aside all the same, and gave it free");
    assert_eq!(test.count("SELECT count(*) FROM provider_event WHERE processed_at IS NULL").await, 0);
    test.finish().await;
}

#[tokio::test]
async fn money_that_is_captured_for_a_payment_that_is_over_is_shown_to_an_operator() {
    let (test, payment_id, reference) = refused_and_open().await;
    let url = format!("{}/v1/payment_intents/{reference}/capture", test.sandbox.url);
    let captured: Value =
        http_client().post(url).bearer_auth(SECRET_KEY).send().await.unwrap().json().await.unwrap();
    assert_eq!(captured["status"], "succeeded");
    tell(&test, &reference).await;
    assert!(next_lookup(&test, payment_id).await.is_some());
    test.payments_age(3_601.0).await;
    assert_eq!(test.reconcile().await, 1);
    let broken = test.app.verify_invariants().await.unwrap().violations;
    let of_payment = |row: &String| row.contains(&payment_id.uuid().to_string());
    assert!(
        broken.iter().any(|violation| violation.id == "I17" && violation.rows.iter().any(of_payment)),
        "{broken:#?}"
    );
    test.stop().await;
}
