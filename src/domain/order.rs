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
    name::deserialize_from_name,
    payment::PaymentStatus,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
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

deserialize_from_name!(CaptureMethod);

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
    /// What became of it. The answer that tells of its placing has none of these fields: see `event::OrderCreated`.
    #[serde(flatten)]
    pub progress: OrderProgress,
}

/// What became of an order since it was placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderProgress {
    /// What its canceled units would have cost, minor units.
    #[schema(required = false)]
    pub amount_canceled: i64,
    /// What is to be paid in all, minor units: `total_amount` less `amount_canceled`; nothing once it has expired.
    #[schema(required = false)]
    pub amount_due: i64,
    /// It was canceled with the wish to keep the money that was captured.
    #[schema(required = false)]
    pub keeps_money: bool,
    /// How often its time to pay was extended.
    #[schema(required = false)]
    pub extensions: i64,
    /// How its payment stands.
    #[schema(required = false)]
    pub payment_status: OrderPaymentStatus,
    /// How much of it has shipped.
    #[schema(required = false)]
    pub fulfillment_status: FulfillmentStatus,
    /// How much of what has shipped came back.
    #[schema(required = false)]
    pub return_status: ReturnStatus,
}

/// How the payment of an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderPaymentStatus {
    /// Nobody has tried to pay, or every try failed.
    Unpaid,
    /// A payment is not decided yet.
    Pending,
    /// The money is set aside.
    Authorized,
    /// The money is there.
    Paid,
    /// A part went back.
    PartiallyRefunded,
    /// All of it went back.
    Refunded,
    /// The money was given free before it was taken.
    Voided,
}

impl OrderPaymentStatus {
    /// How an order stands whose last payment, a live one before others, stands like this.
    pub const fn of(payment: Option<PaymentStatus>) -> Self {
        match payment {
            None | Some(PaymentStatus::Failed) => Self::Unpaid,
            Some(PaymentStatus::Processing | PaymentStatus::RequiresAction) => Self::Pending,
            Some(PaymentStatus::Authorized) => Self::Authorized,
            Some(PaymentStatus::Captured) => Self::Paid,
            Some(PaymentStatus::PartiallyRefunded) => Self::PartiallyRefunded,
            Some(PaymentStatus::Refunded) => Self::Refunded,
            Some(PaymentStatus::Voided) => Self::Voided,
        }
    }
}

/// How much of an order has shipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FulfillmentStatus {
    /// Nothing.
    Unfulfilled,
    /// A part, and more is to come.
    PartiallyFulfilled,
    /// All that was not canceled.
    Fulfilled,
}

impl FulfillmentStatus {
    /// From an order's lines.
    pub fn of(lines: &[OrderLine]) -> Self {
        if lines.iter().all(|line| line.quantity_fulfilled == 0) {
            Self::Unfulfilled
        } else if lines.iter().all(|line| line.open() == 0) {
            Self::Fulfilled
        } else {
            Self::PartiallyFulfilled
        }
    }
}

/// How much of what has shipped came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReturnStatus {
    /// Nothing.
    None,
    /// A part.
    PartiallyReturned,
    /// Everything.
    Returned,
}

impl ReturnStatus {
    /// From an order's lines.
    pub fn of(lines: &[OrderLine]) -> Self {
        if lines.iter().all(|line| line.returned() == 0) {
            Self::None
        } else if lines.iter().all(|line| line.returned() == line.quantity_fulfilled) {
            Self::Returned
        } else {
            Self::PartiallyReturned
        }
    }
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
    /// Where a line that is split was taken from when it was placed, in the order in which the locations were chosen. Absent
    /// for any other line: all of it is taken from its `location_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<LineAllocation>,
    /// What became of the line. Absent where the order's own is.
    #[serde(flatten)]
    pub progress: LineProgress,
}

/// What a split line takes from one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineAllocation {
    /// From where.
    pub location_id: LocationId,
    /// How many units.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
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

/// What became of an order line since it was placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineProgress {
    /// How many of those that have shipped came back.
    #[schema(required = false)]
    pub quantity_returned: i64,
    /// How many were refunded by a refund that names the line.
    #[schema(required = false)]
    pub quantity_refunded: i64,
}

impl OrderLine {
    /// Units that are neither canceled nor shipped.
    pub const fn open(&self) -> i64 {
        self.quantity - self.quantity_canceled - self.quantity_fulfilled
    }

    /// Units that came back.
    pub const fn returned(&self) -> i64 {
        self.progress.quantity_returned
    }

    /// Units that a refund may still name.
    pub fn refundable(&self) -> i64 {
        (self.quantity - self.quantity_canceled - self.progress.quantity_refunded).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(quantity: i64, quantity_canceled: i64, quantity_fulfilled: i64, returned: i64) -> OrderLine {
        OrderLine {
            id: OrderLineId::new(),
            level: LevelKey {
                sku: "a".parse().expect("a SKU"),
                location_id: "main".parse().expect("a location"),
            },
            quantity,
            unit_amount: 1,
            quantity_canceled,
            quantity_fulfilled,
            allocations: Vec::new(),
            progress: LineProgress { quantity_returned: returned, quantity_refunded: 0 },
        }
    }

    #[test]
    fn what_has_shipped_and_come_back_follows_from_the_lines() {
        use FulfillmentStatus::{Fulfilled, PartiallyFulfilled, Unfulfilled};
        use ReturnStatus::{None, PartiallyReturned, Returned};
        for (lines, fulfillment, returns) in [
            (vec![line(2, 0, 0, 0)], Unfulfilled, None),
            (vec![line(2, 2, 0, 0)], Unfulfilled, None),
            (vec![line(2, 0, 1, 0)], PartiallyFulfilled, None),
            (vec![line(2, 0, 2, 0), line(1, 0, 0, 0)], PartiallyFulfilled, None),
            (vec![line(2, 1, 1, 1), line(1, 1, 0, 0)], Fulfilled, Returned),
            (vec![line(2, 0, 2, 1)], Fulfilled, PartiallyReturned),
            (vec![line(2, 0, 1, 1)], PartiallyFulfilled, Returned),
        ] {
            let found = (FulfillmentStatus::of(&lines), ReturnStatus::of(&lines));
            assert_eq!(found, (fulfillment, returns), "{lines:?}");
        }
    }

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
