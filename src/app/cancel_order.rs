//! Canceling an order: its stock is free at once, its money follows through `release_payment`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, answer, order_change::OrderChange, retry::retry,
    stock_events::move_reservations,
};
use crate::{
    domain::{
        event::EventType, ids::OrderId, new_order::require_text, order::OrderStatus,
        reservation::ReservationStatus, shipment::ShipmentStatus, validation::Validator,
    },
    store::{Conn, idempotency::IdempotentRequest, orders, payments, shipments},
};

/// A request to cancel an order.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "The customer changed their mind" }))]
pub struct CancelOrder {
    /// Why, in the merchant's words.
    pub reason: Option<String>,
}

impl App {
    /// Cancels an order that has not shipped, and answers with it.
    ///
    /// # Errors
    /// Unknown order; an order that has shipped or is dead; a payment that is not decided yet.
    pub async fn cancel_order(
        &self,
        request: &IdempotentRequest,
        id: OrderId,
        cancel: &CancelOrder,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        require_text(&mut check, cancel.reason.as_deref(), "/reason");
        check.finish().map_err(Error::Invalid)?;
        retry("cancel_order", || self.cancel_once(request, id, cancel, cause)).await
    }

    async fn cancel_once(
        &self,
        request: &IdempotentRequest,
        id: OrderId,
        cancel: &CancelOrder,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut tx = self.store.begin("cancel_order").await?;
        let mut change = OrderChange::lock(&mut tx, id, cause).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(answer);
        }
        refuse_undecided_payment(&mut tx, id).await?;
        let held_as = match change.order.status {
            OrderStatus::PendingPayment => ReservationStatus::Held,
            _ => ReservationStatus::Committed,
        };
        change.become_status(OrderStatus::Canceled)?;
        change.because(cancel.reason.clone());
        move_reservations(&mut tx, &[id], held_as, ReservationStatus::Released, cause).await?;
        orders::cancel_lines(&mut tx, id).await?;
        let unsent = [ShipmentStatus::Pending, ShipmentStatus::Packed];
        let canceled = shipments::mark_of_order(&mut tx, id, &unsent, ShipmentStatus::Canceled).await?;
        for shipment_id in canceled {
            let data = serde_json::json!({ "order_id": id, "shipment_id": shipment_id });
            change.emit(EventType::ShipmentCanceled, &data)?;
        }
        let data = serde_json::json!({ "order_id": id, "reason": cancel.reason });
        change.emit(EventType::OrderCanceled, &data)?;
        change.save(&mut tx).await?;
        let order = orders::find(&mut tx, id).await?;
        let answer = answer::store(&mut tx, request, &order).await?;
        tx.commit().await?;
        Ok(answer)
    }
}

/// Canceling under a payment that the provider has not decided could take money for nothing.
async fn refuse_undecided_payment(conn: &mut Conn, id: OrderId) -> Result<(), Error> {
    let payments = payments::lock_of_order(conn, id).await?;
    match payments.iter().find(|payment| payment.status.is_undecided()) {
        Some(payment) => Err(Conflict::PaymentInProgress { payment_id: payment.id }.into()),
        None => Ok(()),
    }
}
