//! How many orders wait for their payment, by customer and by client. Counted up by the placement of an order
//! ([`super::placement`]), counted down here, in the transaction in which it stops waiting.

use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::{ids::OrderId, open_orders::OrderOwner};

/// Locks the counts of these owners, which are in order, and reads them.
pub async fn lock_counts(conn: &mut Conn, owners: &[OrderOwner<'_>]) -> Result<Vec<i64>, Error> {
    let kinds: Vec<&str> = owners.iter().map(|owner| owner.kind().as_str()).collect();
    let ids: Vec<_> = owners.iter().map(|owner| owner.id()).collect();
    // Writes each row as it is: one that is not there yet could not be locked.
    let counts = sqlx::query_scalar!(
        "WITH counted AS (
             INSERT INTO open_order_count AS c (kind, id, open)
             SELECT kind, id, 0 FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY AS n (kind, id, place) ORDER BY place
             ON CONFLICT ON CONSTRAINT open_order_count_pkey DO UPDATE SET open = c.open
             RETURNING kind, id, open)
         SELECT open FROM counted ORDER BY kind, id",
        &kinds as _,
        &ids as _,
    )
    .fetch_all(conn)
    .await?;
    if counts.len() != owners.len() {
        return Err(Error::Inconsistent(format!("{} counts of {} owners", counts.len(), owners.len())));
    }
    Ok(counts)
}

/// These orders wait no more. They and the levels that they concern are locked by this transaction.
///
/// Never below zero: a wrong count must not keep an order from being paid. `holdfast verify` finds it (I16).
pub async fn close(conn: &mut Conn, orders: &[OrderId]) -> Result<(), Error> {
    let orders: Vec<Uuid> = orders.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "WITH closed AS (
             SELECT w.kind, w.id, count(*) AS orders
             FROM orders o, LATERAL (VALUES ('client', o.client_id::text), ('customer', o.customer_id)) AS w (kind, id)
             WHERE o.id = ANY($1) AND w.id IS NOT NULL GROUP BY w.kind, w.id),
         locked AS MATERIALIZED (
             SELECT c.kind, c.id, closed.orders
             FROM open_order_count c JOIN closed ON closed.kind = c.kind AND closed.id = c.id
             ORDER BY c.kind, c.id FOR UPDATE OF c)
         UPDATE open_order_count c SET open = GREATEST(c.open - l.orders, 0)
         FROM locked l WHERE c.kind = l.kind AND c.id = l.id",
        &orders,
    )
    .execute(conn)
    .await?;
    Ok(())
}
