//! The inbox: which events have taken effect, by consumer.

use super::{Conn, Error};
use crate::domain::ids::EventId;

/// Notes that an event takes effect in this transaction. `false`: it has already, or does so in a transaction that this
/// one waited for. Must be the first write of the transaction.
pub async fn insert(conn: &mut Conn, consumer: &str, event_id: EventId) -> Result<bool, Error> {
    let result = sqlx::query!(
        "INSERT INTO inbox (consumer, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        consumer,
        event_id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}
