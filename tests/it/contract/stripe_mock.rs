//! Every request of the Stripe adapter against a server that is not ours: Stripe's mock refuses what is not in Stripe's
//! OpenAPI description, and its answers have every field that Stripe's have.

use std::time::Duration;

use holdfast::{
    domain::ids::{PaymentId, RefundId},
    provider::{PaymentProvider, ProviderError},
};
use reqwest::StatusCode;

use super::provider::request;
use crate::support::{
    sandbox::{http_client, provider},
    stripe_mock::{KEY, StripeMock},
};

/// What the mock's answers mean is an example's business; that they were given and could be read is the adapter's.
#[track_caller]
fn accepted<T>(result: Result<T, ProviderError>) -> T {
    result.unwrap_or_else(|error| panic!("refused, or not readable: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_in_stripes_description_and_every_answer_is_read() {
    let mock = StripeMock::start().await;
    let provider = provider(&mock.url, KEY, Duration::from_secs(20));
    let request = request("pm_card_visa");
    let reference = accepted(provider.authorize(&request).await).reference;
    assert!(reference.starts_with("pi_"), "{reference}");
    accepted(provider.get(&reference).await);
    // The mock finds somebody else's example.
    assert_eq!(accepted(provider.find(request.payment_id).await), None);
    accepted(provider.capture(request.payment_id, &reference, request.amount).await);
    accepted(provider.capture(PaymentId::new(), &reference, 1).await);
    accepted(provider.void(request.payment_id, &reference).await);
    accepted(provider.refund(RefundId::new(), &reference, 1).await);
    accepted(provider.ping(Duration::from_secs(20)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mock_refuses_what_stripe_does_not_know() {
    let mock = StripeMock::start().await;
    let post = async |path: &str, form: &[(&str, &str)]| {
        let request = http_client().post(format!("{}/v1{path}", mock.url)).bearer_auth(KEY).form(form);
        request.send().await.unwrap().status()
    };
    let good = [("amount", "100"), ("currency", "usd")];
    assert_eq!(post("/payment_intents", &good).await, StatusCode::OK);
    for wrong in [[good[0], ("currncy", "usd")], [("amount", "a lot"), good[1]]] {
        assert_eq!(post("/payment_intents", &wrong).await, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    assert_eq!(post("/payment_intents/pi_1/captur", &[]).await, StatusCode::NOT_FOUND);
}
