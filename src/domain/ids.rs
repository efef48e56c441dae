//! Typed ids: a UUIDv7 inside, a prefixed string outside (`ord_018f…`, 32 hex digits after the prefix).
//!
//! A v7 UUID sorts by the time it was made, which keeps index inserts at the right-hand edge and lets tables be
//! partitioned by id. An id of one kind never parses as another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::ToSchema;
use uuid::Uuid;

/// A string that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {prefix} followed by 32 hexadecimal digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $pattern:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
        #[schema(value_type = String, pattern = $pattern, example = $example)]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, greater than every id this process made before.
            #[expect(clippy::new_without_default, reason = "two calls give two ids; a default would hide that")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as the database stores it.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", Self::PREFIX, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, Self::PREFIX).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

id!(/// An order.
    OrderId, "ord_", "^ord_[0-9a-f]{32}$", "ord_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// A line of an order.
    OrderLineId, "line_", "^line_[0-9a-f]{32}$", "line_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// A reservation of stock for one order line at one location.
    ReservationId, "res_", "^res_[0-9a-f]{32}$", "res_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// A payment. Also the idempotency key towards the payment provider.
    PaymentId, "pay_", "^pay_[0-9a-f]{32}$", "pay_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// A refund of a payment.
    RefundId, "ref_", "^ref_[0-9a-f]{32}$", "ref_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// A shipment.
    ShipmentId, "shp_", "^shp_[0-9a-f]{32}$", "shp_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// An import of stock.
    ImportId, "imp_", "^imp_[0-9a-f]{32}$", "imp_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// An event. Its UUIDv7 time places it in a partition of the outbox history and of the inbox.
    EventId, "evt_", "^evt_[0-9a-f]{32}$", "evt_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// Whose API keys they are: a key and those that it was rotated to.
    ClientId, "cli_", "^cli_[0-9a-f]{32}$", "cli_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// An API key (its public id, not the secret).
    ApiKeyId, "key_", "^key_[0-9a-f]{32}$", "key_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");

id!(/// An endpoint of the merchant that events are posted to.
    WebhookEndpointId, "whe_", "^whe_[0-9a-f]{32}$", "whe_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");
id!(/// The delivery of one event to one endpoint.
    WebhookDeliveryId, "whd_", "^whd_[0-9a-f]{32}$", "whd_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c");

fn parse(text: &str, prefix: &'static str) -> Result<Uuid, ParseIdError> {
    let error = ParseIdError { prefix };
    let hex = text.strip_prefix(prefix).ok_or_else(|| error.clone())?;
    // `Uuid` also accepts hyphens, braces and upper case: one id has one spelling here.
    let canonical = hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return Err(error);
    }
    Uuid::try_parse(hex).map_err(|_| error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_what_it_prints() {
        let id = OrderId::new();
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_or_spelling_is_refused() {
        let id = OrderId::new();
        assert!(id.to_string().parse::<PaymentId>().is_err());
        assert!(id.to_string().to_uppercase().parse::<OrderId>().is_err());
        assert!(format!("ord_{}", id.uuid()).parse::<OrderId>().is_err());
        assert!("ord_".parse::<OrderId>().is_err());
    }

    #[test]
    fn ids_grow() {
        let first = EventId::new();
        assert!(first < EventId::new());
    }
}
