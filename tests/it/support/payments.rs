//! A payment step by step: each use case called as its event would call it, and time that passes at once.

use std::{sync::Arc, time::Duration};

use holdfast::{
    app::{Cause, Error, Handling, Progress},
    domain::ids::{EventId, OrderId, PaymentId},
    provider::ProviderError,
    store::payment_lookups::FIRST_WAIT_SECONDS,
};
use serde_json::{Value, json};

use super::{
    api::id,
    app::{Setup, TestApp},
    faulty_provider::{Fault, FaultyProvider},
};

/// An event that nobody has handled yet.
pub(crate) fn new_event() -> Handling {
    Handling { consumer: "payment", event_id: EventId::new(), cause: Cause::default() }
}

/// A test whose provider is waited for only shortly, with one order of 10.00 and a payment of it.
pub(crate) async fn paying(token: &str) -> (TestApp, OrderId, PaymentId) {
    let provider_timeout = Duration::from_millis(500);
    let payment_pin = Duration::ZERO;
    let test = TestApp::start_with(Setup { payment_pin, provider_timeout, ..Setup::default() }).await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, token).await;
    (test, order_id.parse().unwrap(), payment_id.parse().unwrap())
}

/// A test with one order, and a payment of it whose money is captured on request.
pub(crate) async fn paying_by_hand() -> (TestApp, String, PaymentId) {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let body = json!({ "method": "card", "payment_token": "pm_card_visa", "capture_method": "manual" });
    let payment = test.api.post(&format!("/v1/orders/{order_id}/payments"), &body).await.expect(201);
    let payment_id = id(&payment).parse().unwrap();
    (test, order_id, payment_id)
}

impl TestApp {
    pub(crate) async fn authorize(&self, id: PaymentId) -> Result<Progress, Error> {
        self.app.authorize_payment(&new_event(), id).await
    }

    pub(crate) async fn capture(&self, id: PaymentId) -> Result<Progress, Error> {
        self.app.capture_payment(&new_event(), id).await
    }

    pub(crate) async fn release(&self, id: OrderId) -> Progress {
        self.app.release_payment(&new_event(), id).await.unwrap()
    }

    pub(crate) async fn payment(&self, id: impl std::fmt::Display) -> Value {
        self.api.get(&format!("/v1/payments/{id}")).await.expect(200)
    }

    /// Carries out what refunds are pending, as their events would.
    pub(crate) async fn refund(&self) {
        let pending = "SELECT id FROM refund WHERE status = 'pending' ORDER BY id";
        let pending: Vec<uuid::Uuid> =
            sqlx::query_scalar(pending).fetch_all(&mut *self.conn().await).await.unwrap();
        for id in pending {
            assert_eq!(self.app.carry_out_refund(&new_event(), id.into()).await.unwrap(), Progress::Done);
        }
    }

    pub(crate) async fn expire(&self, id: OrderId) -> usize {
        self.app.expire_orders(Some(&[id]), 10, &Cause::default()).await.unwrap()
    }

    /// Looks up what is due. Gives how many payments were.
    pub(crate) async fn reconcile(&self) -> usize {
        self.app.reconcile_payments(100).await.unwrap()
    }

    /// Makes every payment and every refund so much older.
    pub(crate) async fn payments_age(&self, seconds: f64) {
        let statement = "UPDATE payment SET created_at = created_at - make_interval(secs => $1),
                updated_at = updated_at - make_interval(secs => $1),
                next_lookup_at = next_lookup_at - make_interval(secs => $1),
                asked_at = asked_at - make_interval(secs => $1),
                outcome_unknown_since = outcome_unknown_since - make_interval(secs => $1)";
        sqlx::query(statement).bind(seconds).execute(&mut *self.conn().await).await.unwrap();
        let statement = "UPDATE refund SET created_at = created_at - make_interval(secs => $1),
                asked_at = asked_at - make_interval(secs => $1),
                updated_at = updated_at - make_interval(secs => $1),
                outcome_unknown_since = outcome_unknown_since - make_interval(secs => $1)";
        sqlx::query(statement).bind(seconds).execute(&mut *self.conn().await).await.unwrap();
    }

    /// Puts a provider that fails before the one of the test.
    pub(crate) fn make_faulty(&mut self, fault: Fault) -> Arc<FaultyProvider> {
        let faulty = FaultyProvider::new(self.app.provider.take().unwrap(), fault);
        self.app.provider = Some(Arc::clone(&faulty) as _);
        faulty
    }
}

pub(crate) fn is_unknown(outcome: &Result<Progress, Error>) -> bool {
    matches!(outcome, Err(Error::Provider(ProviderError::Unknown(_))))
}

/// `(authorizations, captures, refunds)` that happened to the money, whatever the answers said.
pub(crate) async fn moves(test: &TestApp, id: PaymentId) -> [i64; 3] {
    let counts = test.sandbox.payment(id).await;
    ["authorizations", "captures", "refunds"].map(|name| counts[name].as_i64().unwrap())
}

/// A little longer than a payment has to be settled by events.
pub(crate) const A_MINUTE: f64 = FIRST_WAIT_SECONDS + 1.0;

/// Where a payment stands.
pub(crate) async fn status(test: &TestApp, id: PaymentId) -> Value {
    test.payment(id).await["status"].clone()
}

/// Seconds until the next look-up of the one payment; `None` where there will be none.
pub(crate) async fn wait(test: &TestApp) -> Option<f64> {
    let query = "SELECT extract(epoch FROM next_lookup_at - now())::float8 FROM payment";
    sqlx::query_scalar(query).fetch_one(&mut *test.conn().await).await.unwrap()
}
