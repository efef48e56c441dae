//! How levels are changed by hand or import: the rows, the ledger and the events, of levels that are locked already.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Cause, Conflict, Error, stock_events::crossing_event};
use crate::{
    domain::{
        event::{Aggregate, Event, InventoryAdjusted},
        inventory::{InventoryLevel, LevelChange},
    },
    store::{
        Conn, inventory,
        movements::{self, MovementCause, NewMovement},
        outbox::{self, NewEvent},
    },
};

/// The levels that a request changed, as they are from then on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedInventory {
    /// The levels, by SKU and location.
    pub data: Vec<InventoryLevel>,
}

/// Writes levels as they are after their changes. Gives them, with their versions.
///
/// A version grows by one for each event: the adjustment, and what it crossed. A level that was never changed before has
/// just been made, and crosses nothing.
pub(super) async fn change_levels(
    conn: &mut Conn,
    mut changes: Vec<LevelChange>,
    movements: &[NewMovement],
    movement: &MovementCause,
    cause: &Cause,
) -> Result<Vec<InventoryLevel>, Error> {
    let mut events = Vec::with_capacity(changes.len());
    for change in &mut changes {
        change.after.version = change.before.version + 1;
        events.push(adjusted_event(change, movement, cause));
        let is_new = change.before.version == 0;
        if let Some(event) = crossing_event(change, change.after.version + 1, cause).filter(|_| !is_new) {
            change.after.version += 1;
            events.push(event);
        }
    }
    let levels: Vec<&InventoryLevel> = changes.iter().map(|change| &change.after).collect();
    inventory::write_levels(conn, &levels).await?;
    movements::insert(conn, movements, movement).await?;
    outbox::insert(conn, &events).await?;
    Ok(changes.into_iter().map(|change| change.after).collect())
}

fn adjusted_event(change: &LevelChange, movement: &MovementCause, cause: &Cause) -> NewEvent {
    let LevelChange { before, after } = change;
    NewEvent {
        aggregate: Aggregate::InventoryLevel(after.key.clone()),
        sequence: after.version,
        event: Event::InventoryAdjusted(InventoryAdjusted {
            sku: after.key.sku.clone(),
            location_id: after.key.location_id.clone(),
            delta: after.on_hand - before.on_hand,
            on_hand: after.on_hand,
            available: after.available(),
            movement_type: movement.movement_type,
            reason: movement.reason.clone(),
            reference: movement.reference.clone(),
        }),
        correlation_id: cause.correlation_id.clone(),
        causation_id: cause.causation_id,
        trace_parent: cause.trace_parent,
    }
}

/// The conflict of a change that would take away what is promised to orders.
pub(super) fn refuse_below_promised(change: &LevelChange) -> Result<(), Error> {
    let LevelChange { before, after } = change;
    let minimum = after.minimum();
    if after.on_hand >= minimum {
        return Ok(());
    }
    let key = &after.key;
    Err(Conflict::BelowCommitted {
        sku: key.sku.to_string(),
        location_id: key.location_id.to_string(),
        minimum,
        free: before.on_hand - minimum,
    }
    .into())
}
