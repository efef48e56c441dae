//! Candidates: the levels that an order may be taken from, and in which order, for lines that name no location.
//!
//! Those at active locations, the lowest priority first, then by id. A level at a location that is not active is taken from
//! only by lines that name it.

use chrono::{DateTime, Utc};

use super::{
    Conn, Error,
    inventory::{LevelRow, LockedLevel, level_key, level_of, time_after_locks},
};
use crate::domain::inventory::{InventoryLevel, LocationId, Sku};

/// A level under its row lock.
#[derive(Debug, Clone)]
pub struct LockedCandidate {
    /// The level.
    pub locked: LockedLevel,
    /// Lower first; `None`: only for those who name its location.
    pub priority: Option<i32>,
}

/// Candidates of these SKUs, of each at most so many: by SKU, best first. Nothing is locked.
pub async fn list(conn: &mut Conn, skus: &[&str], limit_of_each: i64) -> Result<Vec<InventoryLevel>, Error> {
    let rows = sqlx::query_as!(
        LevelRow,
        r#"SELECT l.sku AS "sku!", location_id AS "location_id!", on_hand AS "on_hand!", reserved AS "reserved!",
                  committed AS "committed!", safety_stock AS "safety_stock!", backorder_limit AS "backorder_limit!",
                  low_stock_threshold, version AS "version!"
           FROM (SELECT DISTINCT UNNEST($1::text[]) AS sku) k
           CROSS JOIN LATERAL (
               SELECT l.*, p.priority FROM inventory_level l JOIN location p ON p.id = l.location_id
               WHERE l.sku = k.sku AND p.is_active
               ORDER BY p.priority, l.location_id LIMIT $2) l
           ORDER BY l.sku, l.priority, l.location_id"#,
        skus as _,
        limit_of_each,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(InventoryLevel::try_from).collect()
}

/// Locks in key order and reads the levels of these SKUs, at one location each or at all there are, with the time of the
/// database. A SKU must not be named both ways. What does not exist is missing in the answer.
pub async fn lock(
    conn: &mut Conn,
    wanted: &[(&Sku, Option<&LocationId>)],
) -> Result<(Vec<LockedCandidate>, DateTime<Utc>), Error> {
    let (skus, locations): (Vec<&str>, Vec<Option<&str>>) =
        wanted.iter().map(|(sku, location_id)| (sku.as_str(), location_id.map(LocationId::as_str))).unzip();
    let rows = sqlx::query!(
        r#"SELECT l.sku, l.location_id, on_hand, reserved, committed, safety_stock, backorder_limit,
                  low_stock_threshold, l.version, fence_epoch, fence, CASE WHEN p.is_active THEN p.priority END AS priority
           FROM inventory_level l
           JOIN UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
             ON l.sku = k.sku AND l.location_id = COALESCE(k.location_id, l.location_id)
           JOIN location p ON p.id = l.location_id
           ORDER BY l.sku, l.location_id
           FOR UPDATE OF l"#,
        &skus as _,
        &locations as _,
    )
    .fetch_all(&mut *conn)
    .await?;
    let now = time_after_locks(conn).await?;
    let mut candidates = Vec::with_capacity(rows.len());
    for row in rows {
        let level = level_of!(row);
        let locked = LockedLevel { level, fence: (row.fence_epoch, row.fence) };
        candidates.push(LockedCandidate { locked, priority: row.priority });
    }
    Ok((candidates, now))
}
