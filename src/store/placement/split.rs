//! Lines that are split over locations: the statement has written the reservation of all of a line at its first location,
//! and here it is divided, in the same transaction.
//!
//! What the parts take from their levels the statement has written already: this changes no level.

use uuid::Uuid;

use super::PlacedOrder;
use crate::{
    domain::{allocation::Allocation, ids::ReservationId},
    store::{Conn, Error, expect_rows},
};

/// The lines of the orders that are split: order, line, where from.
pub(super) fn lines<'a>(orders: &'a [PlacedOrder<'a>]) -> impl Iterator<Item = (Uuid, Uuid, &'a Allocation)> {
    orders.iter().flat_map(|order| {
        let lines = order.draft.lines.iter().zip(order.allocations);
        let split = lines.filter(|(_, allocation)| allocation.is_split());
        split.map(|(line, allocation)| (order.draft.id.uuid(), line.id.uuid(), allocation))
    })
}

/// Leaves the first part of each split line in the reservation that it has, and adds one for each further part.
pub(super) async fn divide(conn: &mut Conn, orders: &[PlacedOrder<'_>]) -> Result<(), Error> {
    let (mut order_ids, mut line_ids, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
    let mut further = Vec::new();
    for (order_id, line_id, allocation) in lines(orders) {
        order_ids.push(order_id);
        line_ids.push(line_id);
        quantities.push(allocation.first.quantity);
        further.extend(allocation.further.iter().map(|part| (line_id, part)));
    }
    if line_ids.is_empty() {
        return Ok(());
    }
    let divided = sqlx::query!(
        "UPDATE reservation r SET quantity = n.quantity
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS n (order_id, order_line_id, quantity)
         WHERE r.order_id = n.order_id AND r.order_line_id = n.order_line_id",
        &order_ids,
        &line_ids,
        &quantities,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&divided, line_ids.len(), "divide reservations")?;
    let ids: Vec<Uuid> = further.iter().map(|_| ReservationId::new().uuid()).collect();
    let of_lines: Vec<Uuid> = further.iter().map(|(line_id, _)| *line_id).collect();
    let locations: Vec<&str> = further.iter().map(|(_, part)| part.level.location_id.as_str()).collect();
    let quantities: Vec<i64> = further.iter().map(|(_, part)| part.quantity).collect();
    let added = sqlx::query!(
        "INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at, created_at,
                                  updated_at)
         SELECT n.id, r.order_id, r.order_line_id, r.sku, n.location_id, n.quantity, r.status, r.expires_at, r.created_at,
                r.updated_at
         FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) AS n (id, order_line_id, location_id, quantity)
         JOIN reservation r ON r.order_id = ANY($5) AND r.order_line_id = n.order_line_id",
        &ids,
        &of_lines,
        &locations as _,
        &quantities,
        &order_ids,
    )
    .execute(conn)
    .await?;
    expect_rows(&added, ids.len(), "insert reservations of split lines")
}
