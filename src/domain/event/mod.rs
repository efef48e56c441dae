//! Events: what happened, once committed, told to the rest of the system.
//!
//! An event is written to the outbox in the transaction of the change that it tells of. All events of one order share
//! one sequence, 1, 2, 3 …, taken under the order's row lock, so that a consumer can tell a gap.
//!
//! The table below is the only list of what there is to tell: a type, its data, where it is published. Everything that says
//! something of events follows from it: what is emitted ([`Event`]), what a consumer reads ([`Event::read`]), the schemas
//! (`schema.rs`), the examples (`example.rs`), the documents. Within a version the data only ever gains optional fields.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    bounds::words,
    name::deserialize_from_name,
    validation::{FieldError, pointer},
};

mod aggregate;
mod envelope;
mod example;
mod inventory;
mod order;
mod payment;
mod schema;
mod shipment;

pub use aggregate::{Aggregate, SHARDS};
pub use envelope::Envelope;
pub use example::example;
pub use inventory::{InventoryAdjusted, LevelData};
pub use order::{
    EventLine, OrderCanceled, OrderConfirmed, OrderCreated, OrderCreatedLine, OrderExpired, OrderExtended,
    OrderFulfilled, OrderLinesCanceled,
};
pub use payment::{PaymentData, RefundData};
pub use schema::{Attribute, attributes};
pub use shipment::{ShipmentData, ShipmentReturned};

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
    ($($(#[doc = $doc:literal])+ $variant:ident($data:ty) = $name:literal on $topic:ident),+ $(,)?) => {
        /// What happened, with the version of its data's shape. Fields are only ever added within a version.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub enum EventType {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant),+
        }

        impl EventType {
            /// Every event type.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, which is also the routing key.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// When it is emitted, in words.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_start()),+ }
            }

            /// Where it is published.
            pub const fn topic(self) -> Topic {
                match self { $(Self::$variant => Topic::$topic),+ }
            }

            /// The schema of its data, and those that it refers to, by their names.
            fn data_schemas(self) -> (RefOr<Schema>, Vec<(String, RefOr<Schema>)>) {
                let mut named = Vec::new();
                let own = match self {
                    $(Self::$variant => {
                        <$data as ToSchema>::schemas(&mut named);
                        <$data as PartialSchema>::schema()
                    })+
                };
                (own, named)
            }
        }

        impl PartialSchema for EventType {
            fn schema() -> RefOr<Schema> {
                words([$($name),+])
            }
        }

        impl ToSchema for EventType {}

        /// What happened, with what there is to know. Serializes as the data alone.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Event {
            $($(#[doc = $doc])+ $variant($data)),+
        }

        impl Event {
            /// What happened.
            pub const fn event_type(&self) -> EventType {
                match self { $(Self::$variant(_) => EventType::$variant),+ }
            }

            /// The event of this type with this data, or which field does not fit the type. Fields that this program does not
            /// know are passed over: a newer one may have added them.
            pub fn read(event_type: EventType, data: &Value) -> Result<Self, FieldError> {
                match event_type { $(EventType::$variant => read(data).map(Self::$variant)),+ }
            }
        }
    };
}

