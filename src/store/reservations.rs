//! Reservations, once placed: moving all reservations of an order from one status to the next together with
//! the counters of their levels.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Conn, Error,
    inventory::{LevelRow, level_key},
};
use crate::domain::{
    ids::{OrderId, OrderLineId, ReservationId},
    inventory::{InventoryLevel, LevelChange, LevelKey},
    reservation::ReservationStatus,
};

/// A reservation that moved to another status.
#[derive(Debug, Clone)]
pub struct MovedReservation {
    /// Which.
    pub id: ReservationId,
    /// Its order.
    pub order_id: OrderId,
    /// Its order line.
    pub order_line_id: OrderLineId,
    /// The level it takes from.
    pub level: LevelKey,
    /// How many units.
    pub quantity: i64,
}

/// What moved together.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The reservations.
    pub reservations: Vec<MovedReservation>,
    /// Their levels.
    pub levels: Vec<LevelChange>,
}

/// Moves every reservation of `orders` that is in `from` to `to`, and the counters of their levels with them.
///
/// The orders must be locked by this transaction. Levels are locked in key order. Repeating it moves nothing.
pub async fn transition(
    conn: &mut Conn,
    orders: &[OrderId],
    from: ReservationStatus,
    to: ReservationStatus,
) -> Result<Moved, Error> {
    let order_ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "SELECT l.sku FROM inventory_level l
         JOIN (SELECT DISTINCT sku, location_id FROM reservation WHERE order_id = ANY($1) AND status = $2) r
           ON l.sku = r.sku AND l.location_id = r.location_id
         ORDER BY l.sku, l.location_id FOR UPDATE OF l",
        &order_ids,
        from.as_str(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let rows = sqlx::query!(
        "UPDATE reservation SET status = $3, expires_at = NULL, updated_at = now()
         WHERE order_id = ANY($1) AND status = $2
         RETURNING id, order_id, order_line_id, sku, location_id, quantity",
        &order_ids,
        from.as_str(),
        to.as_str(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let reservations = rows
        .into_iter()
        .map(|row| {
            Ok(MovedReservation {
                id: row.id.into(),
                order_id: row.order_id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                quantity: row.quantity,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let levels = move_counters(conn, &reservations, from, to).await?;
    Ok(Moved { reservations, levels })
}

/// What one unit does to `(reserved, committed, on_hand)` of its level.
fn effect(from: ReservationStatus, to: ReservationStatus) -> (i64, i64, i64) {
    let counted = |status| match status {
        ReservationStatus::Held => (1, 0),
        ReservationStatus::Committed => (0, 1),
        ReservationStatus::Fulfilled | ReservationStatus::Released | ReservationStatus::Expired => (0, 0),
    };
    let on_hand = if to == ReservationStatus::Fulfilled { -1 } else { 0 };
    (counted(to).0 - counted(from).0, counted(to).1 - counted(from).1, on_hand)
}

async fn move_counters(
    conn: &mut Conn,
    moved: &[MovedReservation],
    from: ReservationStatus,
    to: ReservationStatus,
) -> Result<Vec<LevelChange>, Error> {
    let mut by_level = BTreeMap::<&LevelKey, i64>::new();
    for reservation in moved {
        *by_level.entry(&reservation.level).or_default() += reservation.quantity;
    }
    let (reserved, committed, on_hand) = effect(from, to);
    let skus: Vec<&str> = by_level.keys().map(|key| key.sku.as_str()).collect();
    let locations: Vec<&str> = by_level.keys().map(|key| key.location_id.as_str()).collect();
    let quantities: Vec<i64> = by_level.values().copied().collect();
    let rows = sqlx::query_as!(
        LevelRow,
        "UPDATE inventory_level l
         SET reserved = l.reserved + $4 * m.quantity,
             committed = l.committed + $5 * m.quantity,
             on_hand = l.on_hand + $6 * m.quantity,
             version = l.version + 1,
             updated_at = now()
         FROM UNNEST($1::text[], $2::text[], $3::bigint[]) AS m (sku, location_id, quantity)
         WHERE l.sku = m.sku AND l.location_id = m.location_id
         RETURNING l.sku, l.location_id, l.on_hand, l.reserved, l.committed, l.safety_stock, l.backorder_limit,
                   l.low_stock_threshold, l.version",
        &skus as _,
        &locations as _,
        &quantities,
        reserved,
        committed,
        on_hand,
    )
    .fetch_all(conn)
    .await?;
    if rows.len() != by_level.len() {
        let message = format!("move counters of levels: {} rows instead of {}", rows.len(), by_level.len());
        return Err(Error::Inconsistent(message));
    }
    let change = |row: LevelRow| {
        let after = InventoryLevel::try_from(row)?;
        let quantity = by_level.get(&after.key).copied().unwrap_or_default();
        let before = InventoryLevel {
            reserved: after.reserved - reserved * quantity,
            committed: after.committed - committed * quantity,
            on_hand: after.on_hand - on_hand * quantity,
            version: after.version - 1,
            ..after.clone()
        };
        Ok(LevelChange { before, after })
    };
    rows.into_iter().map(change).collect()
}

/// Orders whose hold on one of these levels has run out, and which nothing keeps alive: see [`super::orders::lock_expired`].
pub async fn find_expired_orders(
    conn: &mut Conn,
    keys: &[LevelKey],
    pin_seconds: f64,
    limit: i64,
) -> Result<Vec<OrderId>, Error> {
    let (skus, locations): (Vec<&str>, Vec<&str>) =
        keys.iter().map(|key| (key.sku.as_str(), key.location_id.as_str())).unzip();
    let ids = sqlx::query_scalar!(
        "SELECT o.id FROM orders o
         WHERE o.status = 'pending_payment' AND o.expires_at <= now()
           AND (o.expires_at <= now() - make_interval(secs => $3)
                OR NOT EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
                               AND p.status IN ('processing', 'requires_action')))
           AND EXISTS (SELECT 1 FROM reservation r
                       JOIN UNNEST($1::text[], $2::text[]) AS k (sku, location_id)
                         ON r.sku = k.sku AND r.location_id = k.location_id
                       WHERE r.order_id = o.id AND r.status = 'held')
         ORDER BY o.expires_at LIMIT $4",
        &skus as _,
        &locations as _,
        pin_seconds,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(OrderId::from).collect())
}
