//! Reservations, once placed: moving them, whole or in parts, from one status to the next together with the counters of
//! their levels.
//!
//! A part that goes another way than the rest becomes a row of its own: the rest keeps its row, and so whatever refers to it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    Conn, Error,
    error::parse,
    inventory::{self, CounterMove, level_key},
};
use crate::domain::{
    ids::{OrderId, OrderLineId, ReservationId, ShipmentId},
    inventory::{LevelChange, LevelKey},
    reservation::{ReservationStatus, Shortage},
    shipment::ShipmentStatus,
};

/// A reservation with the shipment that holds it.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Which.
    pub id: ReservationId,
    /// Its order line.
    pub order_line_id: OrderLineId,
    /// The level it takes from.
    pub level: LevelKey,
    /// The first reservation that its line had at its level, whatever has become of it: of a line that is split, these stand
    /// in the order in which its locations were chosen. The ids of parts that were split off later do not.
    pub first_id: ReservationId,
    /// How many units.
    pub quantity: i64,
    /// The shipment that it is to leave with.
    pub shipment: Option<(ShipmentId, ShipmentStatus)>,
}

/// A reservation, or the part of one, that moved to another status.
#[derive(Debug, Clone)]
pub struct MovedReservation {
    /// Which: a new one, where a part moved.
    pub id: ReservationId,
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

/// A step of reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The status they have.
    pub from: ReservationStatus,
    /// The status they get.
    pub to: ReservationStatus,
    /// Whether the units are not in the building any more.
    pub leaves_building: bool,
}

impl Step {
    /// A step that leaves `on_hand` as it is.
    pub const fn new(from: ReservationStatus, to: ReservationStatus) -> Self {
        Self { from, to, leaves_building: false }
    }

    /// A step by which the units leave the building.
    pub const fn leaving(from: ReservationStatus, to: ReservationStatus) -> Self {
        Self { from, to, leaves_building: true }
    }

    /// What it does to the counters of a level.
    fn counters(self, quantity: i64) -> CounterMove {
        let held = |status| i64::from(status == ReservationStatus::Held);
        let committed = |status| i64::from(status == ReservationStatus::Committed);
        CounterMove {
            reserved: quantity * (held(self.to) - held(self.from)),
            committed: quantity * (committed(self.to) - committed(self.from)),
            on_hand: if self.leaves_building { -quantity } else { 0 },
        }
    }
}

/// The reservations of an order in one status, with the shipments that hold them, oldest first.
pub async fn list_of_order(
    conn: &mut Conn,
    order_id: OrderId,
    status: ReservationStatus,
) -> Result<Vec<Reservation>, Error> {
    let rows = sqlx::query!(
        r#"SELECT r.id, r.order_line_id, r.sku, r.location_id, r.first_id AS "first_id!", r.quantity,
                  s.id AS "shipment_id?", s.status AS "shipment_status?"
           FROM (SELECT *, first_value(id) OVER (PARTITION BY order_line_id, location_id ORDER BY id) AS first_id
                 FROM reservation WHERE order_id = $1) r
           LEFT JOIN shipment_line l ON l.reservation_id = r.id AND l.is_covering
           LEFT JOIN shipment s ON s.id = l.shipment_id
           WHERE r.status = $2 ORDER BY r.id"#,
        order_id.uuid(),
        status.as_str(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let shipment_status =
                row.shipment_status.map(|text| parse(&text, "shipment.status")).transpose()?;
            Ok(Reservation {
                id: row.id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                first_id: row.first_id.into(),
                quantity: row.quantity,
                shipment: row.shipment_id.map(ShipmentId::from).zip(shipment_status),
            })
        })
        .collect()
}

/// Locks the levels of the reservations of `orders` in this status, in key order. Who moves them in several steps does this
/// first: each step locks its own in order, but not all of them together.
pub async fn lock_levels_of(
    conn: &mut Conn,
    orders: &[OrderId],
    status: ReservationStatus,
) -> Result<(), Error> {
    let order_ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "SELECT l.sku FROM inventory_level l
         JOIN (SELECT DISTINCT sku, location_id FROM reservation WHERE order_id = ANY($1) AND status = $2) r
           ON l.sku = r.sku AND l.location_id = r.location_id
         ORDER BY l.sku, l.location_id FOR UPDATE OF l",
        &order_ids,
        status.as_str(),
    )
    .fetch_all(conn)
    .await?;
    Ok(())
}

