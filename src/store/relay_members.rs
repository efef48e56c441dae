//! The relays that are there, where ZooKeeper is not used to know them.

use std::time::Duration;

use super::{Conn, Error};

/// Says that this relay is there, and will be for `time`. Forgets those that have been gone for long.
pub async fn set(conn: &mut Conn, name: &str, time: Duration) -> Result<(), Error> {
    sqlx::query!(
        "WITH gone AS (DELETE FROM relay_member WHERE expires_at < clock_timestamp() - interval '1 hour')
         INSERT INTO relay_member (name, expires_at) VALUES ($1, clock_timestamp() + make_interval(secs => $2))
         ON CONFLICT ON CONSTRAINT relay_member_pkey DO UPDATE SET expires_at = EXCLUDED.expires_at",
        name,
        time.as_secs_f64(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Who is there.
pub async fn list(conn: &mut Conn) -> Result<Vec<String>, Error> {
    let names = sqlx::query_scalar!("SELECT name FROM relay_member WHERE expires_at > clock_timestamp()");
    Ok(names.fetch_all(conn).await?)
}

/// This relay is not there any more.
pub async fn delete(conn: &mut Conn, name: &str) -> Result<(), Error> {
    sqlx::query!("DELETE FROM relay_member WHERE name = $1", name).execute(conn).await?;
    Ok(())
}
