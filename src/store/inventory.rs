//! Inventory levels and the ledger of their movements.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::inventory::{InventoryLevel, LevelKey};

/// A level as it was read under its row lock, with the newest fencing token that wrote it.
#[derive(Debug, Clone)]
pub struct LockedLevel {
    /// The counters.
    pub level: InventoryLevel,
    /// `(epoch, sequence)` of the newest token.
    pub fence: (i32, i64),
}

/// Which of the levels are locked by another transaction right now. Those that are not are locked by this one, which is to
/// be rolled back.
pub async fn find_locked(conn: &mut Conn, keys: &[LevelKey]) -> Result<HashSet<LevelKey>, Error> {
    let (skus, locations) = columns(keys.iter());
    let rows = sqlx::query!(
        r#"WITH wanted AS (SELECT * FROM UNNEST($1::text[], $2::text[]) AS k (sku, location_id)),
                free AS (SELECT l.sku, l.location_id FROM inventory_level l JOIN wanted USING (sku, location_id)
                         FOR UPDATE OF l SKIP LOCKED)
           SELECT sku AS "sku!", location_id AS "location_id!" FROM inventory_level JOIN wanted USING (sku, location_id)
           EXCEPT SELECT sku, location_id FROM free"#,
        &skus as _,
        &locations as _,
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
        r#"SELECT l.sku, l.location_id, on_hand, reserved, committed, safety_stock, backorder_limit, version,
                  fence_epoch, fence
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
    // Read after the wait for the row locks, so that time never runs backwards from one order of a SKU to the next.
    let now = sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(conn).await?;
    let mut levels = BTreeMap::new();
    for row in rows {
        let key = level_key(&row.sku, &row.location_id)?;
        let level = InventoryLevel {
            key: key.clone(),
            on_hand: row.on_hand,
            reserved: row.reserved,
            committed: row.committed,
            safety_stock: row.safety_stock,
            backorder_limit: row.backorder_limit,
            version: row.version,
        };
        levels.insert(key, LockedLevel { level, fence: (row.fence_epoch, row.fence) });
    }
    Ok((levels, now))
}

/// One level.
pub async fn find_level(conn: &mut Conn, key: &LevelKey) -> Result<Option<InventoryLevel>, Error> {
    let levels = list_levels(conn, Some(key.sku.as_str()), Some(key), 1).await?;
    Ok(levels.into_iter().next())
}

/// Levels in key order: of one SKU if given, and from `from` on if given.
pub async fn list_levels(
    conn: &mut Conn,
    sku: Option<&str>,
    from: Option<&LevelKey>,
    limit: i64,
) -> Result<Vec<InventoryLevel>, Error> {
    let rows = sqlx::query!(
        r#"SELECT sku, location_id, on_hand, reserved, committed, safety_stock, backorder_limit, version
           FROM inventory_level
           WHERE ($1::text IS NULL OR sku = $1)
             AND ($2::text IS NULL OR (sku, location_id) >= ($2, $3))
           ORDER BY sku, location_id LIMIT $4"#,
        sku,
        from.map(|key| key.sku.as_str()),
        from.map(|key| key.location_id.as_str()),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(InventoryLevel {
                key: level_key(&row.sku, &row.location_id)?,
                on_hand: row.on_hand,
                reserved: row.reserved,
                committed: row.committed,
                safety_stock: row.safety_stock,
                backorder_limit: row.backorder_limit,
                version: row.version,
            })
        })
        .collect()
}