/// Moves every reservation of `orders` that is in `from` to `to`, and the counters of their levels with them.
///
/// The orders must be locked by this transaction. Levels are locked in key order. Repeating it moves nothing.
pub async fn transition(
    conn: &mut Conn,
    orders: &[OrderId],
    from: ReservationStatus,
    to: ReservationStatus,
) -> Result<Vec<LevelChange>, Error> {
    lock_levels_of(conn, orders, from).await?;
    let order_ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "UPDATE reservation SET status = $3, expires_at = NULL, updated_at = now()
         WHERE order_id = ANY($1) AND status = $2
         RETURNING sku, location_id, quantity",
        &order_ids,
        from.as_str(),
        to.as_str(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let moved: Vec<_> = rows
        .iter()
        .map(|row| Ok((level_key(&row.sku, &row.location_id)?, row.quantity)))
        .collect::<Result<_, Error>>()?;
    move_counters(conn, moved, Step::new(from, to)).await
}

/// Moves parts of reservations of one order, at most as much of each as it has, and the counters of their levels. Levels are
/// locked in key order. Where units are to leave the building that are not in it, nothing moves, and that is the answer.
///
/// The order must be locked by this transaction.
pub async fn take(
    conn: &mut Conn,
    order_id: OrderId,
    parts: &[(ReservationId, i64)],
    step: Step,
) -> Result<Result<Moved, Vec<Shortage>>, Error> {
    let short = lock_levels(conn, order_id, parts).await?;
    if step.leaves_building && !short.is_empty() {
        return Ok(Err(short));
    }
    let reservations = split(conn, order_id, parts, step.from, step.to).await?;
    let parts = reservations.iter().map(|part| (part.level.clone(), part.quantity));
    let levels = move_counters(conn, parts, step).await?;
    Ok(Ok(Moved { reservations, levels }))
}

/// Locks the levels of these parts, and names those that have less on hand than that.
async fn lock_levels(
    conn: &mut Conn,
    order_id: OrderId,
    parts: &[(ReservationId, i64)],
) -> Result<Vec<Shortage>, Error> {
    let (ids, quantities) = columns(parts);
    let rows = sqlx::query!(
        r#"SELECT l.sku, l.location_id, l.on_hand, r.quantity AS "quantity!" FROM inventory_level l
           JOIN (SELECT sku, location_id, sum(n.quantity)::bigint AS quantity
                 FROM reservation r JOIN UNNEST($2::uuid[], $3::bigint[]) AS n (id, quantity) ON n.id = r.id
                 WHERE r.order_id = $1 GROUP BY 1, 2) r
             ON l.sku = r.sku AND l.location_id = r.location_id
           ORDER BY l.sku, l.location_id FOR UPDATE OF l"#,
        order_id.uuid(),
        &ids,
        &quantities,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .filter(|row| row.on_hand < row.quantity)
        .map(|row| {
            Ok(Shortage {
                sku: parse(&row.sku, "sku")?,
                location_id: Some(parse(&row.location_id, "location_id")?),
                requested: row.quantity,
                available: row.on_hand,
                locations: Vec::new(),
            })
        })
        .collect()
}

/// Moves parts of reservations from one status to another, or makes them rows of their own where both are the same. Counters
/// of levels stay as they are.
pub async fn split(
    conn: &mut Conn,
    order_id: OrderId,
    parts: &[(ReservationId, i64)],
    from: ReservationStatus,
    to: ReservationStatus,
) -> Result<Vec<MovedReservation>, Error> {
    let (ids, quantities) = columns(parts);
    let new_ids: Vec<Uuid> = parts.iter().map(|_| ReservationId::new().uuid()).collect();
    let rows = sqlx::query!(
        r#"WITH n AS (SELECT * FROM UNNEST($2::uuid[], $3::bigint[], $4::uuid[]) AS n (id, quantity, new_id)),
           whole AS (
               UPDATE reservation r SET status = $6, updated_at = now(),
                      expires_at = CASE WHEN $6 = 'held' THEN r.expires_at END
               FROM n WHERE r.order_id = $1 AND r.id = n.id AND r.status = $5 AND r.quantity = n.quantity
               RETURNING r.id, r.order_line_id, r.sku, r.location_id, r.quantity),
           rest AS (
               UPDATE reservation r SET quantity = r.quantity - n.quantity, updated_at = now()
               FROM n WHERE r.order_id = $1 AND r.id = n.id AND r.status = $5 AND r.quantity > n.quantity
               RETURNING n.new_id, n.quantity AS taken, r.order_line_id, r.sku, r.location_id, r.expires_at,
                         r.created_at),
           part AS (
               INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at,
                                        created_at, updated_at)
               SELECT new_id, $1, order_line_id, sku, location_id, taken, $6,
                      CASE WHEN $6 = 'held' THEN expires_at END, created_at, now() FROM rest
               RETURNING id, order_line_id, sku, location_id, quantity)
           SELECT id AS "id!", order_line_id AS "order_line_id!", sku AS "sku!", location_id AS "location_id!",
                  quantity AS "quantity!"
           FROM (SELECT * FROM whole UNION ALL SELECT * FROM part) moved"#,
        order_id.uuid(),
        &ids,
        &quantities,
        &new_ids,
        from.as_str(),
        to.as_str(),
    )
    .fetch_all(conn)
    .await?;
    if rows.len() != parts.len() {
        let (found, wanted) = (rows.len(), parts.len());
        return Err(Error::Inconsistent(format!(
            "{order_id}: {found} of {wanted} reservations are {from} and large enough"
        )));
    }
    rows.into_iter()
        .map(|row| {
            Ok(MovedReservation {
                id: row.id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                quantity: row.quantity,
            })
        })
        .collect()
}

fn columns(parts: &[(ReservationId, i64)]) -> (Vec<Uuid>, Vec<i64>) {
    parts.iter().map(|(id, quantity)| (id.uuid(), *quantity)).unzip()
}

async fn move_counters(
    conn: &mut Conn,
    parts: impl IntoIterator<Item = (LevelKey, i64)>,
    step: Step,
) -> Result<Vec<LevelChange>, Error> {
    let mut quantities = BTreeMap::<LevelKey, i64>::new();
    for (key, quantity) in parts {
        *quantities.entry(key).or_default() += quantity;
    }
    let moves = quantities.into_iter().map(|(key, quantity)| (key, step.counters(quantity))).collect();
    inventory::move_counters(conn, &moves).await
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
