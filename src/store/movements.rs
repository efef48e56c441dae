//! The stock ledger, append-only.

use chrono::{DateTime, Utc};

use super::{
    Conn, Error,
    error::parse,
    expect_rows,
    inventory::{columns, level_key},
};
use crate::domain::{
    inventory::{LevelChange, LevelKey, LocationId, Sku},
    movement::{MovementId, MovementType, StockMovement},
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

/// Which movements to list.
#[derive(Debug, Clone, Default)]
pub struct MovementFilter {
    /// Only of this SKU.
    pub sku: Option<Sku>,
    /// Only at this location.
    pub location_id: Option<LocationId>,
    /// Only of this type.
    pub movement_type: Option<MovementType>,
    /// Only those that belong to this.
    pub reference: Option<String>,
    /// Only those that this one made.
    pub actor: Option<String>,
    /// Only those made at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only those made before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only those before this one.
    pub starting_after: Option<MovementId>,
}

/// Movements, the newest first.
pub async fn list(conn: &mut Conn, filter: &MovementFilter, limit: i64) -> Result<Vec<StockMovement>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, sku, location_id, type AS "movement_type", delta_on_hand, on_hand_after, actor, reason, reference,
                  created_at
           FROM stock_movement
           WHERE ($1::text IS NULL OR sku = $1)
             AND ($2::text IS NULL OR location_id = $2)
             AND ($3::text IS NULL OR type = $3)
             AND ($4::text IS NULL OR reference = $4)
             AND ($5::text IS NULL OR actor = $5)
             AND ($6::timestamptz IS NULL OR created_at >= $6)
             AND ($7::timestamptz IS NULL OR created_at < $7)
             AND ($8::bigint IS NULL OR id < $8)
           ORDER BY id DESC LIMIT $9"#,
        filter.sku.as_ref().map(Sku::as_str),
        filter.location_id.as_ref().map(LocationId::as_str),
        filter.movement_type.map(MovementType::as_str),
        filter.reference,
        filter.actor,
        filter.created_gte,
        filter.created_lt,
        filter.starting_after.map(|id| id.0),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(StockMovement {
                id: MovementId(row.id),
                key: level_key(&row.sku, &row.location_id)?,
                movement_type: parse(&row.movement_type, "stock_movement.type")?,
                delta: row.delta_on_hand,
                on_hand_after: row.on_hand_after,
                actor: row.actor,
                reason: row.reason,
                reference: row.reference,
                created_at: row.created_at,
            })
        })
        .collect()
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