/// Makes the levels that do not exist yet, empty.
pub async fn insert_missing_levels(conn: &mut Conn, keys: &[LevelKey]) -> Result<(), Error> {
    let (skus, locations) = columns(keys.iter());
    sqlx::query!(
        r#"INSERT INTO inventory_level (sku, location_id)
           SELECT * FROM UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
           ORDER BY sku COLLATE "C", location_id COLLATE "C"
           ON CONFLICT DO NOTHING"#,
        &skus as _,
        &locations as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A level as it is to be after a change by hand or import.
#[derive(Debug, Clone)]
pub struct WriteLevel {
    /// The counters to store; `reserved` and `committed` are not written.
    pub level: InventoryLevel,
    /// By how much `on_hand` changes.
    pub delta_on_hand: i64,
}

/// Who changes stock, and why.
#[derive(Debug, Clone)]
pub struct MovementCause {
    /// Kind of movement: `receive`, `adjust`, `count`, `ship`, `return` or `transfer`.
    pub movement_type: &'static str,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What it belongs to.
    pub reference: Option<String>,
}

/// Writes levels that this transaction has locked, and the ledger rows of those whose `on_hand` changes.
pub async fn write_levels(
    conn: &mut Conn,
    writes: &[WriteLevel],
    cause: &MovementCause,
) -> Result<(), Error> {
    let (skus, locations) = columns(writes.iter().map(|write| &write.level.key));
    let on_hand: Vec<i64> = writes.iter().map(|write| write.level.on_hand).collect();
    let safety: Vec<i64> = writes.iter().map(|write| write.level.safety_stock).collect();
    let backorder: Vec<i64> = writes.iter().map(|write| write.level.backorder_limit).collect();
    let deltas: Vec<i64> = writes.iter().map(|write| write.delta_on_hand).collect();
    let result = sqlx::query!(
        "UPDATE inventory_level l
         SET on_hand = c.on_hand, safety_stock = c.safety_stock, backorder_limit = c.backorder_limit,
             version = l.version + 1, updated_at = now()
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
              AS c (sku, location_id, on_hand, safety_stock, backorder_limit)
         WHERE l.sku = c.sku AND l.location_id = c.location_id",
        &skus as _,
        &locations as _,
        &on_hand,
        &safety,
        &backorder,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&result, writes.len(), "write levels")?;
    sqlx::query!(
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reason, reference)
         SELECT c.sku, c.location_id, $5, c.delta, c.on_hand, $6, $7, $8
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS c (sku, location_id, on_hand, delta)
         WHERE c.delta <> 0",
        &skus as _,
        &locations as _,
        &on_hand,
        &deltas,
        cause.movement_type,
        cause.actor,
        cause.reason,
        cause.reference,
    )
    .execute(conn)
    .await?;
    Ok(())
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

/// Moves the counters of levels that this transaction has locked. Who moves `on_hand` writes the ledger too: see
/// [`insert_movements`].
pub async fn move_counters<'a>(
    conn: &mut Conn,
    moves: impl Iterator<Item = (&'a LevelKey, CounterMove)>,
) -> Result<(), Error> {
    let (keys, moves): (Vec<&LevelKey>, Vec<CounterMove>) = moves.unzip();
    let (skus, locations) = columns(keys.iter().copied());
    let reserved: Vec<i64> = moves.iter().map(|counters| counters.reserved).collect();
    let committed: Vec<i64> = moves.iter().map(|counters| counters.committed).collect();
    let on_hand: Vec<i64> = moves.iter().map(|counters| counters.on_hand).collect();
    let result = sqlx::query!(
        "UPDATE inventory_level l
         SET reserved = l.reserved + m.reserved, committed = l.committed + m.committed, on_hand = l.on_hand + m.on_hand,
             version = l.version + 1, updated_at = now()
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
              AS m (sku, location_id, reserved, committed, on_hand)
         WHERE l.sku = m.sku AND l.location_id = m.location_id",
        &skus as _,
        &locations as _,
        &reserved,
        &committed,
        &on_hand,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, keys.len(), "move counters of levels")
}

/// Writes the ledger rows of levels whose `on_hand` this transaction has changed by so much.
pub async fn insert_movements(
    conn: &mut Conn,
    deltas: &BTreeMap<LevelKey, i64>,
    cause: &MovementCause,
) -> Result<(), Error> {
    let (skus, locations) = columns(deltas.keys());
    let quantities: Vec<i64> = deltas.values().copied().collect();
    let result = sqlx::query!(
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reason, reference)
         SELECT l.sku, l.location_id, $4, m.delta, l.on_hand, $5, $6, $7
         FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS m (sku, location_id, delta)
         JOIN inventory_level l ON l.sku = m.sku AND l.location_id = m.location_id",
        &skus as _,
        &locations as _,
        &quantities,
        cause.movement_type,
        cause.actor,
        cause.reason,
        cause.reference,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, deltas.len(), "insert stock movements")
}

fn columns<'a>(keys: impl Iterator<Item = &'a LevelKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (key.sku.as_str(), key.location_id.as_str())).unzip()
}

pub(super) fn level_key(sku: &str, location_id: &str) -> Result<LevelKey, Error> {
    Ok(LevelKey { sku: parse(sku, "sku")?, location_id: parse(location_id, "location_id")? })
}
