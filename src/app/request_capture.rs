//! Asking for a capture: the wish is committed with its event, and the payment worker, which holds the provider's key, carries
//! it out (`capture_payment`). A payment is captured once: what is not captured then is given free.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, answer, order_change::OrderChange, refund_payment::require_status,
    retry::retry,
};
use crate::{
    domain::{
        bounds::Amount,
        event::Event,
        ids::PaymentId,
        payment::PaymentStatus,
        validation::{Rule, Validator},
    },
    store::{idempotency::IdempotentRequest, payments},
};

/// A request to capture a payment.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "amount": 3998 }))]
pub struct RequestCapture {
    /// How much, minor units; what is due for the order if absent.
    #[schema(value_type = Option<Amount>)]
    pub amount: Option<i64>,
}

impl App {
    /// Writes down that an authorized payment is to be captured, and answers with it.
    ///
    /// # Errors
    /// Unknown payment; one that is not authorized, or on its way to be captured or voided; a dead order; more than is due.
    pub async fn request_capture(
        &self,
        request: &IdempotentRequest,
        id: PaymentId,
        capture: RequestCapture,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        Amount::require(&mut check, capture.amount, "/amount");
        check.finish().map_err(Error::Invalid)?;
        let order_id = self.find_payment(id).await?.order_id;
        retry("request_capture", || async {
            let mut tx = self.store.begin("request_capture").await?;
            let mut change = OrderChange::lock(&mut tx, order_id, cause).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let payment = change.lock_payment(&mut tx, id).await?;
            require_status(&payment, |status| status == PaymentStatus::Authorized)?;
            change.require_status(|status| !status.is_dead())?;
            let is_asked = payment.capture_requested_amount.or(payment.amount_capturing).is_some();
            if is_asked || payment.void_requested_at.is_some() {
                return Err(Conflict::PaymentInProgress { payment_id: id }.into());
            }
            let capturable = change.order.amount_due();
            let amount = capture.amount.unwrap_or(capturable);
            if amount > capturable {
                let detail = format!("must be 1 to {capturable}, which is authorized and due");
                return Err(Error::invalid(Rule::AmountExceedsAuthorized, "/amount", detail));
            }
            payments::mark_capture_requested(&mut tx, id, amount).await?;
            let payment = change.lock_payment(&mut tx, id).await?;
            change.emit(Event::PaymentCaptureRequested((&payment).into()));
            change.save(&mut tx).await?;
            let answer = answer::store(&mut tx, request, &payment).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}
