//! The payments of a batch.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        payment::{Payment, PaymentStatus},
    },
    store::{
        Conn, Error, error::parse, expect_rows, payment_lookups::FIRST_WAIT_SECONDS,
        payments::select_payments,
    },
};

/// These payments, as they are at the moment. Unknown ones are missing in the answer.
pub async fn find(conn: &mut Conn, ids: &[PaymentId]) -> Result<Vec<Payment>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let query = select_payments!("WHERE id = ANY($1) ORDER BY id", &ids);
    query.fetch_all(conn).await?.into_iter().map(Payment::try_from).collect()
}

/// Writes new payments, with the first line of the history of each.
pub async fn insert(conn: &mut Conn, payments: impl Iterator<Item = &Payment> + Clone) -> Result<(), Error> {
    let text = |of: fn(&Payment) -> &str| -> Vec<&str> { payments.clone().map(of).collect() };
    let ids: Vec<Uuid> = payments.clone().map(|payment| payment.id.uuid()).collect();
    let orders: Vec<Uuid> = payments.clone().map(|payment| payment.order_id.uuid()).collect();
    let amounts: Vec<i64> = payments.clone().map(|payment| payment.amount).collect();
    let times: Vec<DateTime<Utc>> = payments.clone().map(|payment| payment.created_at).collect();
    let result = sqlx::query!(
        "WITH new AS (
             INSERT INTO payment (id, order_id, method, provider, payment_token, status, currency, amount, capture_method,
                                  created_at, updated_at)
             SELECT id, order_id, method, provider, payment_token, status, currency, amount, capture_method, at, at
             FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
                         $9::text[], $10::timestamptz[])
                  AS n (id, order_id, method, provider, payment_token, status, currency, amount, capture_method, at)
             RETURNING id, status)
         INSERT INTO payment_event (payment_id, status, amount_captured, amount_refunded, note)
         SELECT id, status, 0, 0, 'created' FROM new",
        &ids,
        &orders,
        &text(|payment| payment.method.as_str()) as _,
        &text(|payment| &payment.provider) as _,
        &text(|payment| &payment.payment_token) as _,
        &text(|payment| payment.status.as_str()) as _,
        &text(|payment| payment.currency.code()) as _,
        &amounts,
        &text(|payment| payment.capture_method.as_str()) as _,
        &times,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "insert payments")
}

/// Notes that the provider is going to be asked to authorize these payments, and gives how long ago each was asked for first: see
/// [`crate::store::payments::mark_asked`]. Those are missing in the answer of which something is known already, and those of dead
/// orders.
pub async fn mark_asked(conn: &mut Conn, ids: &[PaymentId]) -> Result<Vec<(PaymentId, TimeDelta)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        // All is decided in `locked`: of conditions on `p`, PostgreSQL may take one that most payments of the day fulfil for the rarest.
        r#"WITH locked AS MATERIALIZED (
               SELECT p.id, p.status = 'processing' AND p.outcome_unknown_since IS NULL AND p.provider_reference IS NULL
                      AND (p.asked_at IS NOT NULL OR o.status NOT IN ('expired', 'canceled')) AS may_be_asked
               FROM payment p JOIN orders o ON o.id = p.order_id
               WHERE p.id = ANY($1) ORDER BY p.id FOR UPDATE OF p)
           UPDATE payment p SET asked_at = COALESCE(p.asked_at, now())
           FROM locked WHERE p.id = locked.id AND locked.may_be_asked
           RETURNING p.id, p.asked_at AS "asked_at!", now() AS "now!""#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.now - row.asked_at)).collect())
}

/// Takes the row locks of the payments of orders, in the order of their ids, and reads them.
pub async fn lock_of_orders(conn: &mut Conn, orders: &[OrderId]) -> Result<Vec<Payment>, Error> {
    let ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    let query = select_payments!("WHERE order_id = ANY($1) ORDER BY id FOR UPDATE", &ids);
    query.fetch_all(conn).await?.into_iter().map(Payment::try_from).collect()
}

/// Where the payments of these orders stand.
pub async fn list_statuses(
    conn: &mut Conn,
    orders: &[OrderId],
) -> Result<Vec<(OrderId, PaymentStatus)>, Error> {
    let ids: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!("SELECT order_id, status FROM payment WHERE order_id = ANY($1)", &ids)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(|row| Ok((row.order_id.into(), parse(&row.status, "payment.status")?))).collect()
}

/// Writes what changed of payments that were all in status `from` and are all in another one now, and a line of the history of
/// each: see [`crate::store::payments::mark`]. Nothing of them was refunded or refused.
pub async fn mark(
    conn: &mut Conn,
    payments: &[&Payment],
    from: PaymentStatus,
    to: PaymentStatus,
    note: &str,
) -> Result<(), Error> {
    let ids: Vec<Uuid> = payments.iter().map(|payment| payment.id.uuid()).collect();
    let references: Vec<Option<&str>> =
        payments.iter().map(|payment| payment.provider_reference.as_deref()).collect();
    let captured: Vec<i64> = payments.iter().map(|payment| payment.amount_captured).collect();
    let result = sqlx::query!(
        "WITH marked AS (
             UPDATE payment p
             SET status = $5, provider_reference = n.provider_reference, amount_captured = n.amount_captured,
                 outcome_unknown_since = NULL, updated_at = now(), lookup_attempts = 0,
                 next_lookup_at = CASE
                     WHEN p.next_lookup_at <= clock_timestamp() THEN p.next_lookup_at
                     WHEN $5 IN ('processing', 'requires_action', 'authorized')
                       OR EXISTS (SELECT 1 FROM refund r WHERE r.payment_id = p.id AND r.status = 'pending')
                       OR EXISTS (SELECT 1 FROM provider_event e
                                  WHERE e.payment_id = p.id AND e.processed_at IS NULL)
                         THEN now() + make_interval(secs => $7)
                 END
             FROM UNNEST($1::uuid[], $2::text[], $3::bigint[]) AS n (id, provider_reference, amount_captured)
             WHERE p.id = n.id AND p.status = $4
             RETURNING p.id, p.status, p.amount_captured, p.amount_refunded)
         INSERT INTO payment_event (payment_id, status, amount_captured, amount_refunded, note)
         SELECT id, status, amount_captured, amount_refunded, $6 FROM marked",
        &ids,
        &references as _,
        &captured,
        from.as_str(),
        to.as_str(),
        note,
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, payments.len(), "mark payments")
}

/// Notes what the provider is going to be asked to capture of each, once and for all.
pub async fn mark_capturing(conn: &mut Conn, amounts: &[(PaymentId, i64)]) -> Result<(), Error> {
    let (ids, amounts): (Vec<Uuid>, Vec<i64>) =
        amounts.iter().map(|(id, amount)| (id.uuid(), *amount)).unzip();
    let result = sqlx::query!(
        "UPDATE payment p SET amount_capturing = n.amount FROM UNNEST($1::uuid[], $2::bigint[]) AS n (id, amount)
         WHERE p.id = n.id AND (p.status = 'authorized') IS TRUE AND p.amount_capturing IS NULL
           AND p.void_requested_at IS NULL",
        &ids,
        &amounts,
    )
    .execute(conn)
    .await?;
    expect_rows(&result, ids.len(), "mark payments as capturing")
}
