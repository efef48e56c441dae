//! Dead letters: deliveries that a consumer could not handle.

use super::{Conn, Error};
use crate::domain::event::Envelope;

/// A delivery to be kept.
#[derive(Debug, Clone)]
pub struct NewDeadLetter<'a> {
    /// Who could not handle it.
    pub consumer: &'a str,
    /// The event, where the body decodes.
    pub envelope: Option<&'a Envelope>,
    /// The message as it came.
    pub body: &'a [u8],
    /// Why it could not be handled.
    pub reason: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

/// Keeps a delivery. Repeating it for the same event and consumer changes nothing.
pub async fn insert(conn: &mut Conn, letter: &NewDeadLetter<'_>) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO dead_letter (consumer, event_id, type, subject, body, reason, attempts)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (consumer, event_id) DO NOTHING",
        letter.consumer,
        letter.envelope.map(|envelope| envelope.id.uuid()),
        letter.envelope.map(|envelope| envelope.event_type.as_str()),
        letter.envelope.map(|envelope| envelope.subject.as_str()),
        letter.body,
        letter.reason,
        i32::try_from(letter.attempts).unwrap_or(i32::MAX),
    )
    .execute(conn)
    .await?;
    Ok(())
}
