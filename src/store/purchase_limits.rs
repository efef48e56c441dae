//! Purchase limits, and what a customer has bought.
//!
//! Two orders of one customer for one SKU must not both find room for the last unit, whatever locations and processes they
//! come to. No row stands for the pair of them: what was bought is counted from the orders, because a window cannot be kept
//! in a counter. So a lock of the pair that PostgreSQL keeps until the end of the transaction takes its place. Two pairs that
//! meet in one number wait for each other, and nothing worse.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Conn, Error, error::parse, expect_rows};
use crate::domain::{inventory::Sku, purchase_limit::PurchaseLimit};

/// A limit as the queries of this file give it.
struct Row {
    sku: String,
    quantity: i64,
    window_seconds: Option<i64>,
    version: i64,
}

impl TryFrom<Row> for PurchaseLimit {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let Row { sku, quantity, window_seconds, version } = row;
        Ok(Self { sku: parse(&sku, "purchase_limit.sku")?, quantity, window_seconds, version })
    }
}

/// A limit that is to be made, or set.
#[derive(Debug, Clone, Copy)]
pub struct NewPurchaseLimit<'a> {
    /// Which SKU.
    pub sku: &'a Sku,
    /// The most units that one customer may have.
    pub quantity: i64,
    /// Within which time, or that all orders count. `None`: as it is, and of a new one all.
    pub window_seconds: Option<Option<i64>>,
}

/// Takes the row lock of the limit of a SKU. Gives its version, if there is one.
pub async fn lock(conn: &mut Conn, sku: &Sku) -> Result<Option<i64>, Error> {
    let query =
        sqlx::query_scalar!("SELECT version FROM purchase_limit WHERE sku = $1 FOR UPDATE", sku.as_str());
    Ok(query.fetch_optional(conn).await?)
}

/// Sets the limit of a SKU, which is made if there is none.
pub async fn upsert(conn: &mut Conn, limit: &NewPurchaseLimit<'_>) -> Result<PurchaseLimit, Error> {
    // The version is taken again under the row lock: so it grows, whoever came first.
    let row = sqlx::query_as!(
        Row,
        "INSERT INTO purchase_limit AS l (sku, quantity, window_seconds) VALUES ($1, $2, $4)
         ON CONFLICT ON CONSTRAINT purchase_limit_pkey DO UPDATE
         SET quantity = EXCLUDED.quantity,
             window_seconds = CASE WHEN $3 THEN EXCLUDED.window_seconds ELSE l.window_seconds END,
             version = nextval('purchase_limit_version_seq'), updated_at = now()
         RETURNING sku, quantity, window_seconds, version",
        limit.sku.as_str(),
        limit.quantity,
        limit.window_seconds.is_some(),
        limit.window_seconds.flatten(),
    )
    .fetch_one(conn)
    .await?;
    row.try_into()
}

/// Deletes the limit of a SKU, which this transaction has locked.
pub async fn delete(conn: &mut Conn, sku: &Sku) -> Result<(), Error> {
    let result =
        sqlx::query!("DELETE FROM purchase_limit WHERE sku = $1", sku.as_str()).execute(conn).await?;
    expect_rows(&result, 1, "delete purchase limit")
}

/// Limits by SKU, after this one if given.
pub async fn list(
    conn: &mut Conn,
    starting_after: Option<&Sku>,
    limit: i64,
) -> Result<Vec<PurchaseLimit>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT sku, quantity, window_seconds, version FROM purchase_limit
         WHERE $1::text IS NULL OR sku > $1 ORDER BY sku LIMIT $2",
        starting_after.map(Sku::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(PurchaseLimit::try_from).collect()
}

/// The limits of those of these SKUs that have one.
pub async fn find(conn: &mut Conn, skus: &[&str]) -> Result<HashMap<Sku, PurchaseLimit>, Error> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT sku, quantity, window_seconds, version FROM purchase_limit WHERE sku = ANY($1)",
        skus as _,
    )
    .fetch_all(conn)
    .await?;
    let limits = rows.into_iter().map(PurchaseLimit::try_from);
    limits.map(|limit| limit.map(|limit| (limit.sku.clone(), limit))).collect()
}

/// Keeps every other transaction from deciding what these customers may buy of these SKUs, and counts what they have bought
/// by `now`: units of orders that live, within the window of the limit.
pub async fn lock_purchases(
    conn: &mut Conn,
    purchases: &[(&str, &PurchaseLimit)],
    now: DateTime<Utc>,
) -> Result<Vec<i64>, Error> {
    let customers: Vec<&str> = purchases.iter().map(|(customer_id, _)| *customer_id).collect();
    let skus: Vec<&str> = purchases.iter().map(|(_, limit)| limit.sku.as_str()).collect();
    let windows: Vec<Option<i64>> = purchases.iter().map(|(_, limit)| limit.window_seconds).collect();
    // In the order of the numbers, so that nobody deadlocks. A statement of its own: the next one sees what whoever had a
    // lock before has committed.
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(pair) FROM (
             SELECT DISTINCT hashtextextended('purchase' || E'\n' || customer_id || E'\n' || sku, 0) AS pair
             FROM UNNEST($1::text[], $2::text[]) AS n (customer_id, sku) ORDER BY pair) AS pairs",
        &customers as _,
        &skus as _,
    )
    .fetch_all(&mut *conn)
    .await?;
    let bought = sqlx::query_scalar!(
        r#"SELECT COALESCE((
               SELECT sum(l.quantity - l.quantity_canceled)
               FROM orders o JOIN order_line l ON l.order_id = o.id
               WHERE o.customer_id = n.customer_id AND l.sku = n.sku AND o.status <> 'expired'
                 AND (n.seconds IS NULL OR o.created_at > $4::timestamptz - make_interval(secs => n.seconds))), 0)::bigint AS "bought!"
           FROM UNNEST($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS n (customer_id, sku, seconds, place)
           ORDER BY n.place"#,
        &customers as _,
        &skus as _,
        &windows as _,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(bought)
}
