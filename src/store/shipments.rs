//! Shipments and what they hold.
//!
//! A line covers one reservation, all of it: what goes into a parcel was split off before (`reservations::split`). The index
//! `shipment_line_covered_once_key` keeps a reservation from being in two parcels.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{
    Conn, Error, error::parse, expect_rows, inventory::level_key, newest_first,
    reservations::MovedReservation,
};
use crate::domain::{
    ids::{OrderId, OrderLineId, ReservationId, ShipmentId},
    inventory::{LevelKey, LocationId},
    shipment::{Shipment, ShipmentLine, ShipmentStatus, Tracking},
};

/// Inserts a pending shipment of these committed reservations, which lie at its location and in no other shipment.
pub async fn insert(
    conn: &mut Conn,
    id: ShipmentId,
    order_id: OrderId,
    location_id: &LocationId,
    tracking: Option<&Tracking>,
    parts: &[MovedReservation],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO shipment (id, order_id, location_id, status, tracking_carrier, tracking_number, tracking_url)
         VALUES ($1, $2, $3, 'pending', $4, $5, $6)",
        id.uuid(),
        order_id.uuid(),
        location_id.as_str(),
        tracking.map(|tracking| &tracking.carrier),
        tracking.map(|tracking| &tracking.number),
        tracking.and_then(|tracking| tracking.url.as_ref()),
    )
    .execute(&mut *conn)
    .await?;
    let reservations: Vec<Uuid> = parts.iter().map(|part| part.id.uuid()).collect();
    let lines: Vec<Uuid> = parts.iter().map(|part| part.order_line_id.uuid()).collect();
    let quantities: Vec<i64> = parts.iter().map(|part| part.quantity).collect();
    sqlx::query!(
        "INSERT INTO shipment_line (shipment_id, reservation_id, order_line_id, quantity)
         SELECT $1, n.* FROM UNNEST($2::uuid[], $3::uuid[], $4::bigint[]) AS n",
        id.uuid(),
        &reservations,
        &lines,
        &quantities,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes the status of a shipment, and its tracking where it is told now. Its order must be locked by this transaction.
pub async fn mark(
    conn: &mut Conn,
    id: ShipmentId,
    from: ShipmentStatus,
    to: ShipmentStatus,
    tracking: Option<&Tracking>,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE shipment SET status = $3, updated_at = now(),
                shipped_at = CASE WHEN $3 = 'shipped' THEN now() ELSE shipped_at END,
                tracking_carrier = CASE WHEN $7 THEN $4 ELSE tracking_carrier END,
                tracking_number = CASE WHEN $7 THEN $5 ELSE tracking_number END,
                tracking_url = CASE WHEN $7 THEN $6 ELSE tracking_url END
         WHERE id = $1 AND status = $2",
        id.uuid(),
        from.as_str(),
        to.as_str(),
        tracking.map(|tracking| &tracking.carrier),
        tracking.map(|tracking| &tracking.number),
        tracking.and_then(|tracking| tracking.url.as_ref()),
        tracking.is_some(),
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "mark shipment")
}

/// Takes parts of reservations out of the shipments that hold them: whoever moves them on does this first.
pub async fn uncover(conn: &mut Conn, parts: &[(ReservationId, i64)]) -> Result<(), Error> {
    let (ids, quantities): (Vec<Uuid>, Vec<i64>) =
        parts.iter().map(|(id, quantity)| (id.uuid(), *quantity)).unzip();
    let result = sqlx::query!(
        "UPDATE shipment_line l
         SET is_covering = l.quantity > n.quantity,
             quantity = CASE WHEN l.quantity > n.quantity THEN l.quantity - n.quantity ELSE l.quantity END
         FROM UNNEST($1::uuid[], $2::bigint[]) AS n (id, quantity)
         WHERE l.reservation_id = n.id AND l.is_covering",
        &ids,
        &quantities,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, parts.len(), "uncover reservations")
}

/// Takes everything out of a shipment that will not leave.
pub async fn uncover_all(conn: &mut Conn, id: ShipmentId) -> Result<(), Error> {
    sqlx::query!("UPDATE shipment_line SET is_covering = false WHERE shipment_id = $1", id.uuid())
        .execute(conn)
        .await?;
    Ok(())
}

/// Cancels the shipments of an order that have not left and hold nothing any more.
pub async fn cancel_empty(conn: &mut Conn, order_id: OrderId) -> Result<Vec<ShipmentId>, Error> {
    let ids = sqlx::query_scalar!(
        "UPDATE shipment s SET status = 'canceled', updated_at = now()
         WHERE s.order_id = $1 AND s.status IN ('pending', 'packed')
           AND NOT EXISTS (SELECT 1 FROM shipment_line l WHERE l.shipment_id = s.id AND l.is_covering IS NOT FALSE)
         RETURNING id",
        order_id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(ShipmentId::from).collect())
}

/// What a shipment holds of one reservation.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The reservation.
    pub reservation_id: ReservationId,
    /// Its order line.
    pub order_line_id: OrderLineId,
    /// The level it comes from, and goes back to.
    pub level: LevelKey,
    /// How many units.
    pub quantity: i64,
    /// How many of them came back.
    pub quantity_returned: i64,
}

