//! Orders and their lines, once placed.

use std::collections::{HashMap, HashSet};

use sqlx::types::Json;
use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows, inventory::level_key};
use crate::domain::{
    ids::OrderId,
    order::{CaptureMethod, LineAllocation, Order, OrderLine, OrderStatus},
};

/// What a use case needs of an order that it has locked.
#[derive(Debug, Clone)]
pub struct LockedOrder {
    /// Its id.
    pub id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Sequence of its newest event.
    pub version: i64,
    /// What it costs, minor units.
    pub total_amount: i64,
    /// Currency of its amounts.
    pub currency: crate::domain::money::Currency,
    /// When its money is captured.
    pub capture_method: CaptureMethod,
    /// Whether the time to pay it has run out, by the database's clock.
    pub is_overdue: bool,
}

/// Takes the row lock of an order.
pub async fn lock(conn: &mut Conn, id: OrderId) -> Result<Option<LockedOrder>, Error> {
    let row = sqlx::query!(
        r#"SELECT status, version, total_amount, currency, capture_method,
                  expires_at <= clock_timestamp() AS "is_overdue!"
           FROM orders WHERE id = $1 FOR UPDATE"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(LockedOrder {
            id,
            status: parse(&row.status, "orders.status")?,
            version: row.version,
            total_amount: row.total_amount,
            currency: parse(&row.currency, "orders.currency")?,
            capture_method: parse(&row.capture_method, "orders.capture_method")?,
            is_overdue: row.is_overdue,
        })
    })
    .transpose()
}

/// Takes the row locks of orders whose time to pay has run out: `among` these if given, any if not. Orders that another
/// transaction works on are passed over, and so are orders with a payment in flight until `pin_seconds` later.
pub async fn lock_expired(
    conn: &mut Conn,
    among: Option<&[OrderId]>,
    pin_seconds: f64,
    limit: i64,
) -> Result<Vec<(OrderId, i64)>, Error> {
    let among: Option<Vec<Uuid>> = among.map(|ids| ids.iter().map(|id| id.uuid()).collect());
    let rows = sqlx::query!(
        "SELECT o.id, o.version FROM orders o
         WHERE o.status = 'pending_payment' AND o.expires_at <= clock_timestamp()
           AND ($1::uuid[] IS NULL OR o.id = ANY($1))
           AND (o.expires_at <= clock_timestamp() - make_interval(secs => $2)
                OR NOT EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
                               AND p.status IN ('processing', 'requires_action')))
         ORDER BY o.expires_at LIMIT $3 FOR UPDATE OF o SKIP LOCKED",
        among.as_deref(),
        pin_seconds,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.version)).collect())
}

/// Writes status and version of an order that this transaction has locked at `from_version`.
pub async fn mark_status(
    conn: &mut Conn,
    id: OrderId,
    from_version: i64,
    status: OrderStatus,
    version: i64,
    cancel_reason: Option<&str>,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE orders SET status = $3, version = $4, updated_at = now(),
                canceled_at = CASE WHEN $3 = 'canceled' THEN COALESCE(canceled_at, now()) END,
                cancel_reason = COALESCE($5, cancel_reason)
         WHERE id = $1 AND version = $2",
        id.uuid(),
        from_version,
        status.as_str(),
        version,
        cancel_reason,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "mark order")
}

/// Marks orders that this transaction has locked as expired, one version on.
pub async fn mark_expired(conn: &mut Conn, ids: &[OrderId]) -> Result<(), Error> {
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let result = sqlx::query!(
        "UPDATE orders SET status = 'expired', version = version + 1, updated_at = now()
         WHERE id = ANY($1) AND status = 'pending_payment'",
        &uuids,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "mark orders expired")
}

/// Adds shipped units to lines of an order. A line that is split may be named several times.
pub async fn add_fulfilled(conn: &mut Conn, order_id: OrderId, lines: &[(Uuid, i64)]) -> Result<(), Error> {
    let (ids, quantities): (Vec<Uuid>, Vec<i64>) = lines.iter().copied().unzip();
    let result = sqlx::query!(
        "UPDATE order_line l SET quantity_fulfilled = quantity_fulfilled + n.quantity
         FROM (SELECT id, sum(quantity)::bigint AS quantity
               FROM UNNEST($1::uuid[], $2::bigint[]) AS parts (id, quantity) GROUP BY id) n
         WHERE l.order_id = $3 AND l.id = n.id",
        &ids,
        &quantities,
        order_id.uuid(),
    )
    .execute(conn)
    .await?;
    let distinct: HashSet<Uuid> = ids.into_iter().collect();
    expect_rows(&result, distinct.len(), "add fulfilled quantities")
}

