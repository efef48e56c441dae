//! How an existing shipment is changed on request: its order's row lock first, which is the lock of all that belongs to the
//! order; then the change; then the order's version, the events and the answer in the same transaction.

use super::{Answer, App, Cause, Conflict, Error, answer, order_change::OrderChange};
use crate::{
    domain::{
        event::{Event, ShipmentData},
        ids::ShipmentId,
        shipment::{Shipment, ShipmentStatus, Tracking},
    },
    store::{Conn, Tx, idempotency::IdempotentRequest, shipments},
};

/// A shipment under its order's lock.
pub(super) struct ShipmentChange {
    pub(super) tx: Tx,
    pub(super) order: OrderChange,
    pub(super) shipment: Shipment,
}

/// A request about a shipment that has just begun.
pub(super) enum Begun {
    /// It took effect before.
    Answered(Answer),
    /// It is to be carried out.
    New(Box<ShipmentChange>),
}

impl App {
    /// Locks the shipment's order, and looks whether the request has taken effect before.
    pub(super) async fn begin_shipment_change(
        &self,
        name: &'static str,
        request: &IdempotentRequest,
        id: ShipmentId,
        cause: &Cause,
    ) -> Result<Begun, Error> {
        let not_found = || Error::NotFound { kind: "shipment", id: id.to_string() };
        let mut tx = self.store.begin(name).await?;
        // Its order never changes; what it holds, and its status, are read again under the lock.
        let order_id = shipments::find(&mut tx, id).await?.ok_or_else(not_found)?.order_id;
        let order = OrderChange::lock(&mut tx, order_id, cause).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(Begun::Answered(answer));
        }
        let shipment = shipments::find(&mut tx, id).await?.ok_or_else(not_found)?;
        Ok(Begun::New(Box::new(ShipmentChange { tx, order, shipment })))
    }
}

impl ShipmentChange {
    /// Writes what changed of the order, and its events, and answers with the shipment.
    pub(super) async fn finish(mut self, request: &IdempotentRequest) -> Result<Answer, Error> {
        self.order.save(&mut self.tx).await?;
        let shipment = shipments::find(&mut self.tx, self.shipment.id).await?;
        let answer = answer::store(&mut self.tx, request, &shipment).await?;
        self.tx.commit().await?;
        Ok(answer)
    }
}

/// Moves a shipment on, if its status allows that, and tells of it.
pub(super) async fn advance(
    conn: &mut Conn,
    order: &mut OrderChange,
    shipment: &mut Shipment,
    next: ShipmentStatus,
    tracking: Option<&Tracking>,
    event: fn(ShipmentData) -> Event,
) -> Result<(), Error> {
    require_transition(shipment, next)?;
    shipments::mark(conn, shipment.id, shipment.status, next, tracking).await?;
    shipment.status = next;
    order.emit_shipment(event, shipment.id);
    Ok(())
}

/// Fails unless the shipment's status allows `next`.
pub(super) fn require_transition(shipment: &Shipment, next: ShipmentStatus) -> Result<(), Error> {
    Ok(Conflict::require_status("shipment", shipment.status, |status| status.may_become(next))?)
}
