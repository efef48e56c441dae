//! Payments and their history.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows, newest_first, payment_lookups::FIRST_WAIT_SECONDS};
use crate::domain::{
    ids::{OrderId, PaymentId},
    payment::{Payment, PaymentStatus},
};

/// Inserts a new payment, `processing`. The index `payment_one_live_key` refuses a second live one of an order.
pub async fn insert(conn: &mut Conn, payment: &Payment) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount,
                              capture_method, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
        payment.id.uuid(),
        payment.order_id.uuid(),
        payment.method.as_str(),
        payment.provider,
        payment.payment_token,
        payment.status.as_str(),
        payment.currency.code(),
        payment.amount,
        payment.capture_method.as_str(),
        payment.created_at,
    )
    .execute(&mut *conn)
    .await?;
    insert_event(conn, payment, "created").await
}

/// The time of the transaction.
pub async fn now(conn: &mut Conn) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(conn).await?)
}

/// Writes what changed of a payment that this transaction has locked in status `from`, and a line of its history. What
/// is not decided, or captured by itself, or owes a refund, is looked up if no event settles it, and so is what the provider
/// has told of, for the look-up of that may have failed; what is due stays due.
pub async fn mark(conn: &mut Conn, payment: &Payment, from: PaymentStatus, note: &str) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE payment SET status = $3, provider_reference = $4, amount_captured = $5, amount_refunded = $6,
                decline_code = $7, amount_refund_claimed = $8, outcome_unknown_since = NULL, updated_at = now(),
                lookup_attempts = 0,
                next_lookup_at = CASE
                    WHEN next_lookup_at <= clock_timestamp() THEN next_lookup_at
                    WHEN $3 IN ('processing', 'requires_action', 'authorized')
                      OR EXISTS (SELECT 1 FROM refund r WHERE r.payment_id = $1 AND r.status = 'pending')
                      OR EXISTS (SELECT 1 FROM provider_event e
                                 WHERE e.payment_id = $1 AND e.processed_at IS NULL)
                        THEN now() + make_interval(secs => $9)
                END
         WHERE id = $1 AND status = $2",
        payment.id.uuid(),
        from.as_str(),
        payment.status.as_str(),
        payment.provider_reference,
        payment.amount_captured,
        payment.amount_refunded,
        payment.decline_code,
        payment.amount_refund_claimed,
        FIRST_WAIT_SECONDS,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&result, 1, "mark payment")?;
    insert_event(conn, payment, note).await
}

