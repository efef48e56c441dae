//! Refunds and the units they are for.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows, newest_first};
use crate::domain::{
    ids::{OrderId, PaymentId, RefundId},
    line_quantity::LineQuantity,
    refund::{Refund, RefundStatus},
};

/// Inserts a pending refund, whose money this transaction has claimed: see `payments::claim_refund`.
pub async fn insert(conn: &mut Conn, refund: &Refund) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO refund (id, payment_id, amount, status, reason, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
        refund.id.uuid(),
        refund.payment_id.uuid(),
        refund.amount,
        refund.status.as_str(),
        refund.reason,
        refund.created_at,
    )
    .execute(&mut *conn)
    .await?;
    if refund.lines.is_empty() {
        return Ok(());
    }
    let (ids, quantities): (Vec<Uuid>, Vec<i64>) =
        refund.lines.iter().map(|line| (line.line_id.uuid(), line.quantity)).unzip();
    sqlx::query!(
        "INSERT INTO refund_line (refund_id, order_line_id, quantity)
         SELECT $1, n.* FROM UNNEST($2::uuid[], $3::bigint[]) AS n",
        refund.id.uuid(),
        &ids,
        &quantities,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves a refund on that stands in status `from`. Its payment must be locked by this transaction.
pub async fn mark(
    conn: &mut Conn,
    id: RefundId,
    from: RefundStatus,
    status: RefundStatus,
    failure_code: Option<&str>,
) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE refund SET status = $3, failure_code = $4, outcome_unknown_since = NULL, updated_at = now()
         WHERE id = $1 AND status = $2",
        id.uuid(),
        from.as_str(),
        status.as_str(),
        failure_code,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "mark refund")
}

/// Notes that the provider is going to be asked for a pending refund. Gives how long ago it was asked first: a repetition
/// keeps the time.
pub async fn mark_asked(conn: &mut Conn, id: RefundId) -> Result<TimeDelta, Error> {
    let row = sqlx::query!(
        r#"UPDATE refund SET asked_at = COALESCE(asked_at, now()) WHERE id = $1
           RETURNING asked_at AS "asked_at!", now() AS "now!""#,
        id.uuid(),
    )
    .fetch_one(conn)
    .await?;
    Ok(row.now - row.asked_at)
}

/// Notes that the provider has taken a pending refund on and has not carried it out yet: it knows of it from then on.
pub async fn mark_accepted(conn: &mut Conn, id: RefundId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE refund SET accepted_at = now(), asked_at = COALESCE(asked_at, now()), outcome_unknown_since = NULL
         WHERE id = $1 AND status = 'pending' AND accepted_at IS NULL",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the provider owes an answer.
pub async fn mark_outcome_unknown(conn: &mut Conn, id: RefundId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE refund SET outcome_unknown_since = COALESCE(outcome_unknown_since, now())
         WHERE id = $1 AND status = 'pending'",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One refund.
pub async fn find(conn: &mut Conn, id: RefundId) -> Result<Option<Refund>, Error> {
    Ok(read(conn, &[id.uuid()]).await?.pop())
}

/// A payment's refunds, all of them, oldest first.
pub async fn list_of_payment(conn: &mut Conn, id: PaymentId) -> Result<Vec<Refund>, Error> {
    let query = sqlx::query_scalar!("SELECT id FROM refund WHERE payment_id = $1", id.uuid());
    let ids = query.fetch_all(&mut *conn).await?;
    read(conn, &ids).await
}

/// The refunds of all payments of an order, oldest first.
pub async fn list_of_order(conn: &mut Conn, id: OrderId) -> Result<Vec<Refund>, Error> {
    let query = sqlx::query_scalar!(
        "SELECT r.id FROM payment p JOIN refund r ON r.payment_id = p.id WHERE p.order_id = $1",
        id.uuid(),
    );
    let ids = query.fetch_all(&mut *conn).await?;
    read(conn, &ids).await
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct RefundFilter {
    /// Only refunds of this order's payments.
    pub order_id: Option<OrderId>,
    /// Only refunds of this payment.
    pub payment_id: Option<PaymentId>,
    /// Only refunds in this status.
    pub status: Option<RefundStatus>,
    /// Only those decided at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only those decided before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only refunds decided before this one.
    pub starting_after: Option<RefundId>,
}

/// Refunds, newest first. Made and planned for its filters: see `orders::list`.
pub async fn list(conn: &mut Conn, filter: &RefundFilter, limit: i64) -> Result<Vec<Refund>, Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT id FROM refund WHERE true");
    if let Some(order_id) = filter.order_id {
        query.push(" AND payment_id = ANY (ARRAY (SELECT p.id FROM payment p WHERE p.order_id = ");
        query.push_bind(order_id.uuid()).push("))");
    }
    if let Some(payment_id) = filter.payment_id {
        query.push(" AND payment_id = ").push_bind(payment_id.uuid());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    newest_first::push_created(&mut query, filter.created_gte, filter.created_lt);
    newest_first::push_page(&mut query, filter.starting_after.map(RefundId::uuid), limit);
    let ids: Vec<Uuid> = query.build_query_scalar().persistent(false).fetch_all(&mut *conn).await?;
    let mut refunds = read(conn, &ids).await?;
    refunds.reverse();
    Ok(refunds)
}

/// These refunds, oldest first.
async fn read(conn: &mut Conn, ids: &[Uuid]) -> Result<Vec<Refund>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        "SELECT r.id, r.payment_id, p.order_id, r.amount, r.status, r.reason, r.failure_code, r.outcome_unknown_since,
                r.asked_at, r.accepted_at, r.created_at, r.updated_at
         FROM refund r JOIN payment p ON p.id = r.payment_id WHERE r.id = ANY($1) ORDER BY r.id",
        ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut lines = lines_of(conn, ids).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Refund {
                id: row.id.into(),
                payment_id: row.payment_id.into(),
                order_id: row.order_id.into(),
                amount: row.amount,
                status: parse(&row.status, "refund.status")?,
                reason: row.reason,
                failure_code: row.failure_code,
                outcome_unknown_since: row.outcome_unknown_since,
                asked_at: row.asked_at,
                accepted_at: row.accepted_at,
                created_at: row.created_at,
                updated_at: row.updated_at,
                lines: lines.remove(&row.id).unwrap_or_default(),
            })
        })
        .collect()
}

async fn lines_of(conn: &mut Conn, ids: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<LineQuantity>>, Error> {
    let rows = sqlx::query!(
        "SELECT refund_id, order_line_id, quantity FROM refund_line WHERE refund_id = ANY($1) ORDER BY 1, 2",
        ids,
    )
    .fetch_all(conn)
    .await?;
    let mut lines = BTreeMap::<Uuid, Vec<LineQuantity>>::new();
    for row in rows {
        let line = LineQuantity { line_id: row.order_line_id.into(), quantity: row.quantity };
        lines.entry(row.refund_id).or_default().push(line);
    }
    Ok(lines)
}
