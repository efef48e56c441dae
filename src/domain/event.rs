//! Events: what happened, once committed, told to the rest of the system.
//!
//! An event is written to the outbox in the transaction of the change that it tells of. All events of one order share
//! one sequence, 1, 2, 3 …, taken under the order's row lock, so that a consumer can tell a gap.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};
use uuid::Uuid;

use super::{
    bounds::words,
    ids::{EventId, OrderId},
    inventory::LevelKey,
};

/// The topic exchange that an event is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Orders and their shipments.
    Orders,
    /// Payments and refunds.
    Payments,
    /// Stock.
    Inventory,
}

impl Topic {
    /// Every topic.
    pub const ALL: [Self; 3] = [Self::Orders, Self::Payments, Self::Inventory];

    /// The last part of the exchange's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Inventory => "inventory",
        }
    }
}

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal on $topic:ident),+ $(,)?) => {
        /// What happened, with the version of its data's shape. Fields are only ever added within a version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EventType {
            $($(#[$doc])* #[serde(rename = $name)] $variant),+
        }

        impl EventType {
            /// Every event type.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, which is also the routing key.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// Where it is published.
            pub const fn topic(self) -> Topic {
                match self { $(Self::$variant => Topic::$topic),+ }
            }
        }

        impl PartialSchema for EventType {
            fn schema() -> RefOr<Schema> {
                words([$($name),+])
            }
        }

        impl ToSchema for EventType {}
    };
}

event_types! {
    /// An order was placed and its stock is held.
    OrderCreated = "order.created.v1" on Orders,
    /// Its money is authorized and its stock committed.
    OrderConfirmed = "order.confirmed.v1" on Orders,
    /// Everything has shipped.
    OrderFulfilled = "order.fulfilled.v1" on Orders,
    /// Its time ran out; the stock is free again.
    OrderExpired = "order.expired.v1" on Orders,
    /// It was canceled; the stock is free again.
    OrderCanceled = "order.canceled.v1" on Orders,
    /// Some of its units were canceled.
    OrderLinesCanceled = "order.lines_canceled.v1" on Orders,
    /// It has more time to be paid.
    OrderExtended = "order.extended.v1" on Orders,
    /// A shipment is to be packed.
    ShipmentCreated = "shipment.created.v1" on Orders,
    /// A shipment is packed and waits to leave.
    ShipmentPacked = "shipment.packed.v1" on Orders,
    /// A shipment has left; its stock is gone from the building.
    ShipmentShipped = "shipment.shipped.v1" on Orders,
    /// A shipment has reached the customer.
    ShipmentDelivered = "shipment.delivered.v1" on Orders,
    /// A shipment, or a part of it, came back.
    ShipmentReturned = "shipment.returned.v1" on Orders,
    /// A shipment will not leave.
    ShipmentCanceled = "shipment.canceled.v1" on Orders,
    /// A payment was asked for.
    PaymentCreated = "payment.created.v1" on Payments,
    /// The customer has to act.
    PaymentRequiresAction = "payment.requires_action.v1" on Payments,
    /// The money is set aside.
    PaymentAuthorized = "payment.authorized.v1" on Payments,
    /// The money is ours.
    PaymentCaptured = "payment.captured.v1" on Payments,
    /// The provider refused.
    PaymentFailed = "payment.failed.v1" on Payments,
    /// The money will never be taken.
    PaymentVoided = "payment.voided.v1" on Payments,
    /// Money went back.
    PaymentRefunded = "payment.refunded.v1" on Payments,
    /// The merchant asked to capture.
    PaymentCaptureRequested = "payment.capture_requested.v1" on Payments,
    /// The merchant asked to void.
    PaymentVoidRequested = "payment.void_requested.v1" on Payments,
    /// Money is to go back.
    RefundCreated = "refund.created.v1" on Payments,
    /// The provider refused to send it back.
    RefundFailed = "refund.failed.v1" on Payments,
    /// `on_hand` of a level was set or adjusted by hand or import.
    InventoryAdjusted = "inventory.adjusted.v1" on Inventory,
    /// What is left to sell of a level fell to its threshold or below, and not to 0.
    InventoryLowStock = "inventory.low_stock.v1" on Inventory,
    /// Nothing is left to sell of a level.
    InventoryOutOfStock = "inventory.out_of_stock.v1" on Inventory,
    /// There is something to sell of a level again.
    InventoryBackInStock = "inventory.back_in_stock.v1" on Inventory,
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for EventType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|event_type| event_type.as_str() == text);
        found.ok_or_else(|| format!("unknown event type {text:?}"))
    }
}

/// Whose history an event belongs to. Events of one aggregate stay in order, events of two need not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aggregate {
    /// An order, with its payments and shipments.
    Order(OrderId),
    /// An inventory level.
    InventoryLevel(LevelKey),
}

/// Virtual shards of the outbox: the unit that a relay process leases.
pub const SHARDS: u128 = 16;

impl Aggregate {
    /// Its id in the outbox; for a level a UUIDv5 of its key.
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::Order(id) => id.uuid(),
            Self::InventoryLevel(key) => {
                let name = format!("{}\n{}", key.sku, key.location_id);
                Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
            }
        }
    }

    /// The `subject` of its events, e.g. `order/ord_…`.
    pub fn subject(&self) -> String {
        match self {
            Self::Order(id) => format!("order/{id}"),
            Self::InventoryLevel(key) => format!("inventory/{}/{}", key.sku, key.location_id),
        }
    }

    /// Its shard, 0 to 15. The low bits of a UUIDv7 are random, those of a v5 a hash.
    pub fn shard(&self) -> i16 {
        // Invariant: a remainder by 16 fits an i16.
        i16::try_from(self.uuid().as_u128() % SHARDS).unwrap_or(0)
    }
}

/// An event as it travels: the attributes of CloudEvents 1.0 and the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct Envelope {
    /// Which event this is. Every copy of it carries the same id.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Whose history it belongs to, as text.
    pub subject: String,
    /// Its place in that history: of an order from 1 without gaps, of a level only growing.
    pub sequence: i64,
    /// When the change was made.
    pub time: DateTime<Utc>,
    /// The request or event that began the chain.
    pub correlation_id: Option<String>,
    /// The event that this one follows from.
    pub causation_id: Option<EventId>,
    /// What there is to know, by type.
    pub data: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_and_says_its_version() {
        for &event_type in EventType::ALL {
            assert_eq!(event_type.as_str().parse(), Ok(event_type));
            let version = event_type.as_str().rsplit('.').next().expect("a last part");
            assert!(version.starts_with('v'), "{event_type}");
        }
    }

    #[test]
    fn the_shard_of_an_aggregate_never_changes() {
        let key = |sku: &str| LevelKey {
            sku: sku.parse().expect("a SKU"),
            location_id: "main".parse().expect("a location"),
        };
        let shard = Aggregate::InventoryLevel(key("a")).shard();
        assert_eq!(shard, Aggregate::InventoryLevel(key("a")).shard());
        assert!((0..16).contains(&shard));
        assert_ne!(Aggregate::InventoryLevel(key("a")).uuid(), Aggregate::InventoryLevel(key("b")).uuid());
    }
}