/// What a shipment holds, reservation by reservation.
pub async fn list_pieces(conn: &mut Conn, order_id: OrderId, id: ShipmentId) -> Result<Vec<Piece>, Error> {
    let rows = sqlx::query!(
        "SELECT l.reservation_id, l.order_line_id, r.sku, r.location_id, l.quantity, l.quantity_returned
         FROM shipment_line l JOIN reservation r ON r.order_id = $1 AND r.id = l.reservation_id
         WHERE l.shipment_id = $2 AND l.is_covering IS NOT FALSE ORDER BY l.reservation_id",
        order_id.uuid(),
        id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Piece {
                reservation_id: row.reservation_id.into(),
                order_line_id: row.order_line_id.into(),
                level: level_key(&row.sku, &row.location_id)?,
                quantity: row.quantity,
                quantity_returned: row.quantity_returned,
            })
        })
        .collect()
}

/// Notes that parts of a shipment came back. The constraint `shipment_line_returned` bounds them.
pub async fn add_returned(
    conn: &mut Conn,
    id: ShipmentId,
    parts: &[(ReservationId, i64)],
) -> Result<(), Error> {
    let (reservations, quantities): (Vec<Uuid>, Vec<i64>) =
        parts.iter().map(|(id, quantity)| (id.uuid(), *quantity)).unzip();
    let result = sqlx::query!(
        "UPDATE shipment_line l SET quantity_returned = l.quantity_returned + n.quantity
         FROM UNNEST($2::uuid[], $3::bigint[]) AS n (id, quantity)
         WHERE l.shipment_id = $1 AND l.reservation_id = n.id",
        id.uuid(),
        &reservations,
        &quantities,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, parts.len(), "add returned quantities")
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ShipmentFilter {
    /// Only shipments of this order.
    pub order_id: Option<OrderId>,
    /// Only shipments in this status.
    pub status: Option<ShipmentStatus>,
    /// Only shipments from this location.
    pub location_id: Option<LocationId>,
    /// Only those made at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only those made before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only shipments made before this one.
    pub starting_after: Option<ShipmentId>,
}

/// One shipment with what it holds.
pub async fn find(conn: &mut Conn, id: ShipmentId) -> Result<Option<Shipment>, Error> {
    Ok(read(conn, &[id.uuid()]).await?.pop())
}

/// An order's shipments with what they hold, oldest first.
pub async fn list_of_order(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Shipment>, Error> {
    let query = sqlx::query_scalar!("SELECT id FROM shipment WHERE order_id = $1", order_id.uuid());
    let ids = query.fetch_all(&mut *conn).await?;
    read(conn, &ids).await
}

/// Shipments with what they hold, newest first. Made and planned for its filters: see `orders::list`.
pub async fn list(conn: &mut Conn, filter: &ShipmentFilter, limit: i64) -> Result<Vec<Shipment>, Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT id FROM shipment WHERE true");
    if let Some(order_id) = filter.order_id {
        query.push(" AND order_id = ").push_bind(order_id.uuid());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(location_id) = &filter.location_id {
        query.push(" AND location_id = ").push_bind(location_id.as_str().to_owned());
    }
    newest_first::push_created(&mut query, filter.created_gte, filter.created_lt);
    newest_first::push_page(&mut query, filter.starting_after.map(ShipmentId::uuid), limit);
    let ids: Vec<Uuid> = query.build_query_scalar().persistent(false).fetch_all(&mut *conn).await?;
    let mut shipments = read(conn, &ids).await?;
    shipments.reverse();
    Ok(shipments)
}

/// These shipments, oldest first. A canceled one shows what it held.
async fn read(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<Shipment>, Error> {
    let rows = sqlx::query!(
        "SELECT id, order_id, location_id, status, created_at, shipped_at, tracking_carrier, tracking_number, tracking_url
         FROM shipment WHERE id = ANY($1) ORDER BY id",
        ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut lines = lines_of(conn, ids).await?;
    rows.into_iter()
        .map(|row| {
            let carrier = row.tracking_carrier.zip(row.tracking_number);
            Ok(Shipment {
                id: row.id.into(),
                order_id: row.order_id.into(),
                location_id: parse(&row.location_id, "shipment.location_id")?,
                status: parse(&row.status, "shipment.status")?,
                created_at: row.created_at,
                shipped_at: row.shipped_at,
                tracking: carrier.map(|(carrier, number)| Tracking {
                    carrier,
                    number,
                    url: row.tracking_url,
                }),
                lines: lines.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}

async fn lines_of(conn: &mut Conn, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<ShipmentLine>>, Error> {
    let rows = sqlx::query!(
        r#"SELECT l.shipment_id, l.order_line_id, sum(l.quantity)::bigint AS "quantity!",
                  sum(l.quantity_returned)::bigint AS "quantity_returned!"
           FROM shipment_line l JOIN shipment s ON s.id = l.shipment_id
           WHERE l.shipment_id = ANY($1) AND (l.is_covering OR s.status = 'canceled')
           GROUP BY 1, 2 ORDER BY 1, 2"#,
        ids,
    )
    .fetch_all(conn)
    .await?;
    let mut lines = BTreeMap::<Uuid, Vec<ShipmentLine>>::new();
    for row in rows {
        lines.entry(row.shipment_id).or_default().push(ShipmentLine {
            order_line_id: row.order_line_id.into(),
            quantity: row.quantity,
            quantity_returned: row.quantity_returned,
        });
    }
    Ok(lines)
}
