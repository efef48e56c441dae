//! Setting and deleting the purchase limit of a SKU. It counts for the orders that are placed from then on.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, Error, expected_version::ExpectedVersion, present::present, retry::retry_before_commit};
use crate::{
    domain::{
        bounds::{Quantity, WindowSeconds},
        inventory::Sku,
        purchase_limit::PurchaseLimit,
        validation::Validator,
    },
    store::purchase_limits::{self, NewPurchaseLimit},
};

/// A request to limit how many units of a SKU one customer may buy. Makes the limit if there is none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "quantity": 2, "window_seconds": 86400 }))]
pub struct SetPurchaseLimit {
    /// The most units that one customer may have, at least 1.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
    /// Only orders placed within this time count, 1 to 315360000 (ten years); all of them if `null`; unchanged if absent, and
    /// of a new limit all of them.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<WindowSeconds>)]
    pub window_seconds: Option<Option<i64>>,
}

impl App {
    /// Limits how many units of a SKU one customer may buy, and answers with the limit.
    ///
    /// # Errors
    /// Invalid fields; another version than expected.
    pub async fn set_purchase_limit(
        &self,
        sku: &Sku,
        expected: Option<&ExpectedVersion>,
        set: &SetPurchaseLimit,
    ) -> Result<PurchaseLimit, Error> {
        let mut check = Validator::default();
        Quantity::require(&mut check, set.quantity, "/quantity");
        WindowSeconds::require(&mut check, set.window_seconds.flatten(), "/window_seconds");
        check.finish().map_err(Error::Invalid)?;
        let limit = NewPurchaseLimit { sku, quantity: set.quantity, window_seconds: set.window_seconds };
        retry_before_commit("set_purchase_limit", || async {
            let mut tx = self.store.begin("set_purchase_limit").await?;
            ExpectedVersion::require(expected, purchase_limits::lock(&mut tx, sku).await?)?;
            let stored = purchase_limits::upsert(&mut tx, &limit).await?;
            tx.commit().await?;
            Ok(stored)
        })
        .await
    }

    /// Takes the limit of a SKU away.
    ///
    /// # Errors
    /// The SKU has none; another version than expected.
    pub async fn delete_purchase_limit(
        &self,
        sku: &Sku,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        let missing = || Error::NotFound { kind: "purchase limit of SKU", id: sku.to_string() };
        retry_before_commit("delete_purchase_limit", || async {
            let mut tx = self.store.begin("delete_purchase_limit").await?;
            let current = purchase_limits::lock(&mut tx, sku).await?.ok_or_else(missing)?;
            ExpectedVersion::require(expected, Some(current))?;
            purchase_limits::delete(&mut tx, sku).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}
