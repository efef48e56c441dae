//! Leases of the relay: which process publishes which shard of the outbox, and which one wants it.
//!
//! A lease assigns; what fences a former owner is the epoch, checked by [`super::outbox::mark_sent`].

use std::time::Duration;

use super::{Conn, Error};

/// How long a shard that was given up waits for the process whose share it is, before anybody takes it.
const GRACE: Duration = Duration::from_secs(1);

/// A shard that is leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: i16,
    /// What fences it.
    pub epoch: i64,
    /// Whether another process that lives wants it.
    pub is_wanted: bool,
}

/// Who leases each shard, in their order; nobody where the lease has run out.
pub async fn list_owners(conn: &mut Conn) -> Result<Vec<Option<String>>, Error> {
    let owners = sqlx::query_scalar!(
        "SELECT CASE WHEN expires_at > clock_timestamp() THEN owner END AS owner FROM relay_lease ORDER BY shard"
    )
    .fetch_all(conn)
    .await?;
    Ok(owners)
}

/// Renews what `owner` leases, and takes what is free: of what was given up its own `shares`, and the rest only if nobody
/// does; of what has run out everything, so that no list of members that is out of date keeps events waiting. Gives all
/// that it leases now.
pub async fn claim(
    conn: &mut Conn,
    owner: &str,
    shares: &[i16],
    lease: Duration,
) -> Result<Vec<Lease>, Error> {
    let rows = sqlx::query!(
        r#"UPDATE relay_lease SET
               epoch = epoch + CASE WHEN owner = $1 THEN 0 ELSE 1 END,
               owner = $1,
               expires_at = clock_timestamp() + make_interval(secs => $3),
               wanted_by = CASE WHEN wanted_by <> $1 THEN wanted_by END,
               wanted_until = CASE WHEN wanted_by <> $1 THEN wanted_until END
           WHERE shard IN (
               SELECT shard FROM relay_lease
               WHERE owner = $1 OR (owner IS NOT NULL AND expires_at < clock_timestamp())
                  OR (owner IS NULL
                      AND (shard = ANY($2) OR expires_at < clock_timestamp() - make_interval(secs => $4)))
               ORDER BY shard FOR UPDATE)
           RETURNING shard, epoch, coalesce(wanted_until > clock_timestamp(), false) AS "is_wanted!""#,
        owner,
        shares,
        lease.as_secs_f64(),
        GRACE.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    let lease = |shard, epoch, is_wanted| Lease { shard, epoch, is_wanted };
    Ok(rows.into_iter().map(|row| lease(row.shard, row.epoch, row.is_wanted)).collect())
}

/// Says for `lease` that `name` wants these shards, where others lease them.
pub async fn want(conn: &mut Conn, name: &str, shards: &[i16], lease: Duration) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE relay_lease SET wanted_by = $1, wanted_until = clock_timestamp() + make_interval(secs => $3)
         WHERE shard IN (SELECT shard FROM relay_lease
                         WHERE shard = ANY($2) AND owner <> $1
                           AND (wanted_by IS NULL OR wanted_by = $1 OR wanted_until < clock_timestamp())
                         ORDER BY shard FOR UPDATE)",
        name,
        shards,
        lease.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Hands these shards over to whoever wants them, at once; those that nobody does any more stay. Gives the others.
pub async fn hand_over(
    conn: &mut Conn,
    owner: &str,
    shards: &[i16],
    lease: Duration,
) -> Result<Vec<i16>, Error> {
    let handed_over = sqlx::query_scalar!(
        "UPDATE relay_lease SET owner = wanted_by, epoch = epoch + 1, wanted_by = NULL, wanted_until = NULL,
                expires_at = clock_timestamp() + make_interval(secs => $3)
         WHERE shard IN (SELECT shard FROM relay_lease
                         WHERE shard = ANY($2) AND owner = $1 AND wanted_until > clock_timestamp()
                         ORDER BY shard FOR UPDATE)
         RETURNING shard",
        owner,
        shards,
        lease.as_secs_f64(),
    )
    .fetch_all(conn)
    .await?;
    Ok(handed_over)
}

/// Gives every lease of `owner` up, so that others take over at once.
pub async fn release(conn: &mut Conn, owner: &str) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE relay_lease SET owner = NULL, epoch = epoch + 1, expires_at = clock_timestamp(),
                wanted_by = NULL, wanted_until = NULL
         WHERE shard IN (SELECT shard FROM relay_lease WHERE owner = $1 ORDER BY shard FOR UPDATE)",
        owner
    )
    .execute(conn)
    .await?;
    Ok(())
}
