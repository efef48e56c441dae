//! The reservations and the shipments of a batch.

use uuid::Uuid;

use crate::{
    domain::{
        ids::{OrderId, OrderLineId, ReservationId, ShipmentId},
        inventory::{LevelKey, LocationId},
        movement::MovementType,
    },
    store::{
        Conn, Error, expect_rows,
        inventory::{columns, level_key},
        movements::NewMovement,
    },
};

/// A part of an order's committed stock: one reservation.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its order.
    pub order_id: OrderId,
    /// Which.
    pub id: ReservationId,
    /// Its order line.
    pub order_line_id: OrderLineId,
    /// The level it takes from.
    pub level: LevelKey,
    /// How many units.
    pub quantity: i64,
}

/// The committed stock of orders that is in no shipment, oldest first.
pub async fn list_uncovered(conn: &mut Conn, orders: &[OrderId]) -> Result<Vec<Part>, Error> {
    let ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT r.order_id, r.id, r.order_line_id, r.sku, r.location_id, r.quantity FROM reservation r
         WHERE r.order_id = ANY($1) AND r.status = 'committed'
           AND NOT EXISTS (SELECT 1 FROM shipment_line l WHERE l.reservation_id = r.id AND l.is_covering)
         ORDER BY r.id",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Part {
                order_id: row.order_id.into(),
                id: row.id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                quantity: row.quantity,
            })
        })
        .collect()
}

/// A shipment that is to be made of whole reservations, which lie at its location and in no other shipment.
#[derive(Debug, Clone)]
pub struct NewShipment {
    /// Its id.
    pub id: ShipmentId,
    /// Its order.
    pub order_id: OrderId,
    /// Where it leaves from.
    pub location_id: LocationId,
    /// What it holds.
    pub parts: Vec<Part>,
}

/// Inserts pending shipments.
pub async fn insert(conn: &mut Conn, shipments: &[NewShipment]) -> Result<(), Error> {
    let ids: Vec<Uuid> = shipments.iter().map(|shipment| shipment.id.uuid()).collect();
    let orders: Vec<Uuid> = shipments.iter().map(|shipment| shipment.order_id.uuid()).collect();
    let locations: Vec<&str> = shipments.iter().map(|shipment| shipment.location_id.as_str()).collect();
    sqlx::query!(
        "INSERT INTO shipment (id, order_id, location_id, status)
         SELECT id, order_id, location_id, 'pending'
         FROM UNNEST($1::uuid[], $2::uuid[], $3::text[]) AS n (id, order_id, location_id)",
        &ids,
        &orders,
        &locations as _,
    )
    .execute(&mut *conn)
    .await?;
    let parts = || shipments.iter().flat_map(|of| of.parts.iter().map(move |part| (of.id, part)));
    let ids: Vec<Uuid> = parts().map(|(id, _)| id.uuid()).collect();
    let reservations: Vec<Uuid> = parts().map(|(_, part)| part.id.uuid()).collect();
    let lines: Vec<Uuid> = parts().map(|(_, part)| part.order_line_id.uuid()).collect();
    let quantities: Vec<i64> = parts().map(|(_, part)| part.quantity).collect();
    sqlx::query!(
        "INSERT INTO shipment_line (shipment_id, reservation_id, order_line_id, quantity)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[])",
        &ids,
        &reservations,
        &lines,
        &quantities,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A reservation in a shipment that has not left.
#[derive(Debug, Clone)]
pub struct Unsent {
    /// The shipment.
    pub shipment_id: ShipmentId,
    /// Whether somebody has packed it.
    pub is_packed: bool,
    /// The reservation, whole.
    pub part: Part,
}

/// What the shipments of orders hold that have not left, shipment by shipment, oldest first.
///
/// `IS NOT FALSE`: with the condition of `shipment_line_covered_once_key` itself, PostgreSQL may read all of that index for each shipment.
/// `OFFSET 0`: reservations are found by both columns of their key; in a join it may take the second alone, and read all of the index.
pub async fn list_unsent(conn: &mut Conn, orders: &[OrderId]) -> Result<Vec<Unsent>, Error> {
    let ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT s.order_id, s.id AS shipment_id, s.status, r.id, r.order_line_id, r.sku, r.location_id, r.quantity
         FROM shipment s
         JOIN shipment_line l ON l.shipment_id = s.id AND l.is_covering IS NOT FALSE
         CROSS JOIN LATERAL (SELECT * FROM reservation WHERE order_id = s.order_id AND id = l.reservation_id OFFSET 0) r
         WHERE s.order_id = ANY($1) AND (s.status IN ('pending', 'packed')) IS TRUE
         ORDER BY s.order_id, s.id, r.id",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let part = Part {
                order_id: row.order_id.into(),
                id: row.id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                quantity: row.quantity,
            };
            let shipment_id = row.shipment_id.into();
            let is_packed = row.status == "packed";
            Ok(Unsent { shipment_id, is_packed, part })
        })
        .collect()
}

/// Marks whole committed reservations as fulfilled. The counters of their levels are the caller's.
pub async fn fulfil_reservations(conn: &mut Conn, parts: &[&Part]) -> Result<(), Error> {
    let orders: Vec<Uuid> = parts.iter().map(|part| part.order_id.uuid()).collect();
    let ids: Vec<Uuid> = parts.iter().map(|part| part.id.uuid()).collect();
    let quantities: Vec<i64> = parts.iter().map(|part| part.quantity).collect();
    let result = sqlx::query!(
        "UPDATE reservation r SET status = 'fulfilled', updated_at = now()
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS n (order_id, id, quantity)
         WHERE r.order_id = n.order_id AND r.id = n.id AND r.status = 'committed' AND r.quantity = n.quantity",
        &orders,
        &ids,
        &quantities,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, parts.len(), "fulfil reservations")
}

/// Marks shipments as shipped that have not left.
pub async fn mark_shipped(conn: &mut Conn, ids: &[ShipmentId]) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let result = sqlx::query!(
        "UPDATE shipment SET status = 'shipped', updated_at = now(), shipped_at = now()
         WHERE id = ANY($1) AND (status IN ('pending', 'packed')) IS TRUE",
        &ids,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "mark shipments as shipped")
}

/// Writes the ledger rows of shipments that left, in this order.
pub async fn insert_movements(
    conn: &mut Conn,
    movements: &[(ShipmentId, NewMovement)],
    actor: &str,
) -> Result<(), Error> {
    let (skus, locations) = columns(movements.iter().map(|(_, movement)| &movement.key));
    let deltas: Vec<i64> = movements.iter().map(|(_, movement)| movement.delta).collect();
    let after: Vec<i64> = movements.iter().map(|(_, movement)| movement.on_hand_after).collect();
    let references: Vec<String> = movements.iter().map(|(id, _)| id.to_string()).collect();
    let result = sqlx::query!(
        "INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reference)
         SELECT sku, location_id, $6, delta, on_hand, $7, reference
         FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[]) WITH ORDINALITY
              AS m (sku, location_id, delta, on_hand, reference, place)
         ORDER BY place",
        &skus as _,
        &locations as _,
        &deltas,
        &after,
        &references,
        MovementType::Ship.as_str(),
        actor,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, movements.len(), "insert movements of shipments")
}
