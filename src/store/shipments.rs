//! Shipments and what they hold.

use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::{
    ids::{OrderId, ShipmentId},
    inventory::LocationId,
    shipment::{Shipment, ShipmentLine, ShipmentStatus},
};

/// Inserts one pending shipment for each location from which an order has committed stock that no live shipment holds.
///
/// The order must be locked by this transaction. Repeating it inserts nothing.
pub async fn insert_pending(conn: &mut Conn, order_id: OrderId) -> Result<Vec<ShipmentId>, Error> {
    let locations = sqlx::query_scalar!(
        "SELECT DISTINCT r.location_id FROM reservation r
         WHERE r.order_id = $1 AND r.status = 'committed' AND NOT EXISTS (
             SELECT 1 FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
             WHERE l.reservation_id = r.id AND s.status <> 'canceled')
         ORDER BY 1",
        order_id.uuid(),
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut ids = Vec::with_capacity(locations.len());
    for location in locations {
        let id = ShipmentId::new();
        insert_one(conn, order_id, id, &location).await?;
        ids.push(id);
    }
    Ok(ids)
}

async fn insert_one(conn: &mut Conn, order_id: OrderId, id: ShipmentId, location: &str) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO shipment (id, order_id, location_id, status) VALUES ($1, $2, $3, 'pending')",
        id.uuid(),
        order_id.uuid(),
        location,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "INSERT INTO shipment_line (shipment_id, reservation_id, order_line_id, quantity)
         SELECT $1, r.id, r.order_line_id, r.quantity FROM reservation r
         WHERE r.order_id = $2 AND r.location_id = $3 AND r.status = 'committed' AND NOT EXISTS (
             SELECT 1 FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
             WHERE l.reservation_id = r.id AND s.status <> 'canceled')",
        id.uuid(),
        order_id.uuid(),
        location,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves every shipment of an order that is in one of `from` to `to`. The order must be locked by this transaction.
pub async fn mark_of_order(
    conn: &mut Conn,
    order_id: OrderId,
    from: &[ShipmentStatus],
    to: ShipmentStatus,
) -> Result<Vec<ShipmentId>, Error> {
    let from: Vec<&str> = from.iter().map(|status| status.as_str()).collect();
    let ids = sqlx::query_scalar!(
        "UPDATE shipment SET status = $3, updated_at = now(),
                shipped_at = CASE WHEN $3 = 'shipped' THEN now() ELSE shipped_at END
         WHERE order_id = $1 AND status = ANY($2) RETURNING id",
        order_id.uuid(),
        &from as _,
        to.as_str(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(ShipmentId::from).collect())
}

/// An order's shipments with what they hold, oldest first.
pub async fn list_of_order(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Shipment>, Error> {
    let rows = sqlx::query!(
        "SELECT s.id, s.location_id, s.status, s.created_at, s.shipped_at, l.order_line_id, l.quantity
         FROM shipment s JOIN shipment_line l ON l.shipment_id = s.id
         WHERE s.order_id = $1 ORDER BY s.id, l.order_line_id",
        order_id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    let mut shipments: Vec<Shipment> = Vec::new();
    for row in rows {
        let line = ShipmentLine { order_line_id: row.order_line_id.into(), quantity: row.quantity };
        match shipments.last_mut() {
            Some(shipment) if shipment.id.uuid() == row.id => shipment.lines.push(line),
            _ => shipments.push(Shipment {
                id: row.id.into(),
                order_id,
                location_id: parse::<LocationId>(&row.location_id, "shipment.location_id")?,
                status: parse(&row.status, "shipment.status")?,
                created_at: row.created_at,
                shipped_at: row.shipped_at,
                lines: vec![line],
            }),
        }
    }
    Ok(shipments)
}

/// What a shipment's stock means for the ledger: one movement for each level, of all its lines together.
pub async fn insert_ship_movements(
    conn: &mut Conn,
    order_id: OrderId,
    reservations: &[Uuid],
    actor: &str,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reference)
         SELECT r.sku, r.location_id, 'ship', -sum(r.quantity)::bigint, l.on_hand, $3, $2
         FROM reservation r JOIN inventory_level l ON l.sku = r.sku AND l.location_id = r.location_id
         WHERE r.order_id = $4 AND r.id = ANY($1)
         GROUP BY r.sku, r.location_id, l.on_hand",
        reservations,
        order_id.to_string(),
        actor,
        order_id.uuid(),
    )
    .execute(conn)
    .await?;
    if result.rows_affected() == 0 && !reservations.is_empty() {
        return expect_rows(&result, 1, "insert ship movements");
    }
    Ok(())
}
