//! Setting a level: the absolute count of one SKU at one location, as somebody counted it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{App, Cause, Conflict, Error, retry::retry};
use crate::{
    domain::{
        event::{Aggregate, EventType},
        inventory::{InventoryLevel, LevelKey, MAX_QUANTITY},
        new_order::require_text,
        validation::Validator,
    },
    store::{
        self, Conn,
        inventory::{self, MovementCause, WriteLevel},
        outbox::{self, NewEvent},
    },
};

/// A request to set a level. Makes the level if there is none.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "on_hand": 120, "compare_quantity": 118, "reason": "Counted" }))]
pub struct SetInventory {
    /// Units in the building from now on.
    pub on_hand: i64,
    /// Only if `on_hand` is this now (0 for a level that does not exist): otherwise a conflict.
    pub compare_quantity: Option<i64>,
    /// Units never sold; unchanged if absent.
    pub safety_stock: Option<i64>,
    /// Units that may be sold beyond `on_hand`; unchanged if absent.
    pub backorder_limit: Option<i64>,
    /// Why.
    pub reason: Option<String>,
    /// What it belongs to.
    pub reference: Option<String>,
}

impl App {
    /// Sets a level, and answers with it.
    ///
    /// # Errors
    /// Invalid fields; another `on_hand` than expected; a count below what is promised to orders.
    pub async fn set_inventory(
        &self,
        key: &LevelKey,
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
        ];
        for (pointer, value) in counters {
            let valid = value.is_none_or(|value| (0..=MAX_QUANTITY).contains(&value));
            check.require(valid, pointer, format!("must be 0 to {MAX_QUANTITY}"));
        }
        require_text(&mut check, set.reason.as_deref(), "/reason");
        require_text(&mut check, set.reference.as_deref(), "/reference");
        check.finish().map_err(Error::Invalid)?;
        retry("set_inventory", || self.set_once(key, set, actor, cause)).await
    }

    async fn set_once(
        &self,
        key: &LevelKey,
        set: &SetInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<InventoryLevel, Error> {
        let mut tx = self.store.begin("set_inventory").await?;
        let keys = std::slice::from_ref(key);
        inventory::insert_missing_levels(&mut tx, keys).await?;
        let (mut levels, _) = inventory::lock_levels(&mut tx, keys).await?;
        let Some(locked) = levels.remove(key) else {
            return Err(store::Error::Inconsistent(format!("level {key:?} was made and is gone")).into());
        };
        let mut level = locked.level;
        if set.compare_quantity.is_some_and(|expected| expected != level.on_hand) {
            return Err(Conflict::StockConflict { on_hand: level.on_hand, version: level.version }.into());
        }
        let delta_on_hand = set.on_hand - level.on_hand;
        level.on_hand = set.on_hand;
        level.safety_stock = set.safety_stock.unwrap_or(level.safety_stock);
        level.backorder_limit = set.backorder_limit.unwrap_or(level.backorder_limit);
        let movement = MovementCause {
            movement_type: "count",
            actor: actor.to_owned(),
            reason: set.reason.clone(),
            reference: set.reference.clone(),
        };
        let written =
            write_levels(&mut tx, vec![WriteLevel { level, delta_on_hand }], &movement, cause).await?;
        tx.commit().await?;
        written
            .into_iter()
            .next()
            .ok_or_else(|| store::Error::Inconsistent("no level was written".into()).into())
    }
}

/// Writes locked levels, their ledger rows and their events. Gives the levels as they are from then on.
pub(super) async fn write_levels(
    conn: &mut Conn,
    mut writes: Vec<WriteLevel>,
    movement: &MovementCause,
    cause: &Cause,
) -> Result<Vec<InventoryLevel>, Error> {
    for write in &writes {
        let level = &write.level;
        let minimum = level.reserved + level.committed - level.backorder_limit;
        if level.on_hand < minimum {
            return Err(Conflict::BelowCommitted { sku: level.key.sku.to_string(), minimum }.into());
        }
    }
    inventory::write_levels(conn, &writes, movement).await?;
    let mut events = Vec::with_capacity(writes.len());
    for write in &mut writes {
        write.level.version += 1;
        events.push(NewEvent {
            aggregate: Aggregate::InventoryLevel(write.level.key.clone()),
            sequence: write.level.version,
            event_type: EventType::InventoryAdjusted,
            data: serde_json::json!({
                "sku": write.level.key.sku,
                "location_id": write.level.key.location_id,
                "delta": write.delta_on_hand,
                "on_hand": write.level.on_hand,
                "available": write.level.available(),
                "type": movement.movement_type,
                "reason": movement.reason,
                "reference": movement.reference,
            }),
            correlation_id: cause.correlation_id.clone(),
            causation_id: cause.causation_id,
        });
    }
    outbox::insert(conn, &events).await?;
    Ok(writes.into_iter().map(|write| write.level).collect())
}
