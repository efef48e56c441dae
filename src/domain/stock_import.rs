//! Imports of stock: a file of rows, each of which sets or adds to one level and stands or falls alone.
//!
//! [`RowFields::apply`] is the only place where it is decided what a row does to its level.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ids::ImportId,
    inventory::{InventoryLevel, LevelKey, MAX_QUANTITY},
    status::status,
};

/// The most rows of one import.
pub const MAX_ROWS: usize = 200_000;

/// What the rows of an import say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// What is on hand.
    Set,
    /// By how much what is on hand changes.
    Delta,
}

impl ImportMode {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Delta => "delta",
        }
    }
}

impl fmt::Display for ImportMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ImportMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::Set, Self::Delta].into_iter().find(|mode| mode.as_str() == text);
        found.ok_or("must be one of set, delta")
    }
}

status! {
    /// The life of an import.
    ImportStatus {
        /// Waits for a worker.
        Pending = "pending" => [Running, Completed, Canceled],
        /// Some of its rows are done.
        Running = "running" => [Completed, Canceled],
        /// Every row is done.
        Completed = "completed" => [],
        /// Stopped: the rows that were done stay done, the others are left.
        Canceled = "canceled" => [],
    }
}

status! {
    /// What became of a row.
    RowStatus {
        /// Nothing yet.
        Pending = "pending" => [Applied, Failed],
        /// Its level is as it says; of a dry run: it would be.
        Applied = "applied" => [],
        /// Its level is as it was.
        Failed = "failed" => [],
    }
}

/// An import of stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StockImport {
    /// Its id, which is the reference of its movements in the ledger.
    pub id: ImportId,
    /// Where it stands.
    pub status: ImportStatus,
    /// What its rows say.
    pub mode: ImportMode,
    /// Whether it only finds out what would become of its rows, and changes no level.
    pub dry_run: bool,
    /// What it belongs to, in the merchant's words.
    pub reference: Option<String>,
    /// How many rows there are.
    pub rows_total: i32,
    /// How many of them are done: applied or failed.
    pub rows_done: i32,
    /// How many were applied.
    pub rows_applied: i32,
    /// How many failed: each says why.
    pub rows_failed: i32,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its last row was done, or it was canceled.
    pub completed_at: Option<DateTime<Utc>>,
}

/// Why a row failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowError {
    /// The field or column.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub detail: String,
}

impl RowError {
    /// The field that stands for the whole row.
    pub const ROW: &'static str = "row";

    /// What is wrong with a field.
    pub fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// What a row asks for. A field that is missing is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RowFields {
    /// Which SKU.
    pub sku: Option<String>,
    /// At which location.
    pub location_id: Option<String>,
    /// Units in the building from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_hand: Option<i64>,
    /// Units added, or taken away if negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<i64>,
    /// Only if `on_hand` is this before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare_quantity: Option<i64>,
    /// Units never sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_stock: Option<i64>,
    /// Units that may be sold beyond `on_hand`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backorder_limit: Option<i64>,
    /// At or below which `available` is low stock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_stock_threshold: Option<i64>,
}

/// A row as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewImportRow {
    /// The line of the file that it begins on, from 1.
    pub line: i32,
    /// What it asks for, as far as it could be read.
    pub fields: RowFields,
    /// What is wrong with it.
    pub errors: Vec<RowError>,
}

/// A row of an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportRow {
    /// Which row, from 1; a header is none.
    pub row: i32,
    /// The line of the file that it begins on, from 1.
    pub line: i32,
    /// What became of it.
    pub status: RowStatus,
    /// What it asks for, as far as it could be read.
    #[serde(flatten)]
    pub fields: RowFields,
    /// What is on hand after it, if it was applied.
    pub on_hand_after: Option<i64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RowError>,
}

impl RowFields {
    /// The level that the row names, if it names one.
    pub fn key(&self) -> Option<LevelKey> {
        let (sku, location_id) = (self.sku.as_deref()?, self.location_id.as_deref()?);
        Some(LevelKey { sku: sku.parse().ok()?, location_id: location_id.parse().ok()? })
    }