/// Notes that the provider is going to be asked to authorize a payment. Gives how long ago it was asked first: a repetition
/// keeps the time. `None`: it was never asked for, and never will be, because its order is dead.
pub async fn mark_asked(conn: &mut Conn, id: PaymentId) -> Result<Option<TimeDelta>, Error> {
    let row = sqlx::query!(
        r#"UPDATE payment p SET asked_at = COALESCE(p.asked_at, now()) FROM orders o
           WHERE p.id = $1 AND o.id = p.order_id
             AND (p.asked_at IS NOT NULL OR o.status NOT IN ('expired', 'canceled'))
           RETURNING p.asked_at AS "asked_at!", now() AS "now!""#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| row.now - row.asked_at))
}

/// Writes the provider's id of a payment that has none yet, as soon as it is known: by it the payment is found at once.
pub async fn mark_reference(conn: &mut Conn, id: PaymentId, reference: &str) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET provider_reference = $2 WHERE id = $1 AND provider_reference IS NULL",
        id.uuid(),
        reference,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the provider owes an answer to a request that was made in status `from`, and that it is asked for. One that has
/// moved on meanwhile is owed nothing. The status stays as it is, and so does `updated_at`: I9 counts from there.
pub async fn mark_outcome_unknown(conn: &mut Conn, id: PaymentId, from: PaymentStatus) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET outcome_unknown_since = COALESCE(outcome_unknown_since, now()),
                next_lookup_at = least(next_lookup_at, now() + make_interval(secs => $2))
         WHERE id = $1 AND status = $3",
        id.uuid(),
        FIRST_WAIT_SECONDS,
        from.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that no answer is owed to a request from before a look-up that began then, where nothing is on its way by which the
/// status could change.
pub async fn clear_outcome_unknown(
    conn: &mut Conn,
    id: PaymentId,
    lookup_began: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET outcome_unknown_since = NULL
         WHERE id = $1 AND outcome_unknown_since <= $2
           AND (status NOT IN ('processing', 'requires_action', 'authorized')
                OR (status = 'authorized' AND amount_capturing IS NULL AND void_requested_at IS NULL))",
        id.uuid(),
        lookup_began,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes a line of a payment's history: how it stands, and what happened.
pub async fn insert_event(conn: &mut Conn, payment: &Payment, note: &str) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO payment_event (payment_id, status, amount_captured, amount_refunded, note)
         VALUES ($1, $2, $3, $4, $5)",
        payment.id.uuid(),
        payment.status.as_str(),
        payment.amount_captured,
        payment.amount_refunded,
        note,
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) struct PaymentRow {
    pub(super) id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) method: String,
    pub(super) provider: String,
    pub(super) provider_reference: Option<String>,
    pub(super) payment_token: String,
    pub(super) status: String,
    pub(super) currency: String,
    pub(super) amount: i64,
    pub(super) amount_captured: i64,
    pub(super) amount_refunded: i64,
    pub(super) amount_refund_claimed: i64,
    pub(super) capture_requested_amount: Option<i64>,
    pub(super) amount_capturing: Option<i64>,
    pub(super) void_requested_at: Option<DateTime<Utc>>,
    pub(super) void_reason: Option<String>,
    pub(super) capture_method: String,
    pub(super) decline_code: Option<String>,
    pub(super) outcome_unknown_since: Option<DateTime<Utc>>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) updated_at: DateTime<Utc>,
}

impl TryFrom<PaymentRow> for Payment {
    type Error = Error;

    fn try_from(row: PaymentRow) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.into(),
            order_id: row.order_id.into(),
            method: parse(&row.method, "payment.method")?,
            provider: row.provider,
            provider_reference: row.provider_reference,
            payment_token: row.payment_token,
            status: parse(&row.status, "payment.status")?,
            currency: parse(&row.currency, "payment.currency")?,
            amount: row.amount,
            amount_captured: row.amount_captured,
            amount_refunded: row.amount_refunded,
            amount_refund_claimed: row.amount_refund_claimed,
            capture_requested_amount: row.capture_requested_amount,
            amount_capturing: row.amount_capturing,
            void_requested_at: row.void_requested_at,
            void_reason: row.void_reason,
            capture_method: parse(&row.capture_method, "payment.capture_method")?,
            decline_code: row.decline_code,
            outcome_unknown_since: row.outcome_unknown_since,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Reads payments: the one list of their columns.
macro_rules! select_payments {
    ($which:literal, $argument:expr) => {
        sqlx::query_as!(
            crate::store::payments::PaymentRow,
            "SELECT id, order_id, method, provider, provider_reference, payment_token, status, currency, amount,
                    amount_captured, amount_refunded, amount_refund_claimed, capture_requested_amount, amount_capturing,
                    void_requested_at, void_reason, capture_method, decline_code, outcome_unknown_since, created_at,
                    updated_at
             FROM payment " + $which,
            $argument,
        )
    };
}

pub(super) use select_payments;

/// One payment.
pub async fn find(conn: &mut Conn, id: PaymentId) -> Result<Option<Payment>, Error> {
    let row = select_payments!("WHERE id = $1", id.uuid()).fetch_optional(conn).await?;
    row.map(Payment::try_from).transpose()
}

/// Where these payments stand.
pub async fn list_statuses(
    conn: &mut Conn,
    ids: &[PaymentId],
) -> Result<Vec<(PaymentId, PaymentStatus)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows =
        sqlx::query!("SELECT id, status FROM payment WHERE id = ANY($1)", &ids).fetch_all(conn).await?;
    rows.into_iter().map(|row| Ok((row.id.into(), parse(&row.status, "payment.status")?))).collect()
}

