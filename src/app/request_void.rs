//! Asking for a void: the wish is committed with its event, and the payment worker carries it out (`void_payment`).
//!
//! The rule: a living order that has been paid keeps its stock by its payment, so that payment is not voided alone; whoever
//! wants that cancels the order, which voids it. What remains is a payment that waits for the customer: it is given up, the
//! order goes on waiting, and can be paid in another way. A payment that the customer confirms after that confirms nothing.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, answer, order_change::OrderChange, refund_payment::require_status,
    retry::retry,
};
use crate::{
    domain::{
        bounds::Text, event::Event, ids::PaymentId, order::OrderStatus, payment::PaymentStatus,
        validation::Validator,
    },
    store::{idempotency::IdempotentRequest, payments},
};

/// A request to void a payment.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "Will pay in another way" }))]
pub struct RequestVoid {
    /// Why, in the merchant's words.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
}

impl App {
    /// Writes down that a payment is to be voided, and answers with it.
    ///
    /// # Errors
    /// Unknown payment; one that is neither authorized nor waits for the customer, or is to be voided already; one that a
    /// living order needs.
    pub async fn request_void(
        &self,
        request: &IdempotentRequest,
        id: PaymentId,
        void: &RequestVoid,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        Text::require(&mut check, void.reason.as_deref(), "/reason");
        check.finish().map_err(Error::Invalid)?;
        let order_id = self.find_payment(id).await?.order_id;
        retry("request_void", || async {
            let mut tx = self.store.begin("request_void").await?;
            let mut change = OrderChange::lock(&mut tx, order_id, cause).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let payment = change.lock_payment(&mut tx, id).await?;
            require_status(&payment, |status| {
                matches!(status, PaymentStatus::RequiresAction | PaymentStatus::Authorized)
            })?;
            let status = change.order.status;
            if !status.is_dead() && status != OrderStatus::PendingPayment {
                return Err(Conflict::OrderNeedsPayment { order_id, current_status: status.as_str() }.into());
            }
            if payment.void_requested_at.is_some() || payment.amount_capturing.is_some() {
                return Err(Conflict::PaymentInProgress { payment_id: id }.into());
            }
            payments::mark_void_requested(&mut tx, id, void.reason.as_deref()).await?;
            let payment = change.lock_payment(&mut tx, id).await?;
            change.emit(Event::PaymentVoidRequested((&payment).into()));
            change.save(&mut tx).await?;
            let answer = answer::store(&mut tx, request, &payment).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}
