//! `POST /v1/provider-webhooks/{provider}`: only what the provider signed lately counts, once, and only as a hint.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    api::send,
    app::TestApp,
    payments::{moves, paying},
    setup::WEBHOOK_SECRETS,
    webhooks::{PATH, event, event_of, signature},
};

const PAYMENT: &str = "pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";

#[tokio::test]
async fn only_what_is_signed_lately_and_with_a_secret_of_ours_is_taken() {
    let test = TestApp::start().await;
    let body = event("evt_1", "payment_intent.succeeded", "pi_1", PAYMENT);
    let good = signature(WEBHOOK_SECRETS[0], 0, &body);
    let wrong = [
        String::new(),
        "t=1".to_owned(),
        "v1=00".to_owned(),
        signature("whsec_of_somebody_else", 0, &body),
        signature(WEBHOOK_SECRETS[0], 0, &format!("{body} ")),
        signature(WEBHOOK_SECRETS[0], -330, &body),
        signature(WEBHOOK_SECRETS[0], 330, &body),
        good.replace(",v1=", ",v0="),
    ];
    for header in wrong {
        test.api.webhook_signed(&header, &body).await.problem(400, "webhook_signature_invalid");
    }
    let unsigned = test.api.request(Method::POST, PATH).body(body.clone());
    send(unsigned).await.problem(400, "webhook_signature_invalid");
    assert_eq!(test.count("SELECT count(*) FROM provider_event").await, 0);
    // Both secrets of a rotation count, and the time may be a little off.
    for (id, secret, seconds) in [
        ("evt_1", WEBHOOK_SECRETS[0], -270),
        ("evt_2", WEBHOOK_SECRETS[1], 270),
        ("evt_3", WEBHOOK_SECRETS[1], 0),
    ] {
        let body = event(id, "payment_intent.succeeded", "pi_1", PAYMENT);
        test.api.webhook_signed(&signature(secret, seconds, &body), &body).await.expect(200);
    }
    assert_eq!(test.count("SELECT count(*) FROM provider_event").await, 3);
    test.finish().await;
}

#[tokio::test]
async fn what_is_not_for_us_is_told_so() {
    let test = TestApp::start().await;
    let body = event("evt_1", "payment_intent.succeeded", "pi_1", PAYMENT);
    let elsewhere = test.api.bare(Method::POST, "/v1/provider-webhooks/paypal");
    let signed = signature(WEBHOOK_SECRETS[0], 0, &body);
    send(elsewhere.header("Stripe-Signature", signed).body(body)).await.problem(404, "not_found");
    test.api.webhook("{").await.problem(400, "malformed_json");
    test.api.webhook("{}").await.problem(400, "malformed_json");
    test.api.webhook(&" ".repeat(64 * 1024 + 1)).await.problem(413, "body_too_large");
    let get = send(test.api.bare(Method::GET, PATH)).await;
    get.problem(405, "method_not_allowed");
    test.finish().await;
}

#[tokio::test]
async fn events_that_say_nothing_to_us_are_taken_and_change_nothing() {
    let (test, _, _) = paying("pm_card_visa").await;
    let customer = json!({ "id": "cus_1", "object": "customer", "email": "jo@example.org" });
    test.api.webhook(&event_of("evt_1", "customer.created", &customer)).await.expect(200);
    assert_eq!(test.count("SELECT count(*) FROM provider_event").await, 0);
    // A payment of somebody else who shares the provider's account.
    test.api.webhook(&event("evt_2", "payment_intent.succeeded", "pi_other", PAYMENT)).await.expect(200);
    let stored = "SELECT count(*) FROM provider_event WHERE payment_id IS NULL AND processed_at IS NOT NULL";
    assert_eq!(test.count(stored).await, 1);
    assert_eq!(test.reconcile().await, 0);
    test.finish().await;
}

#[tokio::test]
async fn one_event_sent_many_times_at_once_is_one_hint() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    let body =
        event("evt_1", "payment_intent.amount_capturable_updated", "pi_unused", &payment_id.to_string());
    for answer in join_all((0..20).map(|_| test.api.webhook(&body))).await {
        answer.expect(200);
    }
    assert_eq!(test.count("SELECT count(*) FROM provider_event").await, 1);
    assert_eq!((test.reconcile().await, test.reconcile().await), (1, 0));
    // Sent again when it has taken effect: no second one.
    test.api.webhook(&body).await.expect(200);
    assert_eq!(test.reconcile().await, 0);
    assert_eq!(test.count("SELECT count(*) FROM provider_event WHERE processed_at IS NOT NULL").await, 1);
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'authorized'").await, 1);
    test.finish().await;
}

#[tokio::test]
async fn an_event_is_never_believed() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    let payment = payment_id.to_string();
    // Says that it was captured, refused, canceled; the provider says authorized.
    for (id, kind) in [
        ("evt_1", "payment_intent.succeeded"),
        ("evt_2", "payment_intent.payment_failed"),
        ("evt_3", "payment_intent.canceled"),
    ] {
        test.api.webhook(&event(id, kind, "pi_unused", &payment)).await.expect(200);
        assert_eq!(test.reconcile().await, 1);
        assert_eq!(test.payment(payment_id).await["status"], "authorized");
    }
    assert_eq!(test.api.order(&order_id.to_string()).await["status"], "confirmed");
    test.finish().await;
}

#[tokio::test]
async fn events_out_of_order_end_where_the_provider_is() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    test.authorize(payment_id).await.unwrap();
    test.capture(payment_id).await.unwrap();
    let reference = test.payment(payment_id).await["provider_reference"].as_str().unwrap().to_owned();
    let newest_first = [
        "payment_intent.succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.processing",
        "payment_intent.created",
    ];
    for (n, kind) in newest_first.into_iter().enumerate() {
        // Found by the provider's id: the event does not name the payment.
        test.api.webhook(&event(&format!("evt_{n}"), kind, &reference, "")).await.expect(200);
        assert_eq!(test.reconcile().await, 1, "{kind}");
        let payment = test.payment(payment_id).await;
        assert_eq!((&payment["status"], &payment["amount_captured"]), (&json!("captured"), &json!(1000)));
    }
    assert_eq!(moves(&test, payment_id).await, [1, 1, 0]);
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'captured'").await, 1);
    test.finish().await;
}

#[tokio::test]
async fn nothing_about_a_person_is_stored() {
    let (test, _, payment_id) = paying("pm_card_visa").await;
    let body = event("evt_1", "payment_intent.succeeded", "pi_1", &payment_id.to_string());
    assert!(body.contains("jo@example.org"));
    test.api.webhook(&body).await.expect(200);
    let stored = "SELECT count(*) FROM provider_event e WHERE e::text LIKE '%jo@example.org%'";
    assert_eq!((test.count(stored).await, test.count("SELECT count(*) FROM provider_event").await), (0, 1));
    test.stop().await;
}
