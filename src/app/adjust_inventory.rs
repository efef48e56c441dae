//! Adjusting levels: by how much they change, several at once, all or none.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, ChangedInventory, Error, answer,
    change_levels::{change_levels, refuse_below_promised},
    retry::retry,
};
use crate::{
    domain::{
        bounds::{Text, UnitDelta},
        inventory::{InventoryLevel, LevelChange, LevelKey, LocationId, MAX_QUANTITY, Sku},
        movement::MovementType,
        validation::{FieldError, Invalid, Rule, Validator},
    },
    store::{
        idempotency::IdempotentRequest,
        inventory,
        movements::{MovementCause, NewMovement},
    },
};

/// The most levels that one request adjusts.
const MAX_ITEMS: usize = 500;

/// A request to adjust levels.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "Delivery", "reference": "PO-311", "items": [{ "sku": "TEE-BLACK-M", "delta": 48 }] }))]
pub struct AdjustInventory {
    /// What changes. Several items may name one level: they add up.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<Adjustment>,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// What it belongs to.
    #[schema(value_type = Option<Text>)]
    pub reference: Option<String>,
}

/// By how much one level changes.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// Which SKU.
    pub sku: Sku,
    /// At which location; the default one if absent.
    pub location_id: Option<LocationId>,
    /// Units added, or taken away if negative.
    #[schema(value_type = UnitDelta)]
    pub delta: i64,
}

impl AdjustInventory {
    fn validate(&self) -> Result<(), Error> {
        let mut check = Validator::default();
        let count = (1..=MAX_ITEMS).contains(&self.items.len());
        check.require(count, "/items", format!("must hold 1 to {MAX_ITEMS} items"));
        for (index, item) in self.items.iter().enumerate() {
            UnitDelta::require(&mut check, item.delta, format!("/items/{index}/delta"));
        }
        Text::require(&mut check, self.reason.as_deref(), "/reason");
        Text::require(&mut check, self.reference.as_deref(), "/reference");
        check.finish().map_err(Error::Invalid)
    }
}

impl App {
    /// Adjusts levels, and answers with them.
    ///
    /// # Errors
    /// Invalid fields; unknown levels; a level that would fall below what is promised to orders.
    pub async fn adjust_inventory(
        &self,
        request: &IdempotentRequest,
        adjust: &AdjustInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        adjust.validate()?;
        retry("adjust_inventory", || self.adjust_once(request, adjust, actor, cause)).await
    }

    async fn adjust_once(
        &self,
        request: &IdempotentRequest,
        adjust: &AdjustInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let keys: Vec<LevelKey> = adjust.items.iter().map(|item| self.level_key(item)).collect();
        let mut deltas = BTreeMap::<LevelKey, i64>::new();
        for (key, item) in keys.iter().zip(&adjust.items) {
            *deltas.entry(key.clone()).or_default() += item.delta;
        }
        let distinct: Vec<LevelKey> = deltas.keys().cloned().collect();
        let mut tx = self.store.begin("adjust_inventory").await?;
        let (levels, _) = inventory::lock_levels(&mut tx, &distinct).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(answer);
        }
        let unknown = keys.iter().enumerate().filter(|(_, key)| !levels.contains_key(key));
        let unknown: Vec<FieldError> = unknown
            .map(|(index, key)| FieldError {
                pointer: format!("/items/{index}/sku"),
                detail: format!("there is no SKU {} at location {}", key.sku, key.location_id),
            })
            .collect();
        if !unknown.is_empty() {
            return Err(Error::Invalid(Invalid { rule: Rule::UnknownSku, errors: unknown }));
        }
        let mut changes = Vec::with_capacity(levels.len());
        for (key, locked) in levels {
            let before = locked.level;
            let on_hand = before.on_hand + deltas.get(&key).copied().unwrap_or_default();
            if on_hand > MAX_QUANTITY {
                let index = keys.iter().position(|wanted| *wanted == key).unwrap_or_default();
                let detail = format!("would raise on_hand to {on_hand}: at most {MAX_QUANTITY}");
                let pointer = format!("/items/{index}/delta");
                return Err(Error::invalid(Rule::OnHandTooLarge, pointer, detail));
            }
            let change = LevelChange { after: InventoryLevel { on_hand, ..before.clone() }, before };
            refuse_below_promised(&change)?;
            changes.push(change);
        }
        let movement = MovementCause {
            movement_type: MovementType::Adjust,
            actor: actor.to_owned(),
            reason: adjust.reason.clone(),
            reference: adjust.reference.clone(),
        };
        let moved: Vec<_> = changes.iter().filter_map(NewMovement::of).collect();
        let written = change_levels(&mut tx, changes, &moved, &movement, cause).await?;
        let answer = answer::store(&mut tx, request, &ChangedInventory { data: written }).await?;
        tx.commit().await?;
        Ok(answer)
    }

    fn level_key(&self, item: &Adjustment) -> LevelKey {
        let default = &self.settings.limits.default_location;
        LevelKey {
            sku: item.sku.clone(),
            location_id: item.location_id.clone().unwrap_or_else(|| default.clone()),
        }
    }
}
