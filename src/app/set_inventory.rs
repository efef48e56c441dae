//! Setting a level: the absolute count of one SKU at one location, as somebody counted it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Cause, Conflict, Error,
    change_levels::{change_levels, refuse_below_promised},
    expected_version::ExpectedVersion,
    present::{given, present},
    retry::retry_before_commit,
};
use crate::{
    domain::{
        bounds::{Text, UnitCount},
        inventory::{InventoryLevel, LevelChange, LevelKey},
        movement::MovementType,
        validation::Validator,
    },
    store::{
        self, inventory,
        movements::{MovementCause, NewMovement},
    },
};

/// A request to set a level. Makes the level if there is none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "on_hand": 120, "compare_quantity": 118, "reason": "Counted" }))]
pub struct SetInventory {
    /// Units in the building from now on.
    #[schema(value_type = UnitCount)]
    pub on_hand: i64,
    /// Only if `on_hand` is this now (0 for a level that does not exist): otherwise a conflict.
    #[schema(value_type = Option<UnitCount>)]
    pub compare_quantity: Option<i64>,
    /// Units never sold; unchanged if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = UnitCount, required = false)]
    pub safety_stock: Option<i64>,
    /// Units that may be sold beyond `on_hand`; unchanged if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = UnitCount, required = false)]
    pub backorder_limit: Option<i64>,
    /// At or below which `available` is low stock; never if `null`; unchanged if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<UnitCount>)]
    pub low_stock_threshold: Option<Option<i64>>,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// What it belongs to.
    #[schema(value_type = Option<Text>)]
    pub reference: Option<String>,
}

impl App {
    /// Sets a level, and answers with it.
    ///
    /// # Errors
    /// Invalid fields; another version or another `on_hand` than expected; a count below what is promised to orders.
    pub async fn set_inventory(
        &self,
        key: &LevelKey,
        expected: Option<&ExpectedVersion>,
        set: &SetInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<InventoryLevel, Error> {
        let mut check = Validator::default();
        let counters = [
            ("/on_hand", Some(set.on_hand)),
            ("/compare_quantity", set.compare_quantity),
            ("/safety_stock", set.safety_stock),
            ("/backorder_limit", set.backorder_limit),
            ("/low_stock_threshold", set.low_stock_threshold.flatten()),
        ];
        for (pointer, value) in counters {
            UnitCount::require(&mut check, value, pointer);
        }
        Text::require(&mut check, set.reason.as_deref(), "/reason");
        Text::require(&mut check, set.reference.as_deref(), "/reference");
        check.finish().map_err(Error::Invalid)?;
        // A second count would undo what was sold or shipped since the first took effect.
        retry_before_commit("set_inventory", || self.set_once(key, expected, set, actor, cause)).await
    }

    async fn set_once(
        &self,
        key: &LevelKey,
        expected: Option<&ExpectedVersion>,
        set: &SetInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<InventoryLevel, Error> {
        let mut tx = self.store.begin("set_inventory").await?;
        let keys = std::slice::from_ref(key);
        let is_new = inventory::insert_missing_levels(&mut tx, keys).await? > 0;
        let (mut levels, _) = inventory::lock_levels(&mut tx, keys).await?;
        let Some(locked) = levels.remove(key) else {
            return Err(store::Error::Inconsistent(format!("level {key:?} was made and is gone")).into());
        };
        let before = locked.level;
        let current_version = (!is_new).then_some(before.version);
        ExpectedVersion::require(expected, current_version)?;
        if set.compare_quantity.is_some_and(|expected| expected != before.on_hand) {
            return Err(Conflict::StockConflict { on_hand: before.on_hand, version: before.version }.into());
        }
        let after = InventoryLevel {
            on_hand: set.on_hand,
            safety_stock: set.safety_stock.unwrap_or(before.safety_stock),
            backorder_limit: set.backorder_limit.unwrap_or(before.backorder_limit),
            low_stock_threshold: set.low_stock_threshold.unwrap_or(before.low_stock_threshold),
            ..before.clone()
        };
        let change = LevelChange { before, after };
        refuse_below_promised(&change)?;
        let movement = MovementCause {
            movement_type: MovementType::Count,
            actor: actor.to_owned(),
            reason: set.reason.clone(),
            reference: set.reference.clone(),
        };
        let moved: Vec<_> = NewMovement::of(&change).into_iter().collect();
        let written = change_levels(&mut tx, vec![change], &moved, &movement, cause).await?;
        tx.commit().await?;
        written
            .into_iter()
            .next()
            .ok_or_else(|| store::Error::Inconsistent("no level was written".into()).into())
    }
}
