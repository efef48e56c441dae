//! The stock ledger, append-only.

use super::{Conn, Error, expect_rows, inventory::columns};
use crate::domain::{
    inventory::{LevelChange, LevelKey},
    movement::MovementType,
};

/// Who moves stock, and why.
#[derive(Debug, Clone)]
pub struct MovementCause {
    /// Kind of movement.
    pub movement_type: MovementType,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What it belongs to.
    pub reference: Option<String>,
}

/// A movement that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMovement {
    /// Which level.
    pub key: LevelKey,
    /// By how much `on_hand` changes, not 0.
    pub delta: i64,
    /// What it is from then on.
    pub on_hand_after: i64,
}

impl NewMovement {
    /// What a change of a level means for the ledger: nothing, if `on_hand` stays.
    pub fn of(change: &LevelChange) -> Option<Self> {
        let (delta, on_hand_after) = (change.after.on_hand - change.before.on_hand, change.after.on_hand);
        (delta != 0).then(|| Self { key: change.after.key.clone(), delta, on_hand_after })
    }
}

/// Writes movements of levels that this transaction has locked, in this order.
pub async fn insert(conn: &mut Conn, movements: &[NewMovement], cause: &MovementCause) -> Result<(), Error> {
    if movements.is_empty() {
        return Ok(());
    }
    let (skus, locations) = columns(movements.iter().map(|movement| &movement.key));
    let deltas: Vec<i64> = movements.iter().map(|movement| movement.delta).collect();
    let after: Vec<i64> = movements.iter().map(|movement| movement.on_hand_after).collect();
    let result = sqlx::query!(
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reason, reference)
         SELECT sku, location_id, $5, delta, on_hand, $6, $7, $8
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
              AS m (sku, location_id, delta, on_hand, place)
         ORDER BY place",
        &skus as _,
        &locations as _,
        &deltas,
        &after,
        cause.movement_type.as_str(),
        cause.actor,
        cause.reason,
        cause.reference,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, movements.len(), "insert movements")
}
