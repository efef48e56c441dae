//! Leases of the relay: which process publishes which shard of the outbox.
//!
//! A lease assigns; what fences a former owner is the epoch, checked by [`super::outbox::mark_sent`].

use super::{Conn, Error};

/// Renews what `owner` leases and takes what nobody does. Gives `(shard, epoch)` of all that it leases now.
pub async fn claim(conn: &mut Conn, owner: &str, lease_seconds: f64) -> Result<Vec<(i16, i64)>, Error> {
    let rows = sqlx::query!(
        "UPDATE relay_lease SET
             epoch = epoch + CASE WHEN owner = $1 THEN 0 ELSE 1 END,
             owner = $1,
             expires_at = clock_timestamp() + make_interval(secs => $2)
         WHERE shard IN (
             SELECT shard FROM relay_lease WHERE owner = $1 OR expires_at < clock_timestamp()
             ORDER BY shard FOR UPDATE)
         RETURNING shard, epoch",
        owner,
        lease_seconds,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.shard, row.epoch)).collect())
}

/// Gives every lease of `owner` up, so that another process takes over at once.
pub async fn release(conn: &mut Conn, owner: &str) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE relay_lease SET expires_at = '-infinity', owner = NULL, epoch = epoch + 1 WHERE owner = $1",
        owner
    )
    .execute(conn)
    .await?;
    Ok(())
}
