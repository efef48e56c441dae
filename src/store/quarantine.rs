//! Events that are handled alone, because they were there when a process died: how often that was begun without an end.

use super::{Conn, Error};
use crate::domain::ids::EventId;

/// Notes that handling an event alone begins. Gives how often it has begun by now without an end.
pub async fn insert(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<i32, Error> {
    let begun = sqlx::query_scalar!(
        "INSERT INTO quarantine (consumer, event_id) VALUES ($1, $2)
         ON CONFLICT (consumer, event_id) DO UPDATE SET begun = quarantine.begun + 1 RETURNING begun",
        consumer,
        event_id.uuid(),
    );
    Ok(begun.fetch_one(conn).await?)
}

/// Notes that handling it has ended, however it did.
pub async fn delete(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<(), Error> {
    let ended = sqlx::query!(
        "DELETE FROM quarantine WHERE consumer = $1 AND event_id = $2",
        consumer,
        event_id.uuid(),
    );
    ended.execute(conn).await?;
    Ok(())
}

/// Whether handling it alone has begun and not ended: whoever did so is dead, or still at it.
pub async fn contains(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<bool, Error> {
    let is_there = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM quarantine WHERE consumer = $1 AND event_id = $2) AS "is_there!""#,
        consumer,
        event_id.uuid(),
    );
    Ok(is_there.fetch_one(conn).await?)
}
