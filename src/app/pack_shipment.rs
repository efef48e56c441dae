//! Packing a shipment: its units cannot be canceled one by one any more.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Error,
    create_shipment::refuse_unpaid,
    retry::retry,
    shipment_change::{Begun, advance, require_transition},
};
use crate::{
    domain::{
        event::Event,
        ids::ShipmentId,
        shipment::{ShipmentStatus, Tracking},
        validation::Validator,
    },
    store::idempotency::IdempotentRequest,
};

/// A request to pack a shipment.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct PackShipment {
    /// How it can be followed, if that is known now.
    pub tracking: Option<Tracking>,
}

impl App {
    /// Marks a pending shipment as packed, and answers with it.
    ///
    /// # Errors
    /// Unknown shipment; one that is not pending; an order whose payment is gone.
    pub async fn pack_shipment(
        &self,
        request: &IdempotentRequest,
        id: ShipmentId,
        pack: &PackShipment,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        validate_tracking(pack.tracking.as_ref())?;
        retry("pack_shipment", || async {
            let mut begun = match self.begin_shipment_change("pack_shipment", request, id, cause).await? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::New(change) => change,
            };
            let (next, event) = (ShipmentStatus::Packed, Event::ShipmentPacked);
            require_transition(&begun.shipment, next)?;
            refuse_unpaid(&mut begun.tx, &begun.order).await?;
            let tracking = pack.tracking.as_ref();
            advance(&mut begun.tx, &mut begun.order, &mut begun.shipment, next, tracking, event).await?;
            begun.finish(request).await
        })
        .await
    }
}

pub(super) fn validate_tracking(tracking: Option<&Tracking>) -> Result<(), Error> {
    let mut check = Validator::default();
    if let Some(tracking) = tracking {
        tracking.validate(&mut check);
    }
    check.finish().map_err(Error::Invalid)
}
