//! A payment provider moves money once for an id, whatever is asked how often, and its answers are current.
//! Run against the Stripe adapter and the sandbox.

use futures_util::future::join_all;
use holdfast::{
    domain::ids::{OrderId, PaymentId, RefundId},
    provider::{
        Authorize, PaymentProvider, ProviderError, ProviderPayment, ProviderRefundStatus, ProviderStatus,
    },
};
use serde_json::json;

use crate::support::sandbox::TestSandbox;

pub(super) fn request(token: &str) -> Authorize {
    Authorize {
        payment_id: PaymentId::new(),
        order_id: OrderId::new(),
        amount: 10_000,
        currency: "EUR".parse().unwrap(),
        token: token.into(),
    }
}

fn amounts(payment: &ProviderPayment) -> (ProviderStatus, i64, i64, i64) {
    (payment.status, payment.amount, payment.amount_captured, payment.amount_refunded)
}

#[track_caller]
pub(super) fn assert_unknown<T: std::fmt::Debug>(result: Result<T, ProviderError>) {
    match result {
        Err(ProviderError::Unknown(_)) => {}
        other => panic!("not unknown: {other:?}"),
    }
}

#[track_caller]
pub(super) fn rejected<T: std::fmt::Debug>(result: Result<T, ProviderError>) -> (String, String) {
    match result {
        Err(ProviderError::Rejected { code, message }) => (code, message),
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn a_payment_is_authorized_captured_and_refunded() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    for token in ["pm_card_visa", "pm_card_mastercard", "pm_sandbox_wallet", "pm_sandbox_slow"] {
        let request = request(token);
        let payment = provider.authorize(&request).await.unwrap();
        assert_eq!(amounts(&payment), (ProviderStatus::Authorized, 10_000, 0, 0), "{token}");
        assert_eq!(provider.get(&payment.reference).await.unwrap(), payment);
        assert_eq!(provider.find(request.payment_id).await.unwrap(), Some(payment.clone()));

        let captured = provider.capture(request.payment_id, &payment.reference, 10_000).await.unwrap();
        assert_eq!(amounts(&captured), (ProviderStatus::Captured, 10_000, 10_000, 0), "{token}");
        let refund_id = RefundId::new();
        let refunded = provider.refund(refund_id, &payment.reference, 4_000).await.unwrap();
        assert_eq!(amounts(&refunded), (ProviderStatus::Captured, 10_000, 10_000, 4_000), "{token}");
        assert_eq!(refunded.refund(refund_id), Some(&ProviderRefundStatus::Succeeded));
        assert_eq!(refunded.refund(RefundId::new()), None);
        assert_eq!(provider.get(&payment.reference).await.unwrap(), refunded);
    }
    let summary = sandbox.summary().await;
    for (name, count) in [("intents", 4), ("authorized", 4), ("captured", 4), ("refunded", 4), ("voided", 0)]
    {
        assert_eq!(summary[name], count, "{summary}");
    }
}

#[tokio::test]
async fn a_refused_card_is_an_answer() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    for (token, code) in [
        ("pm_card_chargeDeclined", "generic_decline"),
        ("pm_card_visa_chargeDeclined", "generic_decline"),
        ("pm_card_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
    ] {
        let request = request(token);
        let payment = provider.authorize(&request).await.unwrap();
        assert_eq!(amounts(&payment), (ProviderStatus::Declined, 10_000, 0, 0));
        assert_eq!(payment.decline_code.as_deref(), Some(code));
        assert_eq!(provider.authorize(&request).await.unwrap(), payment);
        assert_eq!(provider.get(&payment.reference).await.unwrap(), payment);
        assert_eq!(provider.find(request.payment_id).await.unwrap(), Some(payment));
    }
    let summary = sandbox.summary().await;
    assert_eq!((&summary["declined"], &summary["authorized"]), (&json!(4), &json!(0)));
}

#[tokio::test]
async fn a_token_that_does_not_exist_is_rejected_and_not_shown() {
    let sandbox = TestSandbox::start().await;
    for token in ["pm_sandbox_no_such_token", "4242424242424242"] {
        let (code, message) = rejected(sandbox.provider().authorize(&request(token)).await);
        assert_eq!(code, "resource_missing");
        assert!(!message.contains(token), "{message}");
    }
    assert_eq!(sandbox.summary().await["intents"], 0);
}

#[tokio::test]
async fn a_customer_who_has_to_act_leaves_the_payment_open() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_requires_action");
    let payment = provider.authorize(&request).await.unwrap();
    assert_eq!(amounts(&payment), (ProviderStatus::RequiresAction, 10_000, 0, 0));
    let captured = provider.capture(request.payment_id, &payment.reference, 10_000).await.unwrap();
    assert_eq!(captured.status, ProviderStatus::RequiresAction);
    let voided = provider.void(request.payment_id, &payment.reference).await.unwrap();
    assert_eq!(voided.status, ProviderStatus::Voided);
    assert_eq!(sandbox.summary().await["authorized"], 0);
}

