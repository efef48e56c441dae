//! The lines of orders, and the counters of what became of their units.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::{
    domain::{
        ids::{OrderId, OrderLineId},
        order::{LineAllocation, LineProgress, OrderLine},
    },
    store::{Conn, Error, error::parse, expect_rows, inventory::level_key},
};

/// What can become of the units of a line. The constraint `order_line_progress` bounds each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineCounter {
    /// They were canceled.
    Canceled,
    /// They have shipped.
    Fulfilled,
    /// They came back.
    Returned,
    /// They were refunded by name.
    Refunded,
}

/// Adds to one counter of lines of an order; a negative quantity takes away.
pub async fn count_lines(
    conn: &mut Conn,
    order_id: OrderId,
    counter: LineCounter,
    quantities: &BTreeMap<OrderLineId, i64>,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = quantities.keys().map(|id| id.uuid()).collect();
    let quantities: Vec<i64> = quantities.values().copied().collect();
    let factor = |of: LineCounter| i64::from(of == counter);
    let result = sqlx::query!(
        "UPDATE order_line l
         SET quantity_canceled = l.quantity_canceled + $4 * n.quantity,
             quantity_fulfilled = l.quantity_fulfilled + $5 * n.quantity,
             quantity_returned = l.quantity_returned + $6 * n.quantity,
             quantity_refunded = l.quantity_refunded + $7 * n.quantity
         FROM UNNEST($2::uuid[], $3::bigint[]) AS n (id, quantity)
         WHERE l.order_id = $1 AND l.id = n.id",
        order_id.uuid(),
        &ids,
        &quantities,
        factor(LineCounter::Canceled),
        factor(LineCounter::Fulfilled),
        factor(LineCounter::Returned),
        factor(LineCounter::Refunded),
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "count units of lines")
}

/// Whether a unit of the order is neither canceled nor shipped.
pub async fn has_open_lines(conn: &mut Conn, order_id: OrderId) -> Result<bool, Error> {
    let open = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM order_line WHERE order_id = $1
                          AND quantity > quantity_canceled + quantity_fulfilled) AS "open!""#,
        order_id.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(open)
}

/// The lines of an order, in the order in which they were sent.
pub async fn list_lines(conn: &mut Conn, order_id: OrderId) -> Result<Vec<OrderLine>, Error> {
    Ok(lines_of(conn, &[order_id.uuid()]).await?.remove(&order_id.uuid()).unwrap_or_default())
}

/// The lines of several orders, by order.
pub(super) async fn lines_of(
    conn: &mut Conn,
    order_ids: &[Uuid],
) -> Result<BTreeMap<Uuid, Vec<OrderLine>>, Error> {
    let rows = sqlx::query!(
        "SELECT id, order_id, sku, location_id, quantity, unit_amount, quantity_canceled, quantity_fulfilled,
                quantity_returned, quantity_refunded
         FROM order_line WHERE order_id = ANY($1) ORDER BY order_id, id",
        order_ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut allocations = allocations_of(conn, order_ids).await?;
    let mut lines = BTreeMap::<Uuid, Vec<OrderLine>>::new();
    for row in rows {
        lines.entry(row.order_id).or_default().push(OrderLine {
            id: row.id.into(),
            level: level_key(&row.sku, &row.location_id)?,
            quantity: row.quantity,
            unit_amount: row.unit_amount,
            quantity_canceled: row.quantity_canceled,
            quantity_fulfilled: row.quantity_fulfilled,
            allocations: allocations.remove(&row.id).unwrap_or_default(),
            progress: LineProgress {
                quantity_returned: row.quantity_returned,
                quantity_refunded: row.quantity_refunded,
            },
        });
    }
    Ok(lines)
}

/// From where the lines that are split were taken, by line, in the order in which their reservations were made. What became
/// of these changes nothing.
async fn allocations_of(
    conn: &mut Conn,
    order_ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<LineAllocation>>, Error> {
    let rows = sqlx::query!(
        "SELECT order_line_id, location_id, quantity FROM reservation r
         WHERE order_id = ANY($1) AND EXISTS (
             SELECT 1 FROM reservation other
             WHERE other.order_id = r.order_id AND other.order_line_id = r.order_line_id
               AND other.location_id <> r.location_id)
         ORDER BY id",
        order_ids,
    )
    .fetch_all(conn)
    .await?;
    let mut allocations = HashMap::<Uuid, Vec<LineAllocation>>::new();
    for row in rows {
        let part = LineAllocation {
            location_id: parse(&row.location_id, "reservation.location_id")?,
            quantity: row.quantity,
        };
        let parts = allocations.entry(row.order_line_id).or_default();
        match parts.iter_mut().find(|earlier| earlier.location_id == part.location_id) {
            Some(earlier) => earlier.quantity += part.quantity,
            None => parts.push(part),
        }
    }
    Ok(allocations)
}
