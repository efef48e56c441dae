//! Inventory levels. Every change of `on_hand` has its row in the ledger: see [`super::movements`].

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::inventory::{InventoryLevel, LevelChange, LevelKey, LocationId, Sku};

/// The level in a row of a query. Each query with more columns than a level has a row type of its own.
macro_rules! level_of {
    ($row:expr) => {
        InventoryLevel {
            key: level_key(&$row.sku, &$row.location_id)?,
            on_hand: $row.on_hand,
            reserved: $row.reserved,
            committed: $row.committed,
            safety_stock: $row.safety_stock,
            backorder_limit: $row.backorder_limit,
            low_stock_threshold: $row.low_stock_threshold,
            version: $row.version,
        }
    };
}

pub(super) use level_of;

/// A level as it was read under its row lock, with the newest fencing token that wrote it.
#[derive(Debug, Clone)]
pub struct LockedLevel {
    /// The counters.
    pub level: InventoryLevel,
    /// `(epoch, sequence)` of the newest token.
    pub fence: (i32, i64),
}

/// Which levels of these SKUs are locked by another transaction right now. Those that are not are locked by this one, which is to
/// be rolled back.
pub async fn find_locked(conn: &mut Conn, skus: &[&str]) -> Result<Vec<LevelKey>, Error> {
    let rows = sqlx::query!(
        r#"WITH free AS (SELECT sku, location_id FROM inventory_level WHERE sku = ANY($1) FOR UPDATE SKIP LOCKED)
           SELECT sku AS "sku!", location_id AS "location_id!" FROM inventory_level WHERE sku = ANY($1)
           EXCEPT SELECT sku, location_id FROM free"#,
        skus as _,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| level_key(&row.sku, &row.location_id)).collect()
}

/// Locks levels in key order and reads them, with the time of the database. Unknown keys are missing in the answer.
pub async fn lock_levels(
    conn: &mut Conn,
    keys: &[LevelKey],
) -> Result<(BTreeMap<LevelKey, LockedLevel>, DateTime<Utc>), Error> {
    let (skus, locations) = columns(keys.iter());
    let rows = sqlx::query!(
        r#"SELECT l.sku, l.location_id, on_hand, reserved, committed, safety_stock, backorder_limit,
                  low_stock_threshold, version, fence_epoch, fence
           FROM inventory_level l
           JOIN UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
             ON l.sku = k.sku AND l.location_id = k.location_id
           ORDER BY l.sku, l.location_id
           FOR UPDATE OF l"#,
        &skus as _,
        &locations as _,
    )
    .fetch_all(&mut *conn)
    .await?;
    let now = time_after_locks(conn).await?;
    let mut levels = BTreeMap::new();
    for row in rows {
        let fence = (row.fence_epoch, row.fence);
        let level = level_of!(row);
        levels.insert(level.key.clone(), LockedLevel { level, fence });
    }
    Ok((levels, now))
}

/// The database's time, read after the wait for row locks: so it never runs backwards from one order of a SKU to the next.
pub(super) async fn time_after_locks(conn: &mut Conn) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(conn).await?)
}

/// One level.
pub async fn find_level(conn: &mut Conn, key: &LevelKey) -> Result<Option<InventoryLevel>, Error> {
    Ok(find_levels(conn, std::slice::from_ref(key)).await?.pop())
}