#[tokio::test]
async fn the_same_payment_id_is_one_payment_and_the_answer_is_current() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_card_visa");
    let first = provider.authorize(&request).await.unwrap();
    assert_eq!(provider.authorize(&request).await.unwrap(), first);
    provider.capture(request.payment_id, &first.reference, 10_000).await.unwrap();
    provider.refund(RefundId::new(), &first.reference, 1_000).await.unwrap();
    // The stored answers say "authorized" and "nothing refunded"; that was then.
    let expected = (ProviderStatus::Captured, 10_000, 10_000, 1_000);
    assert_eq!(amounts(&provider.authorize(&request).await.unwrap()), expected);
    let again = provider.capture(request.payment_id, &first.reference, 10_000).await.unwrap();
    assert_eq!(amounts(&again), expected);
    let counts = sandbox.payment(request.payment_id).await;
    assert_eq!((&counts["intents"], &counts["captures"]), (&json!(1), &json!(1)), "{counts}");
}

#[tokio::test]
async fn the_same_payment_id_with_another_amount_takes_no_second_effect() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_card_visa");
    let payment = provider.authorize(&request).await.unwrap();
    assert_unknown(provider.authorize(&Authorize { amount: 20_000, ..request.clone() }).await);
    assert_eq!(provider.find(request.payment_id).await.unwrap(), Some(payment));
    assert_eq!(sandbox.payment(request.payment_id).await["authorizations"], 1);
}

#[tokio::test]
async fn twenty_at_once_with_one_payment_id_make_one_payment() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    for token in ["pm_card_visa", "pm_sandbox_slow"] {
        let request = request(token);
        let answers = join_all((0..20).map(|_| provider.authorize(&request))).await;
        let mut authorized = 0;
        for answer in answers {
            match answer {
                Ok(payment) => {
                    assert_eq!(payment.status, ProviderStatus::Authorized);
                    authorized += 1;
                }
                Err(error) => assert!(matches!(error, ProviderError::Unknown(_)), "{error}"),
            }
        }
        assert!(authorized >= 1);
        let counts = sandbox.payment(request.payment_id).await;
        assert_eq!((&counts["intents"], &counts["authorizations"]), (&json!(1), &json!(1)), "{counts}");
    }
}

#[tokio::test]
async fn what_is_not_possible_any_more_is_answered_with_what_it_became() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let taken = request("pm_card_visa");
    let reference = provider.authorize(&taken).await.unwrap().reference;
    provider.capture(taken.payment_id, &reference, 10_000).await.unwrap();
    let answer = provider.void(taken.payment_id, &reference).await.unwrap();
    assert_eq!(amounts(&answer), (ProviderStatus::Captured, 10_000, 10_000, 0));
    // Under another idempotency key, as if another node asked.
    let answer = provider.capture(PaymentId::new(), &reference, 10_000).await.unwrap();
    assert_eq!(amounts(&answer), (ProviderStatus::Captured, 10_000, 10_000, 0));

    let freed = request("pm_card_visa");
    let reference = provider.authorize(&freed).await.unwrap().reference;
    let voided = provider.void(freed.payment_id, &reference).await.unwrap();
    assert_eq!(amounts(&voided), (ProviderStatus::Voided, 10_000, 0, 0));
    assert_eq!(provider.void(freed.payment_id, &reference).await.unwrap(), voided);
    assert_eq!(provider.void(PaymentId::new(), &reference).await.unwrap(), voided);
    assert_eq!(provider.capture(freed.payment_id, &reference, 10_000).await.unwrap(), voided);
    let summary = sandbox.summary().await;
    assert_eq!((&summary["captured"], &summary["voided"]), (&json!(1), &json!(1)), "{summary}");
}

