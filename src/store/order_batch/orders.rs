//! The orders of a batch, their lines, and the inbox.

use uuid::Uuid;

use crate::{
    domain::ids::{EventId, OrderId, OrderLineId},
    planted::{self, Fault},
    store::{
        Conn, Error, expect_rows,
        orders::{LockedOrder, LockedRow},
    },
};

/// Notes that events take effect in this transaction, in the order of their ids. Gives those that have not before. Must be
/// the first write of the transaction.
pub async fn insert_inbox(conn: &mut Conn, events: &[(&str, EventId)]) -> Result<Vec<EventId>, Error> {
    if planted::is_on(Fault::NoInbox) {
        return Ok(events.iter().map(|(_, id)| *id).collect());
    }
    let (consumers, ids) = columns(events);
    let fresh = sqlx::query_scalar!(
        "INSERT INTO inbox (consumer, event_id)
         SELECT consumer, event_id FROM UNNEST($1::text[], $2::uuid[]) AS n (consumer, event_id)
         ORDER BY event_id, consumer
         ON CONFLICT DO NOTHING RETURNING event_id",
        &consumers as _,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(fresh.into_iter().map(EventId::from).collect())
}

/// Takes back what this transaction has noted of events that take effect in another one.
pub async fn delete_inbox(conn: &mut Conn, events: &[(&str, EventId)]) -> Result<(), Error> {
    if planted::is_on(Fault::NoInbox) {
        return Ok(());
    }
    let (consumers, ids) = columns(events);
    let result = sqlx::query!(
        "DELETE FROM inbox i USING UNNEST($1::text[], $2::uuid[]) AS n (consumer, event_id)
         WHERE i.consumer = n.consumer AND i.event_id = n.event_id",
        &consumers as _,
        &ids,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "take events out of the inbox")
}

fn columns<'a>(events: &[(&'a str, EventId)]) -> (Vec<&'a str>, Vec<Uuid>) {
    events.iter().map(|(consumer, id)| (*consumer, id.uuid())).unzip()
}

/// Takes the row locks of orders, in the order of their ids. Unknown ones are missing in the answer.
pub async fn lock(conn: &mut Conn, ids: &[OrderId]) -> Result<Vec<LockedOrder>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        LockedRow,
        r#"SELECT id, status, version, total_amount, amount_canceled, keeps_money, extensions, currency, capture_method,
                  created_at, expires_at, expires_at <= clock_timestamp() AS "is_overdue!",
                  customer_id IS NOT NULL OR client_id IS NOT NULL AS "is_counted!"
           FROM orders WHERE id = ANY($1) ORDER BY id FOR UPDATE"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(LockedOrder::try_from).collect()
}

/// What changed of an order that this transaction has locked.
#[derive(Debug, Clone, Copy)]
pub struct OrderMark<'a> {
    /// The order as it is from now on. Only its status and its version are written.
    pub order: &'a LockedOrder,
    /// The version at which it was locked.
    pub from_version: i64,
}

/// Writes status and version of orders. None of them is canceled by it.
pub async fn mark(conn: &mut Conn, marks: &[OrderMark<'_>]) -> Result<(), Error> {
    let ids: Vec<Uuid> = marks.iter().map(|mark| mark.order.id.uuid()).collect();
    let from: Vec<i64> = marks.iter().map(|mark| mark.from_version).collect();
    let statuses: Vec<&str> = marks.iter().map(|mark| mark.order.status.as_str()).collect();
    let versions: Vec<i64> = marks.iter().map(|mark| mark.order.version).collect();
    let result = sqlx::query!(
        "UPDATE orders o SET status = n.status, version = n.version, updated_at = now()
         FROM UNNEST($1::uuid[], $2::bigint[], $3::text[], $4::bigint[]) AS n (id, from_version, status, version)
         WHERE o.id = n.id AND o.version = n.from_version",
        &ids,
        &from,
        &statuses as _,
        &versions,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, marks.len(), "mark orders")
}

/// Counts units of lines as shipped. Gives the orders that have units left that are neither canceled nor shipped.
pub async fn fulfil_lines(
    conn: &mut Conn,
    lines: &[(OrderId, OrderLineId, i64)],
) -> Result<Vec<OrderId>, Error> {
    let orders: Vec<Uuid> = lines.iter().map(|line| line.0.uuid()).collect();
    let ids: Vec<Uuid> = lines.iter().map(|line| line.1.uuid()).collect();
    let quantities: Vec<i64> = lines.iter().map(|line| line.2).collect();
    let result = sqlx::query!(
        "UPDATE order_line l SET quantity_fulfilled = l.quantity_fulfilled + n.quantity
         FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[]) AS n (order_id, id, quantity)
         WHERE l.order_id = n.order_id AND l.id = n.id",
        &orders,
        &ids,
        &quantities,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&result, lines.len(), "count shipped units of lines")?;
    let open = sqlx::query_scalar!(
        "SELECT DISTINCT order_id FROM order_line
         WHERE order_id = ANY($1) AND quantity > quantity_canceled + quantity_fulfilled",
        &orders,
    )
    .fetch_all(conn)
    .await?;
    Ok(open.into_iter().map(OrderId::from).collect())
}
