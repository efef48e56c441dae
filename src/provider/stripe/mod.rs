//! Stripe's `PaymentIntents` API: one intent for a payment, confirmed at once, captured by hand.
//!
//! Owns the requests and their idempotency keys: `<payment id>`, `<payment id>:capture`, `<payment id>:void`, `<refund
//! id>`. Keeps nothing between calls and tries nothing twice: the caller decides, with what it knows about the payment.
//! A payment token is sent and never shown.

mod client;
mod failure;
mod webhook;
mod wire;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use client::{Answer, Call, Client, segment};
use failure::Failure;
use wire::{ApiError, Page, PaymentIntent, Refund};

pub use client::{StripeOptions, install_crypto_provider};
pub use webhook::StripeWebhooks;

use super::{Authorize, PaymentProvider, ProviderError, ProviderPayment, ProviderStatus};
use crate::domain::ids::{PaymentId, RefundId};

/// The charge says how much went back, and its refunds what became of each.
const EXPAND: (&str, &str) = ("expand[]", "latest_charge.refunds");

/// Payments through Stripe.
pub struct StripeProvider {
    client: Client,
}

impl fmt::Debug for StripeProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StripeProvider").field("base_url", &self.client.base_url()).finish_non_exhaustive()
    }
}

impl StripeProvider {
    /// The name of this provider in the `payment` table.
    pub const NAME: &'static str = "stripe";

    /// Checks the options; nothing is sent yet. Fails with `Rejected` if they are wrong.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "like every backend's constructor: no second copy of the key stays"
    )]
    pub fn new(options: StripeOptions) -> Result<Self, ProviderError> {
        Client::new(&options).map(|client| Self { client })
    }

    /// The payment in an answer; read again where the answer is an old one.
    async fn current(&self, answer: Answer) -> Result<ProviderPayment, ProviderError> {
        let payment = wire::read::<PaymentIntent>(&answer.body)?.into_payment()?;
        if answer.replayed { self.read_after(&payment.reference).await } else { Ok(payment) }
    }

    /// Reads a payment after a request about it took effect: without an answer, the outcome is what is unknown.
    async fn read_after(&self, reference: &str) -> Result<ProviderPayment, ProviderError> {
        self.get(reference).await.map_err(|error| match error {
            ProviderError::Unknown(_) => error,
            error => ProviderError::Unknown(format!("cannot read {reference} again: {error}")),
        })
    }

    /// Sends a request about a payment that exists; where that is not possible any more, what it became is the answer.
    async fn change(&self, reference: &str, call: Call<'_>) -> Result<ProviderPayment, ProviderError> {
        match self.client.send(call).await {
            Ok(answer) => self.current(answer).await,
            Err(Failure::Refused(_, ApiError { code: Some(code), .. }))
                if matches!(code.as_str(), "payment_intent_unexpected_state" | "charge_already_captured") =>
            {
                self.read_after(reference).await
            }
            Err(failure) => Err(failure.into()),
        }
    }
}

#[async_trait]
impl PaymentProvider for StripeProvider {
    async fn authorize(&self, request: &Authorize) -> Result<ProviderPayment, ProviderError> {
        if !wire::same_minor_unit(request.currency) {
            return Err(ProviderError::Rejected {
                code: "currency_not_supported".into(),
                message: format!("Stripe counts {} in another minor unit than ISO 4217", request.currency),
            });
        }
        let form = vec![
            ("amount", request.amount.to_string()),
            ("currency", request.currency.code().to_ascii_lowercase()),
            ("payment_method", request.token.clone()),
            ("confirm", "true".into()),
            ("capture_method", "manual".into()),
            // Confirmed by a server: a method that sends the customer elsewhere would need a `return_url`.
            ("automatic_payment_methods[enabled]", "true".into()),
            ("automatic_payment_methods[allow_redirects]", "never".into()),
            ("metadata[holdfast_payment_id]", request.payment_id.to_string()),
            ("metadata[holdfast_order_id]", request.order_id.to_string()),
            (EXPAND.0, EXPAND.1.into()),
        ];
        let call = Call::post("/payment_intents", request.payment_id.to_string(), form);
        match self.client.send(call).await {
            Ok(answer) => self.current(answer).await,
            Err(Failure::Refused(status, mut error)) => {
                error.hide(&request.token);
                let declined =
                    if error.kind.as_deref() == Some("card_error") { error.declined() } else { None };
                declined.ok_or_else(|| Failure::Refused(status, error).into())
            }
            Err(Failure::Other(error)) => Err(error),
        }
    }