    /// What the level is like once the row is applied.
    ///
    /// # Errors
    /// The field that does not fit what is there, and what would.
    pub fn apply(&self, level: &InventoryLevel) -> Result<InventoryLevel, RowError> {
        if let Some(expected) = self.compare_quantity.filter(|expected| *expected != level.on_hand) {
            let detail = format!("on_hand is {}, not {expected}", level.on_hand);
            return Err(RowError::new("compare_quantity", detail));
        }
        let field = if self.delta.is_some() { "delta" } else { "on_hand" };
        let on_hand = self.on_hand.unwrap_or(level.on_hand) + self.delta.unwrap_or(0);
        let after = InventoryLevel {
            on_hand,
            safety_stock: self.safety_stock.unwrap_or(level.safety_stock),
            backorder_limit: self.backorder_limit.unwrap_or(level.backorder_limit),
            low_stock_threshold: self.low_stock_threshold.or(level.low_stock_threshold),
            ..level.clone()
        };
        let least = after.minimum();
        if (least..=MAX_QUANTITY).contains(&on_hand) {
            return Ok(after);
        }
        // Of a delta, what is allowed is counted from what is there.
        let there = if self.delta.is_some() { level.on_hand } else { 0 };
        let detail = format!(
            "must be {} to {}: on_hand is {}, of which {least} are promised to orders",
            least - there,
            MAX_QUANTITY - there,
            level.on_hand
        );
        Err(RowError::new(field, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level() -> InventoryLevel {
        let key =
            LevelKey { sku: "a".parse().expect("a SKU"), location_id: "main".parse().expect("a location") };
        InventoryLevel {
            on_hand: 10,
            reserved: 3,
            committed: 1,
            low_stock_threshold: Some(2),
            ..InventoryLevel::empty(key)
        }
    }

    #[test]
    fn a_row_changes_what_it_names() {
        let set = RowFields { on_hand: Some(4), safety_stock: Some(1), ..RowFields::default() };
        let after = set.apply(&level()).expect("allowed");
        assert_eq!((after.on_hand, after.safety_stock, after.low_stock_threshold), (4, 1, Some(2)));
        let add = RowFields { delta: Some(-6), ..RowFields::default() };
        assert_eq!(add.apply(&level()), Ok(InventoryLevel { on_hand: 4, ..level() }));
        let expected = RowFields { compare_quantity: Some(10), ..set };
        assert!(expected.apply(&level()).is_ok());
    }

    #[test]
    fn a_row_that_does_not_fit_says_what_would() {
        let fails = |fields: RowFields, field: &str, part: &str| {
            let error = fields.apply(&level()).expect_err("refused");
            assert!(error.field == field && error.detail.contains(part), "{error:?}");
        };
        let set = |on_hand| RowFields { on_hand: Some(on_hand), ..RowFields::default() };
        let add = |delta| RowFields { delta: Some(delta), ..RowFields::default() };
        fails(set(3), "on_hand", "must be 4 to 1000000000: on_hand is 10, of which 4 are promised");
        fails(add(-7), "delta", "must be -6 to 999999990: ");
        fails(add(999_999_991), "delta", "must be -6 to 999999990: ");
        fails(RowFields { compare_quantity: Some(9), ..set(8) }, "compare_quantity", "on_hand is 10, not 9");
        let backorders = RowFields { backorder_limit: Some(1), ..set(3) };
        assert!(backorders.apply(&level()).is_ok());
        fails(RowFields { backorder_limit: Some(0), ..set(3) }, "on_hand", "must be 4 to ");
    }

    #[test]
    fn the_whole_transition_tables() {
        use ImportStatus::{Canceled, Completed, Pending, Running};
        let allowed = [
            (Pending, Running),
            (Pending, Completed),
            (Pending, Canceled),
            (Running, Completed),
            (Running, Canceled),
        ];
        for &from in ImportStatus::ALL {
            for &to in ImportStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
        let allowed = [(RowStatus::Pending, RowStatus::Applied), (RowStatus::Pending, RowStatus::Failed)];
        for &from in RowStatus::ALL {
            for &to in RowStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
