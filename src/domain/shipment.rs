//! Shipments: their life, and how they look from outside.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ids::{OrderId, OrderLineId, ShipmentId},
    inventory::LocationId,
    status::status,
};

status! {
    /// The life of a shipment.
    ShipmentStatus {
        /// To be packed.
        Pending = "pending" => [Packed, Canceled],
        /// Packed, still in the building.
        Packed = "packed" => [Shipped, Canceled],
        /// On its way: the stock has left.
        Shipped = "shipped" => [Delivered],
        /// With the customer.
        Delivered = "delivered" => [Returned],
        /// Back again.
        Returned = "returned" => [],
        /// Never left.
        Canceled = "canceled" => [],
    }
}

/// A shipment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shipment {
    /// Its id.
    pub id: ShipmentId,
    /// The order.
    pub order_id: OrderId,
    /// Where it leaves from.
    pub location_id: LocationId,
    /// Where it stands.
    pub status: ShipmentStatus,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it left.
    pub shipped_at: Option<DateTime<Utc>>,
    /// What it holds.
    pub lines: Vec<ShipmentLine>,
}

/// What a shipment holds for one order line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipmentLine {
    /// The order line.
    pub order_line_id: OrderLineId,
    /// How many units.
    pub quantity: i64,
}

#[cfg(test)]
mod tests {
    use super::ShipmentStatus::{self, Canceled, Delivered, Packed, Pending, Returned, Shipped};

    #[test]
    fn the_whole_transition_table() {
        let allowed = [
            (Pending, Packed),
            (Pending, Canceled),
            (Packed, Shipped),
            (Packed, Canceled),
            (Shipped, Delivered),
            (Delivered, Returned),
        ];
        for &from in ShipmentStatus::ALL {
            for &to in ShipmentStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
