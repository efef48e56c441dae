//! Payments, their history, and refunds.

use uuid::Uuid;

use super::{Conn, Error, error::parse, expect_rows, payment_lookups::FIRST_WAIT_SECONDS};
use crate::domain::{
    ids::{OrderId, PaymentId, RefundId},
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
pub async fn now(conn: &mut Conn) -> Result<chrono::DateTime<chrono::Utc>, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(conn).await?)
}

/// Writes what changed of a payment that this transaction has locked in status `from`, and a line of its history. What
/// is not decided, or captured by itself, is looked up if no event settles it; what is due to be looked up stays due.
pub async fn mark(conn: &mut Conn, payment: &Payment, from: PaymentStatus, note: &str) -> Result<(), Error> {
    let result = sqlx::query!(
        "UPDATE payment SET status = $3, provider_reference = $4, amount_captured = $5, amount_refunded = $6,
                decline_code = $7, outcome_unknown_since = NULL, updated_at = now(), lookup_attempts = 0,
                next_lookup_at = CASE
                    WHEN next_lookup_at <= clock_timestamp() THEN next_lookup_at
                    WHEN $3 IN ('processing', 'requires_action', 'authorized')
                        THEN now() + make_interval(secs => $8)
                END
         WHERE id = $1 AND status = $2",
        payment.id.uuid(),
        from.as_str(),
        payment.status.as_str(),
        payment.provider_reference,
        payment.amount_captured,
        payment.amount_refunded,
        payment.decline_code,
        FIRST_WAIT_SECONDS,
    )
    .execute(&mut *conn)
    .await?;
    expect_rows(&result, 1, "mark payment")?;
    insert_event(conn, payment, note).await
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

/// Notes that the provider owes an answer, and that it is asked for. The status stays as it is, and so does `updated_at`:
/// I9 counts from there.
pub async fn mark_outcome_unknown(conn: &mut Conn, id: PaymentId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET outcome_unknown_since = COALESCE(outcome_unknown_since, now()),
                next_lookup_at = COALESCE(next_lookup_at, now() + make_interval(secs => $2))
         WHERE id = $1",
        id.uuid(),
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_event(conn: &mut Conn, payment: &Payment, note: &str) -> Result<(), Error> {
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

struct PaymentRow {
    id: Uuid,
    order_id: Uuid,
    method: String,
    provider: String,
    provider_reference: Option<String>,
    payment_token: String,
    status: String,
    currency: String,
    amount: i64,
    amount_captured: i64,
    amount_refunded: i64,
    capture_method: String,
    decline_code: Option<String>,
    outcome_unknown_since: Option<chrono::DateTime<chrono::Utc>>,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
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
            capture_method: parse(&row.capture_method, "payment.capture_method")?,
            decline_code: row.decline_code,
            outcome_unknown_since: row.outcome_unknown_since,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// One payment.
pub async fn find(conn: &mut Conn, id: PaymentId) -> Result<Option<Payment>, Error> {
    let row = sqlx::query_as!(
        PaymentRow,
        "SELECT id, order_id, method, provider, provider_reference, payment_token, status, currency, amount,
                amount_captured, amount_refunded, capture_method, decline_code, outcome_unknown_since, created_at,
                updated_at
         FROM payment WHERE id = $1",
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
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
    let rows = sqlx::query_as!(
        PaymentRow,
        "SELECT id, order_id, method, provider, provider_reference, payment_token, status, currency, amount,
                amount_captured, amount_refunded, capture_method, decline_code, outcome_unknown_since, created_at,
                updated_at
         FROM payment WHERE order_id = $1 ORDER BY id FOR UPDATE",
        order_id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Payment::try_from).collect()
}

/// An order's payments, oldest first.
pub async fn list_of_order(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Payment>, Error> {
    let rows = sqlx::query_as!(
        PaymentRow,
        "SELECT id, order_id, method, provider, provider_reference, payment_token, status, currency, amount,
                amount_captured, amount_refunded, capture_method, decline_code, outcome_unknown_since, created_at,
                updated_at
         FROM payment WHERE order_id = $1 ORDER BY id",
        order_id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(Payment::try_from).collect()
}

/// The pending refund of a payment that this transaction has locked; a new one over `amount` if there is none. The
/// payment is looked up until the refund has succeeded.
pub async fn find_or_insert_refund(
    conn: &mut Conn,
    payment_id: PaymentId,
    amount: i64,
    reason: &str,
) -> Result<(RefundId, i64), Error> {
    let pending = sqlx::query!(
        "SELECT id, amount FROM refund WHERE payment_id = $1 AND status = 'pending'",
        payment_id.uuid()
    )
    .fetch_optional(&mut *conn)
    .await?;
    if let Some(row) = pending {
        return Ok((row.id.into(), row.amount));
    }
    let id = RefundId::new();
    sqlx::query!(
        "INSERT INTO refund (id, payment_id, amount, status, reason) VALUES ($1, $2, $3, 'pending', $4)",
        id.uuid(),
        payment_id.uuid(),
        amount,
        reason,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "UPDATE payment SET next_lookup_at = COALESCE(next_lookup_at, now() + make_interval(secs => $2))
         WHERE id = $1",
        payment_id.uuid(),
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    Ok((id, amount))
}

/// Marks the pending refund of a payment as succeeded, if there is one.
pub async fn mark_refund_succeeded(conn: &mut Conn, payment_id: PaymentId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE refund SET status = 'succeeded', updated_at = now() WHERE payment_id = $1 AND status = 'pending'",
        payment_id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}