#[tokio::test]
async fn never_more_is_captured_than_authorized_nor_refunded_than_captured() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_card_visa");
    let reference = provider.authorize(&request).await.unwrap().reference;
    rejected(provider.refund(RefundId::new(), &reference, 1).await);
    assert_eq!(rejected(provider.capture(PaymentId::new(), &reference, 10_001).await).0, "amount_too_large");

    let captured = provider.capture(request.payment_id, &reference, 7_000).await.unwrap();
    // The 3,000 let go of are not money sent back.
    assert_eq!(amounts(&captured), (ProviderStatus::Captured, 10_000, 7_000, 0));
    rejected(provider.refund(RefundId::new(), &reference, 7_001).await);
    let refund_id = RefundId::new();
    for _ in 0..2 {
        let refunded = provider.refund(refund_id, &reference, 3_000).await.unwrap();
        assert_eq!(amounts(&refunded), (ProviderStatus::Captured, 10_000, 7_000, 3_000));
    }
    let parallel = join_all((0..4).map(|_| provider.refund(RefundId::new(), &reference, 3_000))).await;
    assert_eq!(parallel.iter().filter(|result| result.is_ok()).count(), 1);
    let refunded = provider.refund(RefundId::new(), &reference, 1_000).await.unwrap();
    assert_eq!(amounts(&refunded), (ProviderStatus::Captured, 10_000, 7_000, 7_000));
    assert_eq!(rejected(provider.refund(RefundId::new(), &reference, 1).await).0, "charge_already_refunded");
}

#[tokio::test]
async fn a_refund_is_not_sent_back_before_it_has_succeeded_nor_after_it_has_failed() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_refund_pending");
    let reference = provider.authorize(&request).await.unwrap().reference;
    provider.capture(request.payment_id, &reference, 7_000).await.unwrap();
    // More than Stripe shows together with the payment.
    let mut refund_ids = Vec::new();
    for _ in 0..12 {
        refund_ids.push(RefundId::new());
        let payment = provider.refund(refund_ids[refund_ids.len() - 1], &reference, 500).await.unwrap();
        assert_eq!(amounts(&payment), (ProviderStatus::Captured, 10_000, 7_000, 0));
        assert_eq!(payment.refund(refund_ids[0]), Some(&ProviderRefundStatus::Pending));
    }
    sandbox.decide("refunds/succeed", request.payment_id).await;
    let payment = provider.get(&reference).await.unwrap();
    assert_eq!(amounts(&payment), (ProviderStatus::Captured, 10_000, 7_000, 6_000));
    sandbox.decide("refunds/fail", request.payment_id).await;
    let payment = provider.get(&reference).await.unwrap();
    assert_eq!(amounts(&payment), (ProviderStatus::Captured, 10_000, 7_000, 0));
    for id in refund_ids {
        let code = "expired_or_canceled_card".to_owned();
        assert_eq!(payment.refund(id), Some(&ProviderRefundStatus::Failed { code }));
    }
}

#[tokio::test]
async fn a_payment_that_nobody_made_is_not_found() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    assert_eq!(provider.find(PaymentId::new()).await.unwrap(), None);
    assert_eq!(rejected(provider.get("pi_no_such_payment").await).0, "resource_missing");
    for reference in ["", "..", "../refunds", "pi_a?b"] {
        assert_eq!(rejected(provider.get(reference).await).0, "invalid_reference");
        assert_eq!(rejected(provider.void(PaymentId::new(), reference).await).0, "invalid_reference");
    }
}

#[tokio::test]
async fn a_currency_that_would_be_charged_a_hundredfold_is_rejected_unsent() {
    let sandbox = TestSandbox::start().await;
    let request = Authorize { currency: "ISK".parse().unwrap(), ..request("pm_card_visa") };
    assert_eq!(rejected(sandbox.provider().authorize(&request).await).0, "currency_not_supported");
    assert_eq!(sandbox.summary().await["requests"], 0);
}
