//! Canceling a shipment: its stock stays committed to the order, and another shipment can take it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Error,
    retry::retry,
    shipment_change::{Begun, advance},
};
use crate::{
    domain::{event::Event, ids::ShipmentId, shipment::ShipmentStatus},
    store::{idempotency::IdempotentRequest, shipments},
};

/// A request to cancel a shipment.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct CancelShipment {}

impl App {
    /// Cancels a shipment that has not left, and answers with it.
    ///
    /// # Errors
    /// Unknown shipment; one that has left or is canceled.
    pub async fn cancel_shipment(
        &self,
        request: &IdempotentRequest,
        id: ShipmentId,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        retry("cancel_shipment", || async {
            let mut begun = match self.begin_shipment_change("cancel_shipment", request, id, cause).await? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::New(change) => change,
            };
            let (next, event) = (ShipmentStatus::Canceled, Event::ShipmentCanceled);
            advance(&mut begun.tx, &mut begun.order, &mut begun.shipment, next, None, event).await?;
            shipments::uncover_all(&mut begun.tx, id).await?;
            begun.finish(request).await
        })
        .await
    }
}
