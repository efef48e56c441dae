//! Orders: their life, and how they look from outside.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    allocation::{Allocation, Part},
    ids::{OrderId, OrderLineId},
    inventory::{LevelKey, LocationId},
    money::Currency,
    status::status,
};

status! {
    /// The life of an order.
    OrderStatus {
        /// Stock is held, the money is not there yet.
        PendingPayment = "pending_payment" => [Confirmed, Expired, Canceled],
        /// Paid (authorized at least), stock committed.
        Confirmed = "confirmed" => [PartiallyFulfilled, Fulfilled, Canceled],
        /// A part has shipped.
        PartiallyFulfilled = "partially_fulfilled" => [Fulfilled],
        /// Everything has shipped.
        Fulfilled = "fulfilled" => [],
        /// Its time ran out before it was paid; its stock is free again.
        Expired = "expired" => [],
        /// Canceled; its stock is free again and its money is voided or refunded.
        Canceled = "canceled" => [],
    }
}

impl OrderStatus {
    /// A dead order holds neither stock nor money (G7).
    pub const fn is_dead(self) -> bool {
        matches!(self, Self::Expired | Self::Canceled)
    }
}

/// When the authorized money is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// As soon as the order is confirmed.
    #[default]
    Automatic,
    /// When the merchant asks for it.
    Manual,
}

impl CaptureMethod {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

impl std::str::FromStr for CaptureMethod {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "automatic" => Ok(Self::Automatic),
            "manual" => Ok(Self::Manual),
            _ => Err("must be automatic or manual"),
        }
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The merchant's own name for it.
    pub client_reference: Option<String>,
    /// The merchant's name for the customer.
    pub customer_id: Option<String>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Sequence of its newest event.
    pub version: i64,
    /// Currency of its amounts.
    pub currency: Currency,
    /// What it costs, minor units.
    pub total_amount: i64,
    /// When its money is captured.
    pub capture_method: CaptureMethod,
    /// The merchant's own data.
    pub metadata: BTreeMap<String, String>,
    /// Until when its stock is held for payment.
    pub expires_at: DateTime<Utc>,
    /// When it was canceled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// Why it was canceled.
    pub cancel_reason: Option<String>,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// What it buys, in the order it was sent.
    pub lines: Vec<OrderLine>,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLine {
    /// Its id.
    pub id: OrderLineId,
    /// What is bought and where it is taken from; of a line that is split, the first of its locations.
    #[serde(flatten)]
    pub level: LevelKey,
    /// How many were ordered.
    pub quantity: i64,
    /// Price of one, minor units.
    pub unit_amount: i64,
    /// How many were canceled.
    pub quantity_canceled: i64,
    /// How many have shipped.
    pub quantity_fulfilled: i64,
    /// Where a line that is split is taken from, in the order in which the locations were chosen. Absent for any other line:
    /// all of it is taken from its `location_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<LineAllocation>,
}

/// What a split line takes from one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineAllocation {
    /// From where.
    pub location_id: LocationId,
    /// How many units.
    pub quantity: i64,
}

impl LineAllocation {
    /// The parts of a line that is split; none of any other.
    pub fn of_split(allocation: &Allocation) -> Vec<Self> {
        if !allocation.is_split() {
            return Vec::new();
        }
        let part =
            |part: &Part| Self { location_id: part.level.location_id.clone(), quantity: part.quantity };
        allocation.parts().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_transition_table() {
        use OrderStatus::{Canceled, Confirmed, Expired, Fulfilled, PartiallyFulfilled, PendingPayment};
        let allowed = [
            (PendingPayment, Confirmed),
            (PendingPayment, Expired),
            (PendingPayment, Canceled),
            (Confirmed, PartiallyFulfilled),
            (Confirmed, Fulfilled),
            (Confirmed, Canceled),
            (PartiallyFulfilled, Fulfilled),
        ];
        for &from in OrderStatus::ALL {
            for &to in OrderStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