event_types! {
    /// An order was placed and its stock is held.
    OrderCreated(OrderCreated) = "order.created.v1" on Orders,
    /// The money of an order is authorized and its stock committed.
    OrderConfirmed(OrderConfirmed) = "order.confirmed.v1" on Orders,
    /// Everything of an order has shipped that was not canceled.
    OrderFulfilled(OrderFulfilled) = "order.fulfilled.v1" on Orders,
    /// The time to pay an order ran out; its stock is free again.
    OrderExpired(OrderExpired) = "order.expired.v1" on Orders,
    /// An order was canceled; its stock is free again.
    OrderCanceled(OrderCanceled) = "order.canceled.v1" on Orders,
    /// Some units of an order were canceled.
    OrderLinesCanceled(OrderLinesCanceled) = "order.lines_canceled.v1" on Orders,
    /// An order has more time to be paid.
    OrderExtended(OrderExtended) = "order.extended.v1" on Orders,
    /// A shipment is to be packed.
    ShipmentCreated(ShipmentData) = "shipment.created.v1" on Orders,
    /// A shipment is packed and waits to leave.
    ShipmentPacked(ShipmentData) = "shipment.packed.v1" on Orders,
    /// A shipment has left; its stock is gone from the building.
    ShipmentShipped(ShipmentData) = "shipment.shipped.v1" on Orders,
    /// A shipment has reached the customer.
    ShipmentDelivered(ShipmentData) = "shipment.delivered.v1" on Orders,
    /// A shipment, or a part of it, came back.
    ShipmentReturned(ShipmentReturned) = "shipment.returned.v1" on Orders,
    /// A shipment will not leave.
    ShipmentCanceled(ShipmentData) = "shipment.canceled.v1" on Orders,
    /// A payment was asked for.
    PaymentCreated(PaymentData) = "payment.created.v1" on Payments,
    /// The customer has to act, e.g. confirm a payment with the bank.
    PaymentRequiresAction(PaymentData) = "payment.requires_action.v1" on Payments,
    /// The money of a payment is set aside.
    PaymentAuthorized(PaymentData) = "payment.authorized.v1" on Payments,
    /// The money of a payment is taken.
    PaymentCaptured(PaymentData) = "payment.captured.v1" on Payments,
    /// The provider refused a payment, or the money that was set aside is gone.
    PaymentFailed(PaymentData) = "payment.failed.v1" on Payments,
    /// The money of a payment will never be taken.
    PaymentVoided(PaymentData) = "payment.voided.v1" on Payments,
    /// Money of a payment went back.
    PaymentRefunded(PaymentData) = "payment.refunded.v1" on Payments,
    /// The merchant asked to capture a payment.
    PaymentCaptureRequested(PaymentData) = "payment.capture_requested.v1" on Payments,
    /// The merchant asked to void a payment.
    PaymentVoidRequested(PaymentData) = "payment.void_requested.v1" on Payments,
    /// Money is to go back.
    RefundCreated(RefundData) = "refund.created.v1" on Payments,
    /// The provider refused a refund, or the money came back from the customer's bank.
    RefundFailed(RefundData) = "refund.failed.v1" on Payments,
    /// `on_hand` of a level was set or adjusted by hand or import.
    InventoryAdjusted(InventoryAdjusted) = "inventory.adjusted.v1" on Inventory,
    /// What is left to sell of a level fell to its threshold or below, and not to 0.
    InventoryLowStock(LevelData) = "inventory.low_stock.v1" on Inventory,
    /// Nothing is left to sell of a level.
    InventoryOutOfStock(LevelData) = "inventory.out_of_stock.v1" on Inventory,
    /// There is something to sell of a level again.
    InventoryBackInStock(LevelData) = "inventory.back_in_stock.v1" on Inventory,
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

deserialize_from_name!(EventType);

fn read<T: DeserializeOwned>(data: &Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(data)
        .map_err(|error| FieldError { pointer: pointer(error.path()), detail: error.inner().to_string() })
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
    fn the_data_of_a_type_reads_back_and_a_newer_program_may_have_added_to_it() {
        for &event_type in EventType::ALL {
            let mut data = example(event_type).data;
            let event = Event::read(event_type, &data).expect("an example");
            assert_eq!(event.event_type(), event_type);
            assert_eq!(
                serde_json::to_value(&event).expect("JSON"),
                data,
                "the example of {event_type} is not whole"
            );
            data["added_later"] = true.into();
            assert_eq!(Event::read(event_type, &data), Ok(event));
        }
    }

    #[test]
    fn data_that_does_not_fit_its_type_names_the_field() {
        let mut data = example(EventType::OrderCreated).data;
        data["lines"][0]["quantity"] = "2".into();
        let error = Event::read(EventType::OrderCreated, &data).expect_err("a text for a number");
        assert_eq!(error.pointer, "/lines/0/quantity");
        assert!(error.detail.contains("invalid type"), "{}", error.detail);
        let error = Event::read(EventType::OrderExpired, &serde_json::json!({})).expect_err("nothing");
        assert_eq!((error.pointer.as_str(), error.detail.as_str()), ("", "missing field `order_id`"));
    }
}