/// Takes the row locks of an order's payments, after the order's own, and reads them, oldest first.
pub async fn lock_of_order(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Payment>, Error> {
    let query = select_payments!("WHERE order_id = $1 ORDER BY id FOR UPDATE", order_id.uuid());
    query.fetch_all(conn).await?.into_iter().map(Payment::try_from).collect()
}

/// An order's payments, oldest first.
pub async fn list_of_order(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Payment>, Error> {
    let query = select_payments!("WHERE order_id = $1 ORDER BY id", order_id.uuid());
    query.fetch_all(conn).await?.into_iter().map(Payment::try_from).collect()
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct PaymentFilter {
    /// Only payments of this order.
    pub order_id: Option<OrderId>,
    /// Only payments in this status.
    pub status: Option<PaymentStatus>,
    /// Only those asked for at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only those asked for before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only payments asked for before this one.
    pub starting_after: Option<PaymentId>,
}

/// Payments, newest first. Made and planned for its filters: see `orders::list`.
pub async fn list(conn: &mut Conn, filter: &PaymentFilter, limit: i64) -> Result<Vec<Payment>, Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT id FROM payment WHERE true");
    if let Some(order_id) = filter.order_id {
        query.push(" AND order_id = ").push_bind(order_id.uuid());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    newest_first::push_created(&mut query, filter.created_gte, filter.created_lt);
    newest_first::push_page(&mut query, filter.starting_after.map(PaymentId::uuid), limit);
    let ids: Vec<Uuid> = query.build_query_scalar().persistent(false).fetch_all(&mut *conn).await?;
    let query = select_payments!("WHERE id = ANY($1) ORDER BY id DESC", &ids);
    query.fetch_all(conn).await?.into_iter().map(Payment::try_from).collect()
}

/// Claims captured money for a refund, and has the payment looked up until that is decided. `false`: so much is not left.
pub async fn claim_refund(conn: &mut Conn, id: PaymentId, amount: i64) -> Result<bool, Error> {
    let result = sqlx::query!(
        "UPDATE payment SET amount_refund_claimed = amount_refund_claimed + $2::bigint, updated_at = now(),
                next_lookup_at = least(next_lookup_at, now() + make_interval(secs => $3))
         WHERE id = $1 AND $2::bigint > 0 AND amount_refund_claimed + $2 <= amount_captured",
        id.uuid(),
        amount,
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Notes what the merchant asked to capture, which is looked up until it is.
pub async fn mark_capture_requested(conn: &mut Conn, id: PaymentId, amount: i64) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE payment SET capture_requested_amount = $2, updated_at = now(),
                next_lookup_at = least(next_lookup_at, now() + make_interval(secs => $3))
         WHERE id = $1 AND status = 'authorized' AND capture_requested_amount IS NULL AND amount_capturing IS NULL
           AND void_requested_at IS NULL",
        id.uuid(),
        amount,
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "request capture")
}

/// Notes what the provider is going to be asked to capture, once and for all.
pub async fn mark_capturing(conn: &mut Conn, id: PaymentId, amount: i64) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE payment SET amount_capturing = $2
         WHERE id = $1 AND status = 'authorized' AND amount_capturing IS NULL AND void_requested_at IS NULL",
        id.uuid(),
        amount,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "mark payment as capturing")
}

/// Notes that the merchant asked to void it; it is looked up until it is.
pub async fn mark_void_requested(conn: &mut Conn, id: PaymentId, reason: Option<&str>) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE payment SET void_requested_at = now(), void_reason = $2, updated_at = now(),
                next_lookup_at = least(next_lookup_at, now() + make_interval(secs => $3))
         WHERE id = $1 AND status IN ('requires_action', 'authorized') AND void_requested_at IS NULL
           AND amount_capturing IS NULL",
        id.uuid(),
        reason,
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, 1, "request void")
}