/// Cancels what has not shipped of every line of an order.
pub async fn cancel_lines(conn: &mut Conn, id: OrderId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE order_line SET quantity_canceled = quantity - quantity_fulfilled WHERE order_id = $1",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The orders that have these references, by reference.
pub async fn find_by_references(
    conn: &mut Conn,
    references: &[&str],
) -> Result<HashMap<String, OrderId>, Error> {
    if references.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query!(
        r#"SELECT client_reference AS "client_reference!", id FROM orders WHERE client_reference = ANY($1)"#,
        references as _,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.client_reference, row.id.into())).collect())
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Only orders in this status.
    pub status: Option<OrderStatus>,
    /// Only orders of this customer.
    pub customer_id: Option<String>,
    /// Only the order with this reference.
    pub client_reference: Option<String>,
    /// Only the order with this id.
    pub id: Option<OrderId>,
    /// Only orders placed before this one.
    pub starting_after: Option<OrderId>,
}

/// One order with its lines.
pub async fn find(conn: &mut Conn, id: OrderId) -> Result<Option<Order>, Error> {
    let filter = OrderFilter { id: Some(id), ..OrderFilter::default() };
    Ok(list(conn, &filter, 1).await?.pop())
}

/// Orders with their lines, newest first.
pub async fn list(conn: &mut Conn, filter: &OrderFilter, limit: i64) -> Result<Vec<Order>, Error> {
    let rows = sqlx::query!(
        r#"SELECT id, client_reference, customer_id, status, version, currency, total_amount, capture_method,
                  metadata AS "metadata: Json<std::collections::BTreeMap<String, String>>",
                  expires_at, canceled_at, cancel_reason, created_at, updated_at
           FROM orders
           WHERE ($1::text IS NULL OR status = $1)
             AND ($2::text IS NULL OR customer_id = $2)
             AND ($3::text IS NULL OR client_reference = $3)
             AND ($4::uuid IS NULL OR id = $4)
             AND ($5::uuid IS NULL OR id < $5)
           ORDER BY id DESC LIMIT $6"#,
        filter.status.map(OrderStatus::as_str),
        filter.customer_id,
        filter.client_reference,
        filter.id.map(OrderId::uuid),
        filter.starting_after.map(OrderId::uuid),
        limit,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut orders = Vec::with_capacity(rows.len());
    for row in rows {
        orders.push(Order {
            id: row.id.into(),
            client_reference: row.client_reference,
            customer_id: row.customer_id,
            status: parse(&row.status, "orders.status")?,
            version: row.version,
            currency: parse(&row.currency, "orders.currency")?,
            total_amount: row.total_amount,
            capture_method: parse(&row.capture_method, "orders.capture_method")?,
            metadata: row.metadata.0,
            expires_at: row.expires_at,
            canceled_at: row.canceled_at,
            cancel_reason: row.cancel_reason,
            created_at: row.created_at,
            updated_at: row.updated_at,
            lines: Vec::new(),
        });
    }
    read_lines(&mut *conn, &mut orders).await?;
    read_allocations(conn, &mut orders).await?;
    Ok(orders)
}

async fn read_lines(conn: &mut Conn, orders: &mut [Order]) -> Result<(), Error> {
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT id, order_id, sku, location_id, quantity, unit_amount, quantity_canceled, quantity_fulfilled
         FROM order_line WHERE order_id = ANY($1) ORDER BY order_id, id",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let line = OrderLine {
            id: row.id.into(),
            level: level_key(&row.sku, &row.location_id)?,
            quantity: row.quantity,
            unit_amount: row.unit_amount,
            quantity_canceled: row.quantity_canceled,
            quantity_fulfilled: row.quantity_fulfilled,
            allocations: Vec::new(),
        };
        if let Some(order) = orders.iter_mut().find(|order| order.id.uuid() == row.order_id) {
            order.lines.push(line);
        }
    }
    Ok(())
}

/// Where the lines that are split are taken from, in the order in which their reservations were made.
async fn read_allocations(conn: &mut Conn, orders: &mut [Order]) -> Result<(), Error> {
    let ids: Vec<Uuid> = orders.iter().map(|order| order.id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT order_id, order_line_id, location_id, quantity FROM reservation r
         WHERE order_id = ANY($1) AND EXISTS (
             SELECT 1 FROM reservation other
             WHERE other.order_id = r.order_id AND other.order_line_id = r.order_line_id
               AND other.location_id <> r.location_id)
         ORDER BY id",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    for row in rows {
        let order = orders.iter_mut().find(|order| order.id.uuid() == row.order_id);
        let lines = order.into_iter().flat_map(|order| &mut order.lines);
        let Some(line) = lines.into_iter().find(|line| line.id.uuid() == row.order_line_id) else { continue };
        let part = LineAllocation {
            location_id: parse(&row.location_id, "reservation.location_id")?,
            quantity: row.quantity,
        };
        match line.allocations.iter_mut().find(|earlier| earlier.location_id == part.location_id) {
            Some(earlier) => earlier.quantity += part.quantity,
            None => line.allocations.push(part),
        }
    }
    Ok(())
}
