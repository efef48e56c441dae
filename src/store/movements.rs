//! The stock ledger, append-only.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, QueryBuilder};

use super::{
    Conn, Error,
    error::parse,
    expect_rows,
    inventory::{columns, level_key},
    newest_first,
};
use crate::domain::{
    inventory::{LevelChange, LevelKey, LocationId, Sku},
    movement::{MovementId, MovementType, StockMovement},
};

/// `created_at` is when the transaction began that wrote a movement, its id when it was written: movements whose times are
/// further apart than this have their ids in the same order.
const LONGEST_TRANSACTION: TimeDelta = TimeDelta::hours(1);

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
///
/// One statement made of the filters that are given, planned anew each time, so that each filter finds its index.
pub async fn list(conn: &mut Conn, filter: &MovementFilter, limit: i64) -> Result<Vec<StockMovement>, Error> {
    let mut query = statement(filter, limit);
    let rows = query.build_query_as::<Row>().persistent(false).fetch_all(conn).await?;
    rows.into_iter().map(StockMovement::try_from).collect()
}

fn statement(filter: &MovementFilter, limit: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT id, sku, location_id, type, delta_on_hand, on_hand_after, actor, reason, reference, created_at
         FROM stock_movement m WHERE true",
    );
    if let Some(sku) = &filter.sku {
        query.push(" AND sku = ").push_bind(sku.as_str().to_owned());
    }
    if let Some(location_id) = &filter.location_id {
        query.push(" AND location_id = ").push_bind(location_id.as_str().to_owned());
    }
    if let Some(movement_type) = filter.movement_type {
        query.push(" AND type = ").push_bind(movement_type.as_str());
    }
    if let Some(reference) = &filter.reference {
        query.push(" AND reference = ").push_bind(reference.clone());
    }
    if let Some(actor) = &filter.actor {
        query.push(" AND actor = ").push_bind(actor.clone());
    }
    // A list in the order of ids finds a time only by an id: of one movement that is safely older, or younger.
    if let Some(time) = filter.created_gte {
        query.push(" AND created_at >= ").push_bind(time);
        query.push(" AND id > COALESCE((SELECT id FROM stock_movement WHERE created_at < ");
        query.push_bind(time - LONGEST_TRANSACTION).push(" ORDER BY created_at DESC LIMIT 1), 0)");
    }
    if let Some(time) = filter.created_lt {
        query.push(" AND created_at < ").push_bind(time);
        query.push(" AND id < COALESCE((SELECT id FROM stock_movement WHERE created_at >= ");
        query.push_bind(time + LONGEST_TRANSACTION);
        query.push(" ORDER BY created_at LIMIT 1), 9223372036854775807)");
    }
    newest_first::push_page(&mut query, filter.starting_after.map(|id| id.0), limit);
    query
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

/// A movement as it is stored.
#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    sku: String,
    location_id: String,
    #[sqlx(rename = "type")]
    movement_type: String,
    delta_on_hand: i64,
    on_hand_after: i64,
    actor: String,
    reason: Option<String>,
    reference: Option<String>,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for StockMovement {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
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
    }
}
