//! What the events of orders carry.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{
    bounds::{Metadata, Quantity, Text, UnitAmount, UnitCount},
    ids::{OrderId, OrderLineId},
    inventory::{LocationId, Sku},
    line_quantity::LineQuantity,
    money::Currency,
    order::{CaptureMethod, LineAllocation, OrderStatus},
};

/// An order as it was placed. The answer to the request that placed it is the same text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderCreated {
    /// Its id.
    pub id: OrderId,
    /// The merchant's own name for it.
    #[schema(value_type = Option<Text>)]
    pub client_reference: Option<String>,
    /// The merchant's name for the customer.
    #[schema(value_type = Option<Text>)]
    pub customer_id: Option<String>,
    /// Where it stands: `pending_payment`.
    pub status: OrderStatus,
    /// Sequence of its newest event: 1.
    #[schema(minimum = 1)]
    pub version: i64,
    /// ISO 4217 code of the currency of its amounts.
    #[schema(value_type = String, pattern = "^[A-Z]{3}$")]
    pub currency: Currency,
    /// What it costs, minor units.
    #[schema(value_type = UnitAmount)]
    pub total_amount: i64,
    /// When its money is captured.
    pub capture_method: CaptureMethod,
    /// The merchant's own data.
    #[schema(value_type = Metadata)]
    pub metadata: BTreeMap<String, String>,
    /// Until when its stock is held for payment.
    pub expires_at: DateTime<Utc>,
    /// Not canceled: null.
    pub canceled_at: Option<DateTime<Utc>>,
    /// Not canceled: null.
    #[schema(value_type = Option<Text>)]
    pub cancel_reason: Option<String>,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When it last changed: when it was placed.
    pub updated_at: DateTime<Utc>,
    /// What it buys, in the order it was sent.
    pub lines: Vec<OrderCreatedLine>,
}

/// A line of an order as it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderCreatedLine {
    /// Its id.
    pub id: OrderLineId,
    /// What is bought.
    pub sku: Sku,
    /// Where it is taken from; of a line that is split, the first of its locations.
    pub location_id: LocationId,
    /// How many were ordered.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
    /// Price of one, minor units.
    #[schema(value_type = UnitAmount)]
    pub unit_amount: i64,
    /// How many were canceled: 0.
    #[schema(value_type = UnitCount)]
    pub quantity_canceled: i64,
    /// How many have shipped: 0.
    #[schema(value_type = UnitCount)]
    pub quantity_fulfilled: i64,
    /// Where a line that is split is taken from, in the order in which the locations were chosen. Absent for any other line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<LineAllocation>,
}

/// Which order was confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: OrderId,
}

/// Which order is fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderFulfilled {
    /// The order.
    pub order_id: OrderId,
}

/// Which order has expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderExpired {
    /// The order.
    pub order_id: OrderId,
}

/// Which order was canceled, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderCanceled {
    /// The order.
    pub order_id: OrderId,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
}

/// What of an order was canceled, and what is left to pay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLinesCanceled {
    /// The order.
    pub order_id: OrderId,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// Which units were canceled now.
    pub lines: Vec<EventLine>,
    /// What all of its canceled units would have cost, minor units.
    #[schema(value_type = UnitAmount)]
    pub amount_canceled: i64,
    /// What is to be paid in all, minor units.
    #[schema(value_type = UnitAmount)]
    pub amount_due: i64,
}

/// Until when an order is held now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderExtended {
    /// The order.
    pub order_id: OrderId,
    /// Until when its stock is held for payment.
    pub expires_at: DateTime<Utc>,
}

/// So many units of an order line. Unlike the line of a request it may gain fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventLine {
    /// The order line.
    pub line_id: OrderLineId,
    /// How many units.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
}

impl EventLine {
    /// The lines that a request named.
    pub fn of(lines: &[LineQuantity]) -> Vec<Self> {
        lines.iter().map(|line| Self { line_id: line.line_id, quantity: line.quantity }).collect()
    }
}
