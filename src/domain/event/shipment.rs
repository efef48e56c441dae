//! What the events of shipments carry.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EventLine;
use crate::domain::{
    bounds::Text,
    ids::{OrderId, ShipmentId},
    shipment::ShipmentStatus,
};

/// Which shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipmentData {
    /// The order.
    pub order_id: OrderId,
    /// The shipment.
    pub shipment_id: ShipmentId,
}

/// What of a shipment came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipmentReturned {
    /// The order.
    pub order_id: OrderId,
    /// The shipment.
    pub shipment_id: ShipmentId,
    /// Where the shipment stands: `returned` once all of it is back.
    pub status: ShipmentStatus,
    /// Which units came back now.
    pub lines: Vec<EventLine>,
    /// Whether they are on the shelf again.
    pub restock: bool,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
}
