//! The circuit breaker with workers: a provider that is away is left alone, nothing is recorded of its absence, and all of
//! it is made good when it is back.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use holdfast::{
    provider::{BreakerOptions, CircuitBreaker},
    worker::WorkerKind,
};
use serde_json::{Value, json};

use crate::support::{PATIENCE, app::TestApp, eventually, faulty_provider::Fault};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_provider_fails_nothing_and_ends_with_it() {
    let mut test = TestApp::start().await;
    let provider = test.make_faulty(Fault::Away);
    let options = BreakerOptions {
        window: Duration::from_mins(1),
        failures: 3,
        open: Duration::from_millis(500),
        budget: Duration::from_secs(20),
    };
    let breaker = CircuitBreaker::new(Arc::clone(&provider) as _, options);
    test.app.provider = Some(Arc::new(breaker));
    test.stock("a", 20).await;
    let orders = join_all((0..20).map(|_| test.placed(&[("a", 1)]))).await;
    let payments = join_all(orders.iter().map(|order_id| test.paying(order_id, "pm_card_visa"))).await;
    test.start_workers(&WorkerKind::ALL);
    // Three failures opened it; each probe is one more.
    eventually("a probe was let through", PATIENCE, async || provider.calls() >= 4).await;
    let failed =
        "SELECT count(*) FROM payment WHERE status <> 'processing' OR outcome_unknown_since IS NOT NULL";
    assert_eq!(test.count(failed).await, 0);
    assert_eq!(test.sandbox.summary().await["requests"], 0);
    provider.becomes(Fault::None);
    for order_id in &orders {
        test.order_becomes(order_id, "fulfilled").await;
    }
    for payment_id in &payments {
        let counts = test.sandbox.payment(payment_id).await;
        assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)));
        assert_eq!(test.payment_becomes(payment_id, "captured").await["decline_code"], Value::Null);
    }
    test.finish().await;
}

#[tokio::test]
async fn an_open_breaker_answers_at_once_and_lets_nothing_through() {
    let mut test = TestApp::start().await;
    let provider = test.make_faulty(Fault::Away);
    let options = BreakerOptions {
        window: PATIENCE,
        failures: 3,
        open: Duration::from_hours(1),
        budget: Duration::from_secs(20),
    };
    test.app.provider = Some(Arc::new(CircuitBreaker::new(Arc::clone(&provider) as _, options)));
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await.parse().unwrap();
    for _ in 0..10 {
        let error = test.authorize(payment_id).await.expect_err("away");
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(provider.calls(), 3);
    let payment = test.payment(payment_id).await;
    assert_eq!((&payment["status"], &payment["outcome_unknown_since"]), (&json!("processing"), &Value::Null));
    test.finish().await;
}
