//! A failure says whether money may have moved: unknown, not reached, or rejected. Each token that fails after its
//! effect, and each way in which a server or a connection fails.

use std::time::{Duration, Instant};

use holdfast::{
    domain::ids::{PaymentId, RefundId},
    provider::{PaymentProvider, ProviderError, ProviderStatus},
};
use serde_json::json;
use tokio::net::TcpListener;

use super::provider::{assert_unknown, request};
use crate::support::{
    canned::Canned,
    sandbox::{SECRET_KEY, TestSandbox, provider},
};

#[tokio::test]
async fn an_answer_that_never_comes_is_unknown_and_the_payment_is_found() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_timeout_then_success");
    assert_unknown(sandbox.impatient_provider().authorize(&request).await);
    let found = provider.find(request.payment_id).await.unwrap().unwrap();
    assert_eq!(found.status, ProviderStatus::Authorized);
    assert_eq!(provider.authorize(&request).await.unwrap(), found);
    let captured = provider.capture(request.payment_id, &found.reference, 10_000).await.unwrap();
    assert_eq!(captured.status, ProviderStatus::Captured);
    let counts = sandbox.payment(request.payment_id).await;
    assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)), "{counts}");
}

#[tokio::test]
async fn a_payment_goes_on_after_the_client_gave_up() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_slow");
    assert_unknown(sandbox.impatient_provider().authorize(&request).await);
    // Still at work under this key: nothing to be seen yet, and no second payment.
    assert_unknown(provider.authorize(&request).await);
    assert_eq!(provider.find(request.payment_id).await.unwrap(), None);
    while provider.find(request.payment_id).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let payment = provider.authorize(&request).await.unwrap();
    assert_eq!(payment.status, ProviderStatus::Authorized);
    assert_eq!(provider.find(request.payment_id).await.unwrap(), Some(payment));
    assert_eq!(sandbox.payment(request.payment_id).await["authorizations"], 1);
}

#[tokio::test]
async fn an_error_after_the_authorization_is_unknown_however_often_it_is_asked() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_error_after_authorize");
    for _ in 0..3 {
        assert_unknown(provider.authorize(&request).await);
    }
    let found = provider.find(request.payment_id).await.unwrap().unwrap();
    assert_eq!(found.status, ProviderStatus::Authorized);
    assert_eq!(sandbox.payment(request.payment_id).await["authorizations"], 1);
}

#[tokio::test]
async fn an_error_after_the_capture_is_unknown_and_the_money_is_taken_once() {
    let sandbox = TestSandbox::start().await;
    let provider = sandbox.provider();
    let request = request("pm_sandbox_error_after_capture");
    let reference = provider.authorize(&request).await.unwrap().reference;
    for _ in 0..3 {
        assert_unknown(provider.capture(request.payment_id, &reference, 10_000).await);
    }
    let payment = provider.get(&reference).await.unwrap();
    assert_eq!((payment.status, payment.amount_captured), (ProviderStatus::Captured, 10_000));
    assert_eq!(sandbox.summary().await["captures_per_payment_max"], 1);
}

#[tokio::test]
async fn a_wrong_key_says_nothing_of_the_payment_and_is_not_shown() {
    let sandbox = TestSandbox::start().await;
    let provider = provider(&sandbox.url, "sk_test_wrong", Duration::from_secs(5));
    let errors = [
        provider.authorize(&request("pm_card_visa")).await.unwrap_err(),
        provider.find(PaymentId::new()).await.unwrap_err(),
        provider.ping(Duration::from_secs(5)).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("secret key") && !text.contains("sk_test_wrong"), "{text}");
    }
    assert!(!format!("{provider:?}").contains("sk_test_wrong"));
    sandbox.provider().ping(Duration::from_secs(5)).await.unwrap();
    assert_eq!(sandbox.summary().await["intents"], 0);
}

#[tokio::test]
async fn nothing_listening_is_unavailable_and_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let provider = provider(&format!("http://{address}"), SECRET_KEY, Duration::from_secs(5));
    for result in [
        provider.authorize(&request("pm_card_visa")).await.map(drop),
        provider.refund(RefundId::new(), "pi_a", 1).await.map(drop),
        provider.ping(Duration::from_secs(5)).await,
    ] {
        let Err(ProviderError::Unavailable(text)) = result else { panic!("{result:?}") };
        assert!(text.contains(&address) && text.contains("refused"), "{text}");
    }
}

#[tokio::test]
async fn a_host_without_an_address_and_a_server_without_tls_are_unavailable() {
    let plain = Canned::answer("200 OK", "{}").serve().await;
    for url in ["http://no-such-host.invalid".to_owned(), format!("https://{plain}")] {
        let result = provider(&url, SECRET_KEY, Duration::from_secs(10)).get("pi_a").await;
        assert!(matches!(result, Err(ProviderError::Unavailable(_))), "{url}: {result:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_unknown_within_the_time_out() {
    let address = Canned::Nothing.serve().await;
    let url = format!("http://{address}");
    let started = Instant::now();
    let impatient = provider(&url, SECRET_KEY, Duration::from_millis(300));
    assert_unknown(impatient.authorize(&request("pm_card_visa")).await);
    assert_unknown(impatient.capture(PaymentId::new(), "pi_a", 1).await);
    // A ping has a time-out of its own.
    let patient = provider(&url, SECRET_KEY, Duration::from_mins(1));
    assert_unknown(patient.ping(Duration::from_millis(50)).await);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_unknown() {
    let cut_off = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\n{\"id\":";
    for canned in [Canned::Send(String::new()), Canned::Send(cut_off.into()), Canned::Send("nonsense".into())]
    {
        let address = canned.serve().await;
        let provider = provider(&format!("http://{address}"), SECRET_KEY, Duration::from_secs(5));
        assert_unknown(provider.authorize(&request("pm_card_visa")).await);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_providers_is_unknown() {
    for (status, body) in [
        ("200 OK", "<html>"),
        ("200 OK", "{}"),
        ("200 OK", r#"{"id":"pi_a","amount":1,"status":"brand_new"}"#),
        ("302 Found", ""),
        ("400 Bad Request", "<html>"),
        ("500 Internal Server Error", ""),
        ("503 Service Unavailable", r#"{"error":{"type":"api_error","message":"m"}}"#),
    ] {
        let address = Canned::answer(status, body).serve().await;
        let provider = provider(&format!("http://{address}"), SECRET_KEY, Duration::from_secs(5));
        assert_unknown(provider.authorize(&request("pm_card_visa")).await);
    }
}

#[tokio::test]
async fn too_many_requests_is_unavailable() {
    let body = r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"m"}}"#;
    let address = Canned::answer("429 Too Many Requests", body).serve().await;
    let provider = provider(&format!("http://{address}"), SECRET_KEY, Duration::from_secs(5));
    let result = provider.authorize(&request("pm_card_visa")).await;
    assert!(matches!(result, Err(ProviderError::Unavailable(_))), "{result:?}");
}
