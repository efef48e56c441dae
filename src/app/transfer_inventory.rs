//! Transferring stock: units go from one location to another, several at once, all or none.

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
        bounds::{Quantity, Text},
        inventory::{InventoryLevel, LevelChange, LevelKey, LocationId, MAX_QUANTITY, Sku},
        movement::MovementType,
        validation::{FieldError, Invalid, Rule, Validator},
    },
    store::{
        self, Conn,
        idempotency::IdempotentRequest,
        inventory, locations,
        movements::{MovementCause, NewMovement},
    },
};

/// The most transfers of one request.
const MAX_ITEMS: usize = 500;

/// A request to transfer stock.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "reason": "Rebalance", "items": [{ "sku": "TEE-BLACK-M", "from_location_id": "main", "to_location_id": "north", "quantity": 5 }] }))]
pub struct TransferInventory {
    /// What goes where, one after the other.
    #[schema(min_items = 1, max_items = 500)]
    pub items: Vec<Transfer>,
    /// Why.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// What it belongs to.
    #[schema(value_type = Option<Text>)]
    pub reference: Option<String>,
}

/// Units of one SKU that go from one location to another.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Which SKU.
    pub sku: Sku,
    /// Where it is. What is promised to orders there cannot be taken away.
    pub from_location_id: LocationId,
    /// Where it goes: another location, which exists. Its level is made if there is none.
    pub to_location_id: LocationId,
    /// How many units.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
}

impl Transfer {
    fn from(&self) -> LevelKey {
        LevelKey { sku: self.sku.clone(), location_id: self.from_location_id.clone() }
    }

    fn to(&self) -> LevelKey {
        LevelKey { sku: self.sku.clone(), location_id: self.to_location_id.clone() }
    }
}

impl TransferInventory {
    fn validate(&self) -> Result<(), Error> {
        let mut check = Validator::default();
        let count = (1..=MAX_ITEMS).contains(&self.items.len());
        check.require(count, "/items", format!("must hold 1 to {MAX_ITEMS} items"));
        for (index, item) in self.items.iter().enumerate() {
            Quantity::require(&mut check, item.quantity, format!("/items/{index}/quantity"));
            let moves = item.from_location_id != item.to_location_id;
            let detail = "must be another location than from_location_id";
            let pointer = format!("/items/{index}/to_location_id");
            check.require_rule(Rule::Together, moves, pointer, detail);
        }
        Text::require(&mut check, self.reason.as_deref(), "/reason");
        Text::require(&mut check, self.reference.as_deref(), "/reference");
        check.finish().map_err(Error::Invalid)
    }

    /// Fails with the items that break `rule`, for which `wrong` gives what is wrong with a field.
    fn refuse(
        &self,
        rule: Rule,
        field: &str,
        wrong: impl Fn(&Transfer) -> Option<String>,
    ) -> Result<(), Error> {
        let items = self.items.iter().enumerate();
        let error = |(index, item)| {
            wrong(item).map(|detail| FieldError { pointer: format!("/items/{index}/{field}"), detail })
        };
        let errors: Vec<FieldError> = items.filter_map(error).collect();
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(Invalid { rule, errors })) }
    }
}

impl App {
    /// Transfers stock, and answers with the levels on both sides.
    ///
    /// # Errors
    /// Invalid fields; unknown levels or locations; a level that would fall below what is promised to orders.
    pub async fn transfer_inventory(
        &self,
        request: &IdempotentRequest,
        transfer: &TransferInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        transfer.validate()?;
        retry("transfer_inventory", || self.transfer_once(request, transfer, actor, cause)).await
    }

    async fn transfer_once(
        &self,
        request: &IdempotentRequest,
        transfer: &TransferInventory,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut tx = self.store.begin("transfer_inventory").await?;
        require_locations(&mut tx, transfer).await?;
        let mut targets: Vec<LevelKey> = transfer.items.iter().map(Transfer::to).collect();
        targets.sort();
        targets.dedup();
        inventory::insert_missing_levels(&mut tx, &targets).await?;
        let mut keys = targets;
        keys.extend(transfer.items.iter().map(Transfer::from));
        keys.sort();
        keys.dedup();
        let (levels, _) = inventory::lock_levels(&mut tx, &keys).await?;
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(answer);
        }
        let before: BTreeMap<_, _> = levels.into_iter().map(|(key, locked)| (key, locked.level)).collect();
        transfer.refuse(Rule::UnknownSku, "sku", |item| {
            let is_unknown = !before.contains_key(&item.from());
            is_unknown.then(|| format!("there is no SKU {} at location {}", item.sku, item.from_location_id))
        })?;
        let mut after = before.clone();
        let movements = move_units(&mut after, &transfer.items)?;
        let changes = before.into_values().zip(after.into_values());
        let changes = changes.map(|(before, after)| LevelChange { before, after }).collect();
        let movement = MovementCause {
            movement_type: MovementType::Transfer,
            actor: actor.to_owned(),
            reason: transfer.reason.clone(),
            reference: transfer.reference.clone(),
        };
        let data = change_levels(&mut tx, changes, &movements, &movement, cause).await?;
        let answer = answer::store(&mut tx, request, &ChangedInventory { data }).await?;
        tx.commit().await?;
        Ok(answer)
    }
}

/// A location that nobody has set and nothing lies at is a slip of the pen: stock sent there would be lost to orders.
async fn require_locations(conn: &mut Conn, transfer: &TransferInventory) -> Result<(), Error> {
    let ids: Vec<&LocationId> = transfer.items.iter().map(|item| &item.to_location_id).collect();
    let known = locations::find_known(conn, &ids).await?;
    transfer.refuse(Rule::UnknownLocation, "to_location_id", |item| {
        let is_unknown = !known.contains(&item.to_location_id);
        is_unknown.then(|| format!("there is no location {}", item.to_location_id))
    })
}

/// Moves the units, item by item, and gives the two movements of each.
fn move_units(
    levels: &mut BTreeMap<LevelKey, InventoryLevel>,
    items: &[Transfer],
) -> Result<Vec<NewMovement>, Error> {
    let mut movements = Vec::with_capacity(2 * items.len());
    for (index, item) in items.iter().enumerate() {
        for (key, delta) in [(item.from(), -item.quantity), (item.to(), item.quantity)] {
            let missing = || store::Error::Inconsistent(format!("level {key:?} was made and is gone"));
            let level = levels.get_mut(&key).ok_or_else(missing)?;
            let on_hand_after = level.on_hand + delta;
            if on_hand_after > MAX_QUANTITY {
                let to = &item.to_location_id;
                let detail =
                    format!("would raise on_hand at {to} to {on_hand_after}: at most {MAX_QUANTITY}");
                let pointer = format!("/items/{index}/quantity");
                return Err(Error::invalid(Rule::OnHandTooLarge, pointer, detail));
            }
            let after = InventoryLevel { on_hand: on_hand_after, ..level.clone() };
            let change = LevelChange { before: level.clone(), after };
            refuse_below_promised(&change)?;
            *level = change.after;
            movements.push(NewMovement { key, delta, on_hand_after });
        }
    }
    Ok(movements)
}
