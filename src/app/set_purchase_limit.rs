//! Setting and deleting the purchase limit of a SKU. It counts for the orders that are placed from then on.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, Error, retry::retry_before_commit};
use crate::{
    domain::{
        bounds::{Quantity, WindowSeconds},
        inventory::Sku,
        purchase_limit::PurchaseLimit,
        validation::Validator,
    },
    store::purchase_limits,
};

/// A request to limit how many units of a SKU one customer may buy.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "quantity": 2, "window_seconds": 86400 }))]
pub struct SetPurchaseLimit {
    /// The most units that one customer may have, at least 1.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
    /// Only orders placed within this time count, 1 to 315360000 (ten years); all of them if absent.
    #[schema(value_type = Option<WindowSeconds>)]
    pub window_seconds: Option<i64>,
}

impl App {
    /// Limits how many units of a SKU one customer may buy.
    ///
    /// # Errors
    /// Invalid fields.
    pub async fn set_purchase_limit(&self, sku: Sku, set: &SetPurchaseLimit) -> Result<PurchaseLimit, Error> {
        let mut check = Validator::default();
        Quantity::require(&mut check, set.quantity, "/quantity");
        WindowSeconds::require(&mut check, set.window_seconds, "/window_seconds");
        check.finish().map_err(Error::Invalid)?;
        let limit = PurchaseLimit { sku, quantity: set.quantity, window_seconds: set.window_seconds };
        retry_before_commit("set_purchase_limit", || async {
            let mut tx = self.store.begin("set_purchase_limit").await?;
            purchase_limits::upsert(&mut tx, &limit).await?;
            Ok(tx.commit().await?)
        })
        .await?;
        Ok(limit)
    }

    /// Takes the limit of a SKU away.
    ///
    /// # Errors
    /// The SKU has none.
    pub async fn delete_purchase_limit(&self, sku: &Sku) -> Result<(), Error> {
        retry_before_commit("delete_purchase_limit", || async {
            let mut tx = self.store.begin("delete_purchase_limit").await?;
            if purchase_limits::delete(&mut tx, sku).await? {
                return Ok(tx.commit().await?);
            }
            Err(Error::NotFound { kind: "purchase limit of SKU", id: sku.to_string() })
        })
        .await
    }
}