    async fn find(&self, payment_id: PaymentId) -> Result<Option<ProviderPayment>, ProviderError> {
        let query = format!("metadata['{}']:'{payment_id}'", wire::PAYMENT_ID);
        let call = Call::get("/payment_intents/search", vec![("query", query)]);
        let answer = self.client.send(call).await?;
        let mut found = wire::read::<Page<PaymentIntent>>(&answer.body)?.data;
        found.retain(|intent| intent.belongs_to(payment_id));
        if found.len() > 1 {
            tracing::error!(%payment_id, intents = found.len(), "payment has more than one intent at the provider");
        }
        // Of several, the one that has the money.
        found.sort_by_key(|intent| match intent.status() {
            Some(ProviderStatus::Captured) => 0,
            Some(ProviderStatus::Authorized) => 1,
            Some(ProviderStatus::Processing | ProviderStatus::RequiresAction) | None => 2,
            Some(ProviderStatus::Voided | ProviderStatus::Declined) => 3,
        });
        match found.first() {
            // Search lags behind, by a minute at times; reading by id does not.
            Some(intent) => self.get(intent.id()).await.map(Some),
            None => Ok(None),
        }
    }

    async fn get(&self, reference: &str) -> Result<ProviderPayment, ProviderError> {
        let expand = vec![(EXPAND.0, EXPAND.1.to_owned())];
        let call = Call::get(format!("/payment_intents/{}", segment(reference)?), expand);
        let answer = self.client.send(call).await?;
        let mut intent = wire::read::<PaymentIntent>(&answer.body)?;
        if intent.lacks_refunds() {
            // The newest hundred of one payment: more than anybody makes while one of them is not settled.
            let form = vec![("payment_intent", reference.to_owned()), ("limit", "100".into())];
            let answer = self.client.send(Call::get("/refunds", form)).await?;
            intent.set_refunds(wire::read::<Page<Refund>>(&answer.body)?);
        }
        intent.into_payment()
    }

    async fn capture(
        &self,
        payment_id: PaymentId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        let path = format!("/payment_intents/{}/capture", segment(reference)?);
        let form = vec![("amount_to_capture", amount.to_string()), (EXPAND.0, EXPAND.1.into())];
        self.change(reference, Call::post(path, format!("{payment_id}:capture"), form)).await
    }

    async fn void(&self, payment_id: PaymentId, reference: &str) -> Result<ProviderPayment, ProviderError> {
        let path = format!("/payment_intents/{}/cancel", segment(reference)?);
        let form = vec![(EXPAND.0, EXPAND.1.into())];
        self.change(reference, Call::post(path, format!("{payment_id}:void"), form)).await
    }

    async fn refund(
        &self,
        refund_id: RefundId,
        reference: &str,
        amount: i64,
    ) -> Result<ProviderPayment, ProviderError> {
        let form = vec![
            ("payment_intent", reference.to_owned()),
            ("amount", amount.to_string()),
            (wire::REFUND_ID_FIELD, refund_id.to_string()),
        ];
        let answer = self.client.send(Call::post("/refunds", refund_id.to_string(), form)).await?;
        let made = wire::read::<Refund>(&answer.body)?.ours();
        let mut payment = self.read_after(reference).await?;
        // An answer that is replayed is old; what the payment says now comes first.
        if let Some(made) = made.filter(|made| payment.refund(made.id).is_none()) {
            payment.refunds.push(made);
        }
        Ok(payment)
    }

    async fn ping(&self, timeout: Duration) -> Result<(), ProviderError> {
        let mut call = Call::get("/payment_intents", vec![("limit", "1".into())]);
        call.timeout = Some(timeout);
        let answer = self.client.send(call).await?;
        wire::read::<Page<PaymentIntent>>(&answer.body).map(drop)
    }
}
