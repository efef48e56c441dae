//! Orders and their lines, once placed.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::{
    ids::OrderId,
    order::{CaptureMethod, OrderStatus},
};

mod lines;
mod list;

pub use lines::{LineCounter, count_lines, has_open_lines, list_lines};
pub use list::{OrderFilter, exists, find, list};

/// What a use case needs of an order that it has locked.
#[derive(Debug, Clone)]
pub struct LockedOrder {
    /// Its id.
    pub id: OrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Sequence of its newest event.
    pub version: i64,
    /// What it cost when it was placed, minor units.
    pub total_amount: i64,
    /// What its canceled units would have cost.
    pub amount_canceled: i64,
    /// It was canceled with the wish to keep the money that was captured.
    pub keeps_money: bool,
    /// How often its time to pay was extended.
    pub extensions: i64,
    /// When it was placed.
    pub created_at: DateTime<Utc>,
    /// When its time to pay runs out.
    pub expires_at: DateTime<Utc>,
    /// Currency of its amounts.
    pub currency: crate::domain::money::Currency,
    /// When its money is captured.
    pub capture_method: CaptureMethod,
    /// Whether the time to pay it has run out, by the database's clock.
    pub is_overdue: bool,
    /// Whether it counts among the open orders of somebody.
    pub is_counted: bool,
}

impl LockedOrder {
    /// What is to be paid in all.
    pub const fn amount_due(&self) -> i64 {
        self.total_amount - self.amount_canceled
    }
}

/// Takes the row lock of an order.
pub async fn lock(conn: &mut Conn, id: OrderId) -> Result<Option<LockedOrder>, Error> {
    let row = sqlx::query_as!(
        LockedRow,
        r#"SELECT id, status, version, total_amount, amount_canceled, keeps_money, extensions, currency, capture_method,
                  created_at, expires_at, expires_at <= clock_timestamp() AS "is_overdue!",
                  customer_id IS NOT NULL OR client_id IS NOT NULL AS "is_counted!"
           FROM orders WHERE id = $1 FOR UPDATE"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(LockedOrder::try_from).transpose()
}

/// What is read of an order under its lock.
pub(super) struct LockedRow {
    pub(super) id: Uuid,
    pub(super) status: String,
    pub(super) version: i64,
    pub(super) total_amount: i64,
    pub(super) amount_canceled: i64,
    pub(super) keeps_money: bool,
    pub(super) extensions: i16,
    pub(super) currency: String,
    pub(super) capture_method: String,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) is_overdue: bool,
    pub(super) is_counted: bool,
}

impl TryFrom<LockedRow> for LockedOrder {
    type Error = Error;

    fn try_from(row: LockedRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.into(),
            status: parse(&row.status, "orders.status")?,
            version: row.version,
            total_amount: row.total_amount,
            amount_canceled: row.amount_canceled,
            keeps_money: row.keeps_money,
            extensions: row.extensions.into(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            currency: parse(&row.currency, "orders.currency")?,
            capture_method: parse(&row.capture_method, "orders.capture_method")?,
            is_overdue: row.is_overdue,
            is_counted: row.is_counted,
        })
    }
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
    .fetch_all(&mut *conn)
    .await?;
    let mut expired: Vec<(OrderId, i64)> = rows.into_iter().map(|row| (row.id.into(), row.version)).collect();
    if !expired.is_empty() {
        // A statement sees what was committed when it began, also of the payments of an order that it waited for or read
        // again. Under the lock no payment is added, so a second look is the last word.
        let pinned = list_pinned(conn, &expired, pin_seconds).await?;
        expired.retain(|(id, _)| !pinned.contains(&id.uuid()));
    }
    Ok(expired)
}

/// For how long the order has been over its time that is to be expired first, in seconds; 0 where there is none.
pub async fn find_overdue_seconds(conn: &mut Conn, pin_seconds: f64) -> Result<f64, Error> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT EXTRACT(EPOCH FROM clock_timestamp() - o.expires_at)::double precision AS "seconds!" FROM orders o
           WHERE o.status = 'pending_payment' AND o.expires_at <= clock_timestamp()
             AND (o.expires_at <= clock_timestamp() - make_interval(secs => $1)
                  OR NOT EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
                                 AND p.status IN ('processing', 'requires_action')))
           ORDER BY o.expires_at LIMIT 1"#,
        pin_seconds,
    );
    Ok(seconds.fetch_optional(conn).await?.unwrap_or_default())
}

/// Which of these orders a payment in flight keeps alive.
async fn list_pinned(
    conn: &mut Conn,
    locked: &[(OrderId, i64)],
    pin_seconds: f64,
) -> Result<Vec<Uuid>, Error> {
    let ids: Vec<Uuid> = locked.iter().map(|(id, _)| id.uuid()).collect();
    let pinned = sqlx::query_scalar!(
        "SELECT o.id FROM orders o
         WHERE o.id = ANY($1) AND o.expires_at > clock_timestamp() - make_interval(secs => $2)
           AND EXISTS (SELECT 1 FROM payment p WHERE p.order_id = o.id
                       AND p.status IN ('processing', 'requires_action'))",
        &ids,
        pin_seconds,
    )
    .fetch_all(conn)
    .await?;
    Ok(pinned)
}

/// Writes what changed of an order that this transaction has locked at `from_version`.
pub async fn mark(
    conn: &mut Conn,
    order: &LockedOrder,
    from_version: i64,
    cancel_reason: Option<&str>,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE orders SET status = $3, version = $4, amount_canceled = $6, keeps_money = $7, updated_at = now(),
                canceled_at = CASE WHEN $3 = 'canceled' THEN COALESCE(canceled_at, now()) END,
                cancel_reason = COALESCE($5, cancel_reason)
         WHERE id = $1 AND version = $2",
        order.id.uuid(),
        from_version,
        order.status.as_str(),
        order.version,
        cancel_reason,
        order.amount_canceled,
        order.keeps_money,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "mark order")
}

/// Gives an order that this transaction has locked, and its reservations, more time, `max_extensions` times at most.
pub async fn extend(
    conn: &mut Conn,
    id: OrderId,
    expires_at: DateTime<Utc>,
    max_extensions: i16,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE orders SET expires_at = $2, extensions = extensions + 1
         WHERE id = $1 AND status = 'pending_payment' AND extensions < $3 AND expires_at < $2",
        id.uuid(),
        expires_at,
        max_extensions,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&result, 1, "extend order")?;
    sqlx::query!(
        "UPDATE reservation SET expires_at = $2 WHERE order_id = $1 AND status = 'held'",
        id.uuid(),
        expires_at,
    )
    .execute(conn)
    .await?;
    Ok(())
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
