//! What the events of inventory levels carry.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{
    bounds::{Text, UnitCount},
    inventory::{InventoryLevel, LocationId, Sku},
    movement::MovementType,
};

/// A change of a level by hand or import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InventoryAdjusted {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location_id: LocationId,
    /// By how much `on_hand` changed; 0 where only other settings of the level did.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub delta: i64,
    /// Units in the building from then on.
    #[schema(value_type = UnitCount)]
    pub on_hand: i64,
    /// Units that a new order may still reserve; below zero where more is promised than there is.
    pub available: i64,
    /// Why stock moved.
    #[serde(rename = "type")]
    pub movement_type: MovementType,
    /// Why, in the words of who moved it.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// What it belongs to, e.g. an import or a document of the merchant.
    #[schema(value_type = Option<Text>)]
    pub reference: Option<String>,
}

/// A level of which what is left to sell has crossed a threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LevelData {
    /// The SKU.
    pub sku: Sku,
    /// The location.
    pub location_id: LocationId,
    /// Units in the building.
    #[schema(value_type = UnitCount)]
    pub on_hand: i64,
    /// Units that a new order may still reserve; below zero where more is promised than there is.
    pub available: i64,
    /// At or below which `available` is low stock; null: never.
    #[schema(value_type = Option<UnitCount>)]
    pub low_stock_threshold: Option<i64>,
    /// Whether `available` is at or below the threshold, or nothing is left.
    pub low_stock: bool,
}

impl From<&InventoryLevel> for LevelData {
    fn from(level: &InventoryLevel) -> Self {
        Self {
            sku: level.key.sku.clone(),
            location_id: level.key.location_id.clone(),
            on_hand: level.on_hand,
            available: level.available(),
            low_stock_threshold: level.low_stock_threshold,
            low_stock: level.is_low_stock(),
        }
    }
}