/// Levels as they are at the moment, in key order. Unknown keys are missing in the answer.
pub async fn find_levels(conn: &mut Conn, keys: &[LevelKey]) -> Result<Vec<InventoryLevel>, Error> {
    let (skus, locations) = columns(keys.iter());
    let rows = sqlx::query_as!(
        LevelRow,
        "SELECT l.sku, l.location_id, on_hand, reserved, committed, safety_stock, backorder_limit,
                low_stock_threshold, version
         FROM inventory_level l
         JOIN UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
           ON l.sku = k.sku AND l.location_id = k.location_id
         ORDER BY l.sku, l.location_id",
        &skus as _,
        &locations as _,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(InventoryLevel::try_from).collect()
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct LevelFilter {
    /// Only levels of this SKU.
    pub sku: Option<Sku>,
    /// Only levels at this location.
    pub location_id: Option<LocationId>,
    /// Only levels that are low, as [`InventoryLevel::is_low_stock`] says, or only those that are not.
    pub is_low_stock: Option<bool>,
    /// Only levels after this one.
    pub starting_after: Option<LevelKey>,
}

/// Levels in key order. Made and planned for its filters: see `orders::list`. A list by location or by what is left walks
/// through the levels: there are as many as the catalogue has (a million take 0.7 s), and an index would be paid for with
/// every order.
pub async fn list_levels(
    conn: &mut Conn,
    filter: &LevelFilter,
    limit: i64,
) -> Result<Vec<InventoryLevel>, Error> {
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT sku, location_id, on_hand, reserved, committed, safety_stock, backorder_limit, low_stock_threshold, version
         FROM inventory_level WHERE true",
    );
    if let Some(sku) = &filter.sku {
        query.push(" AND sku = ").push_bind(sku.as_str());
    }
    if let Some(location_id) = &filter.location_id {
        query.push(" AND location_id = ").push_bind(location_id.as_str());
    }
    if let Some(is_low) = filter.is_low_stock {
        query.push(" AND (on_hand + backorder_limit - reserved - committed - safety_stock <= ");
        query.push("COALESCE(low_stock_threshold, 0)) = ").push_bind(is_low);
    }
    if let Some(LevelKey { sku, location_id }) = &filter.starting_after {
        query.push(" AND (sku, location_id) > (").push_bind(sku.as_str()).push(", ");
        query.push_bind(location_id.as_str()).push(")");
    }
    query.push(" ORDER BY sku, location_id LIMIT ").push_bind(limit);
    let rows: Vec<LevelRow> = query.build_query_as().persistent(false).fetch_all(conn).await?;
    rows.into_iter().map(InventoryLevel::try_from).collect()
}

/// Makes the levels that do not exist yet, empty. Gives how many it made.
pub async fn insert_missing_levels(conn: &mut Conn, keys: &[LevelKey]) -> Result<u64, Error> {
    let (skus, locations) = columns(keys.iter());
    let result = sqlx::query!(
        r#"INSERT INTO inventory_level (sku, location_id)
           SELECT * FROM UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
           ORDER BY sku COLLATE "C", location_id COLLATE "C"
           ON CONFLICT DO NOTHING"#,
        &skus as _,
        &locations as _,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Writes levels that this transaction has locked; `reserved` and `committed` stay as they are.
pub async fn write_levels(conn: &mut Conn, levels: &[&InventoryLevel]) -> Result<(), Error> {
    let (skus, locations) = columns(levels.iter().map(|level| &level.key));
    let on_hand: Vec<i64> = levels.iter().map(|level| level.on_hand).collect();
    let safety: Vec<i64> = levels.iter().map(|level| level.safety_stock).collect();
    let backorder: Vec<i64> = levels.iter().map(|level| level.backorder_limit).collect();
    let thresholds: Vec<Option<i64>> = levels.iter().map(|level| level.low_stock_threshold).collect();
    let versions: Vec<i64> = levels.iter().map(|level| level.version).collect();
    let result = sqlx::query!(
        "UPDATE inventory_level l
         SET on_hand = c.on_hand, safety_stock = c.safety_stock, backorder_limit = c.backorder_limit,
             low_stock_threshold = c.low_stock_threshold, version = c.version, updated_at = now()
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
              AS c (sku, location_id, on_hand, safety_stock, backorder_limit, low_stock_threshold, version)
         WHERE l.sku = c.sku AND l.location_id = c.location_id",
        &skus as _,
        &locations as _,
        &on_hand,
        &safety,
        &backorder,
        &thresholds as _,
        &versions,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, levels.len(), "write levels")
}

/// By how much the counters of a level change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CounterMove {
    /// Units held for orders.
    pub reserved: i64,
    /// Units sold.
    pub committed: i64,
    /// Units in the building.
    pub on_hand: i64,
}

/// Moves the counters of levels that this transaction has locked. Whoever moves `on_hand` writes the ledger too.
pub async fn move_counters(
    conn: &mut Conn,
    moves: &BTreeMap<LevelKey, CounterMove>,
) -> Result<Vec<LevelChange>, Error> {
    let (skus, locations) = columns(moves.keys());
    let reserved: Vec<i64> = moves.values().map(|counters| counters.reserved).collect();
    let committed: Vec<i64> = moves.values().map(|counters| counters.committed).collect();
    let on_hand: Vec<i64> = moves.values().map(|counters| counters.on_hand).collect();
    let rows = sqlx::query_as!(
        LevelRow,
        "UPDATE inventory_level l
         SET reserved = l.reserved + m.reserved, committed = l.committed + m.committed, on_hand = l.on_hand + m.on_hand,
             version = l.version + 1, updated_at = now()
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
              AS m (sku, location_id, reserved, committed, on_hand)
         WHERE l.sku = m.sku AND l.location_id = m.location_id
         RETURNING l.sku, l.location_id, l.on_hand, l.reserved, l.committed, l.safety_stock, l.backorder_limit,
                   l.low_stock_threshold, l.version",
        &skus as _,
        &locations as _,
        &reserved,
        &committed,
        &on_hand,
    )
    .fetch_all(conn)
    .await?;
    if rows.len() != moves.len() {
        let message = format!("move counters of levels: {} rows instead of {}", rows.len(), moves.len());
        return Err(Error::Inconsistent(message));
    }
    let change = |row: LevelRow| {
        let after = InventoryLevel::try_from(row)?;
        let by = moves.get(&after.key).copied().unwrap_or_default();
        let before = InventoryLevel {
            reserved: after.reserved - by.reserved,
            committed: after.committed - by.committed,
            on_hand: after.on_hand - by.on_hand,
            version: after.version - 1,
            ..after.clone()
        };
        Ok(LevelChange { before, after })
    };
    rows.into_iter().map(change).collect()
}

/// A level as it is stored.
#[derive(sqlx::FromRow)]
pub(super) struct LevelRow {
    pub(super) sku: String,
    pub(super) location_id: String,
    pub(super) on_hand: i64,
    pub(super) reserved: i64,
    pub(super) committed: i64,
    pub(super) safety_stock: i64,
    pub(super) backorder_limit: i64,
    pub(super) low_stock_threshold: Option<i64>,
    pub(super) version: i64,
}

impl TryFrom<LevelRow> for InventoryLevel {
    type Error = Error;

    fn try_from(row: LevelRow) -> Result<Self, Error> {
        Ok(level_of!(row))
    }
}

pub(super) fn columns<'a>(keys: impl Iterator<Item = &'a LevelKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (key.sku.as_str(), key.location_id.as_str())).unzip()
}

pub(super) fn level_key(sku: &str, location_id: &str) -> Result<LevelKey, Error> {
    Ok(LevelKey { sku: parse(sku, "sku")?, location_id: parse(location_id, "location_id")? })
}
