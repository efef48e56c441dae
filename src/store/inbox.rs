//! The inbox: which events have taken effect, by consumer.
//!
//! It is kept by the day. What became of an event of a day that was dropped is not known any more, so it can take effect no
//! more: the constraint [`KEPT`] refuses it.

use super::{Conn, Error};
use crate::{
    domain::ids::EventId,
    planted::{self, Fault},
};

/// The constraint that refuses events that are older than what is kept.
pub const KEPT: &str = "inbox_kept";

/// Whether it is known which events made at this event's time took effect.
pub async fn is_kept(conn: &mut Conn, event_id: EventId) -> Result<bool, Error> {
    let is_kept = sqlx::query_scalar!(
        r#"SELECT $1::uuid >= event_id_from(kept_since) AS "is_kept!" FROM event_feed"#,
        event_id.uuid(),
    );
    Ok(is_kept.fetch_one(conn).await?)
}

/// Notes that an event takes effect in this transaction. `false`: it has already, or does so in a transaction that this
/// one waited for. Must be the first write of the transaction.
pub async fn insert(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<bool, Error> {
    if planted::is_on(Fault::NoInbox) {
        return Ok(true);
    }
    let result = sqlx::query!(
        "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        consumer,
        event_id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Whether an event has taken effect. Only a hint while nothing is inserted: another transaction may do so.
pub async fn contains(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<bool, Error> {
    let is_there = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM inbox WHERE consumer = $1 AND event_id = $2) AS "is_there!""#,
        consumer,
        event_id.uuid(),
    );
    Ok(is_there.fetch_one(conn).await?)
}
