//! Delivering a shipment: it has reached the customer.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Error,
    retry::retry,
    shipment_change::{Begun, advance},
};
use crate::{
    domain::{event::Event, ids::ShipmentId, shipment::ShipmentStatus},
    store::idempotency::IdempotentRequest,
};

/// A request to mark a shipment as delivered.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct DeliverShipment {}

impl App {
    /// Marks a shipment as delivered, and answers with it.
    ///
    /// # Errors
    /// Unknown shipment; one that is not on its way.
    pub async fn deliver_shipment(
        &self,
        request: &IdempotentRequest,
        id: ShipmentId,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        retry("deliver_shipment", || async {
            let mut begun = match self.begin_shipment_change("deliver_shipment", request, id, cause).await? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::New(change) => change,
            };
            let (next, event) = (ShipmentStatus::Delivered, Event::ShipmentDelivered);
            advance(&mut begun.tx, &mut begun.order, &mut begun.shipment, next, None, event).await?;
            begun.finish(request).await
        })
        .await
    }
}
