//! Shipments: their life, and how they look from outside.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bounds::{Text, WebUrl},
    ids::{OrderId, OrderLineId, ShipmentId},
    inventory::LocationId,
    status::status,
    validation::Validator,
};

status! {
    /// The life of a shipment.
    ShipmentStatus {
        /// To be packed.
        Pending = "pending" => [Packed, Canceled],
        /// Packed, still in the building.
        Packed = "packed" => [Shipped, Canceled],
        /// On its way: the stock has left.
        Shipped = "shipped" => [Delivered, Returned],
        /// With the customer.
        Delivered = "delivered" => [Returned],
        /// All of it is back.
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
    /// How it can be followed.
    pub tracking: Option<Tracking>,
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
    /// How many of them came back.
    pub quantity_returned: i64,
}

/// How a shipment can be followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tracking {
    /// Who carries it.
    #[schema(value_type = Text)]
    pub carrier: String,
    /// The carrier's number of it.
    #[schema(value_type = Text)]
    pub number: String,
    /// Where the customer can follow it.
    #[serde(default)]
    #[schema(value_type = Option<WebUrl>)]
    pub url: Option<String>,
}

impl Tracking {
    /// Checks the fields of `/tracking`.
    pub fn validate(&self, check: &mut Validator) {
        Text::require(check, self.carrier.as_str(), "/tracking/carrier");
        Text::require(check, self.number.as_str(), "/tracking/number");
        WebUrl::require(check, self.url.as_deref(), "/tracking/url");
    }
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
            (Shipped, Returned),
            (Delivered, Returned),
        ];
        for &from in ShipmentStatus::ALL {
            for &to in ShipmentStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
