//! Purchase limits: how many units of a SKU one customer may buy, over all its orders.

use serde::Serialize;
use utoipa::ToSchema;

use super::inventory::Sku;

/// The limit of one SKU.
///
/// Units of orders that wait for their payment count too; what was canceled, or has expired, does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PurchaseLimit {
    /// Which SKU.
    pub sku: Sku,
    /// The most units that one customer may have.
    pub quantity: i64,
    /// Only orders placed within this time count; null: all of them.
    pub window_seconds: Option<i64>,
    /// Grows with every change. No version comes again, also where the limit is deleted and made anew.
    pub version: i64,
}
