//! Inventory: SKUs, locations, and the level of one SKU at one location.
//!
//! Invariant (G1): `reserved + committed <= on_hand + backorder_limit`, and no counter below zero. PostgreSQL holds it
//! as CHECK constraints; the arithmetic here decides before they have to.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::{
    bounds::Priority,
    event::{Event, LevelData},
};

/// The largest quantity of one counter. Keeps every sum of counters exact in an `i64`.
pub const MAX_QUANTITY: i64 = 1_000_000_000;

/// A name that is not a SKU or a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 visible ASCII characters without spaces")]
pub struct ParseNameError;

fn valid_name(text: &str) -> bool {
    // Visible ASCII only: two SKUs that look the same are the same, in logs, lock paths and queries.
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Names are read once and copied often: into lines, levels, answers.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, ToSchema)]
        #[serde(try_from = "String")]
        #[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^[!-~]{1,64}$")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if valid_name(text) { Ok(Self(text.into())) } else { Err(ParseNameError) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                if valid_name(&text) { Ok(Self(text.into())) } else { Err(ParseNameError) }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(/// A stock-keeping unit, case-sensitive.
      Sku);
name!(/// Where stock lies.
      LocationId);

/// A place that stock lies at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Location {
    /// Its id, as levels and order lines name it.
    pub id: LocationId,
    /// What people call it.
    pub name: Option<String>,
    /// Which location is taken from first: lower before higher, then by id.
    #[schema(value_type = Priority)]
    pub priority: i32,
    /// Whether new orders are taken from it without naming it.
    pub is_active: bool,
    /// Grows with every change.
    pub version: i64,
    /// When it was first known.
    pub created_at: DateTime<Utc>,
    /// When it was last set.
    pub updated_at: DateTime<Utc>,
}

/// One SKU at one location. Ordered by SKU, then location: the order in which levels are locked, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct LevelKey {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location_id: LocationId,
}

/// The counters of one SKU at one location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct InventoryLevel {
    /// Which level this is.
    #[serde(flatten)]
    pub key: LevelKey,
    /// Units in the building, sold ones that were not shipped yet included.
    pub on_hand: i64,
    /// Units held for orders that are not paid yet.
    pub reserved: i64,
    /// Units sold and not shipped yet.
    pub committed: i64,
    /// Units never sold.
    pub safety_stock: i64,
    /// How many units may be sold beyond `on_hand`.
    pub backorder_limit: i64,
    /// At or below which `available` is low stock; null: never.
    pub low_stock_threshold: Option<i64>,
    /// Grows with every change.
    pub version: i64,
}

impl InventoryLevel {
    /// A level that nothing was ever put on.
    pub const fn empty(key: LevelKey) -> Self {
        Self {
            key,
            on_hand: 0,
            reserved: 0,
            committed: 0,
            safety_stock: 0,
            backorder_limit: 0,
            low_stock_threshold: None,
            version: 0,
        }
    }

    /// Units that a new order may still reserve; below zero after a correction of `on_hand` under what is promised.
    pub fn available(&self) -> i64 {
        self.on_hand + self.backorder_limit - self.reserved - self.committed - self.safety_stock
    }

    /// The least that `on_hand` may be: what is promised to orders.
    pub fn minimum(&self) -> i64 {
        (self.reserved + self.committed - self.backorder_limit).max(0)
    }

    /// Whether there is nothing left to sell.
    pub fn is_out_of_stock(&self) -> bool {
        self.available() <= 0
    }

    /// Whether what is left is at or below the threshold, or nothing is left.
    pub fn is_low_stock(&self) -> bool {
        self.is_out_of_stock() || self.low_stock_threshold.is_some_and(|least| self.available() <= least)
    }
}

/// A level before and after a change, both as they are under its row lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelChange {
    /// As it was.
    pub before: InventoryLevel,
    /// As it is from then on.
    pub after: InventoryLevel,
}

impl LevelChange {
    /// What has to be told of the change: the one event, of the stronger kind, of what is left to sell. Also when it was not
    /// `available` that moved but the threshold.
    pub fn crossing(&self) -> Option<Event> {
        let Self { before, after } = self;
        let event = match (before.is_out_of_stock(), after.is_out_of_stock()) {
            (false, true) => Event::InventoryOutOfStock,
            (true, false) => Event::InventoryBackInStock,
            (false, false) if !before.is_low_stock() && after.is_low_stock() => Event::InventoryLowStock,
            _ => return None,
        };
        Some(event(LevelData::from(after)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_of_each_crossing_and_of_nothing_else() {
        use crate::domain::event::EventType::{
            InventoryBackInStock as Back, InventoryLowStock as Low, InventoryOutOfStock as Out,
        };
        let key =
            LevelKey { sku: "a".parse().expect("a SKU"), location_id: "main".parse().expect("a location") };
        let level = |(on_hand, low_stock_threshold)| InventoryLevel {
            on_hand,
            low_stock_threshold,
            ..InventoryLevel::empty(key.clone())
        };
        let some = Some(3);
        for (before, after, expected) in [
            ((5, None), (1, None), None),
            ((1, None), (0, None), Some(Out)),
            ((0, None), (0, None), None),
            ((0, None), (1, None), Some(Back)),
            ((5, some), (4, some), None),
            ((4, some), (3, some), Some(Low)),
            ((3, some), (1, some), None),
            ((1, some), (3, some), None),
            ((3, some), (4, some), None),
            ((5, some), (0, some), Some(Out)),
            ((0, some), (2, some), Some(Back)),
            ((0, some), (9, some), Some(Back)),
            // The threshold moves instead.
            ((3, None), (3, some), Some(Low)),
            ((3, some), (3, None), None),
            ((3, Some(2)), (3, some), Some(Low)),
            ((0, None), (0, some), None),
        ] {
            let change = LevelChange { before: level(before), after: level(after) };
            assert_eq!(
                change.crossing().map(|event| event.event_type()),
                expected,
                "{before:?} to {after:?}"
            );
        }
    }

    #[test]
    fn what_is_left_counts_promises_safety_stock_and_backorders() {
        let key =
            LevelKey { sku: "a".parse().expect("a SKU"), location_id: "main".parse().expect("a location") };
        let mut level = InventoryLevel {
            on_hand: 10,
            reserved: 3,
            committed: 2,
            safety_stock: 4,
            backorder_limit: 1,
            ..InventoryLevel::empty(key)
        };
        assert_eq!((level.available(), level.minimum()), (2, 4));
        level.backorder_limit = 9;
        assert_eq!((level.available(), level.minimum()), (10, 0));
    }

    #[test]
    fn names_are_visible_ascii() {
        for good in ["1095275", "a-b_c.d/e:f", &"x".repeat(64)] {
            assert!(good.parse::<Sku>().is_ok(), "{good}");
        }
        for wrong in ["", " ", "a b", "a\n", "é", "a\u{202e}b", &"x".repeat(65)] {
            assert_eq!(wrong.parse::<Sku>(), Err(ParseNameError), "{wrong:?}");
        }
    }
}
