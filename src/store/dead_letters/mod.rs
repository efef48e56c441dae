//! Dead letters: deliveries that a consumer could not handle. A letter waits until it is replayed or dropped.
//!
//! A letter that is replayed stays until its effect is committed, which its mark in the inbox shows, or it is dead again:
//! at no time is there neither. Replaying is in [`replays`]. Events that were lost before they came to a consumer are letters, too:
//! [`lost`].

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Conn, Error, error::parse};
use crate::domain::{dead_letter::DeadLetterReason, event::Envelope, ids::EventId};

pub mod lost;
pub mod replays;

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
    pub reason: DeadLetterReason,
    /// The same for people.
    pub text: &'a str,
    /// How often it was tried.
    pub attempts: u32,
    /// The letter that it waits for.
    pub blocked_by: Option<i64>,
}

/// A dead letter that waits.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeadLetter {
    /// Order of arrival.
    pub id: i64,
    /// Who could not handle it.
    pub consumer: String,
    /// The event; none where the message is not one.
    pub event_id: Option<EventId>,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Its place in the history of its subject.
    pub sequence: Option<i64>,
    /// When the change was made that it tells of.
    pub event_time: Option<DateTime<Utc>>,
    /// The request or event that began the chain.
    pub correlation_id: Option<String>,
    /// The event that it follows from.
    pub causation_id: Option<EventId>,
    /// Why it could not be handled.
    pub reason: DeadLetterReason,
    /// The same for people.
    pub text: String,
    /// How often it was tried, over all its replays.
    pub attempts: i32,
    /// How often it was sent to its consumer again.
    pub replays: i32,
    /// When it was given up for the first time.
    pub first_at: DateTime<Utc>,
    /// When it was given up for the last time.
    pub last_at: DateTime<Utc>,
    /// The letter that it waits for.
    pub blocked_by: Option<i64>,
    /// Since when it is being replayed.
    pub replay_requested_at: Option<DateTime<Utc>>,
    /// The message as it came.
    #[serde(skip)]
    pub body: Vec<u8>,
}

struct Row {
    id: i64,
    consumer: String,
    event_id: Option<Uuid>,
    event_type: Option<String>,
    subject: Option<String>,
    sequence: Option<i64>,
    event_time: Option<DateTime<Utc>>,
    correlation_id: Option<String>,
    causation_id: Option<Uuid>,
    reason_code: String,
    reason: String,
    attempts: i32,
    replays: i32,
    created_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    blocked_by: Option<i64>,
    replay_requested_at: Option<DateTime<Utc>>,
    body: Vec<u8>,
}

impl TryFrom<Row> for DeadLetter {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.id,
            consumer: row.consumer,
            event_id: row.event_id.map(EventId::from),
            event_type: row.event_type,
            subject: row.subject,
            sequence: row.sequence,
            event_time: row.event_time,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id.map(EventId::from),
            reason: parse(&row.reason_code, "dead_letter.reason_code")?,
            text: row.reason,
            attempts: row.attempts,
            replays: row.replays,
            first_at: row.created_at,
            last_at: row.last_at,
            blocked_by: row.blocked_by,
            replay_requested_at: row.replay_requested_at,
            body: row.body,
        })
    }
}

/// Which dead letters are meant, of those that wait. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// These.
    pub ids: Option<Vec<i64>>,
    /// Whose.
    pub consumer: Option<String>,
    /// Why.
    pub reason: Option<DeadLetterReason>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Of this subject.
    pub subject: Option<String>,
    /// Given up longer ago than so many seconds.
    pub older_than_seconds: Option<f64>,
    /// Given up less long ago than so many seconds.
    pub newer_than_seconds: Option<f64>,
    /// At most so many, the oldest first.
    pub limit: Option<i64>,
}

impl DeadLetterFilter {
    /// Whether every letter is meant.
    pub fn is_everything(&self) -> bool {
        let Self {
            ids,
            consumer,
            reason,
            event_type,
            subject,
            older_than_seconds,
            newer_than_seconds,
            limit,
        } = self;
        ids.is_none()
            && [consumer, event_type, subject].into_iter().all(Option::is_none)
            && reason.is_none()
            && older_than_seconds.is_none()
            && newer_than_seconds.is_none()
            && limit.is_none()
    }
}

/// Keeps a delivery. One that is kept already is dead again: its replay has ended, and so has that of the later events of
/// its order that are not on their way. One that was dropped stays dropped. Gives the letter's id, and how often it was
/// replayed; `None`: it was dropped.
pub async fn insert(conn: &mut Conn, letter: &NewDeadLetter<'_>) -> Result<Option<(i64, i32)>, Error> {
    let envelope = letter.envelope;
    let row = sqlx::query!(
        r#"WITH letter AS (
               INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, correlation_id,
                   causation_id, body, reason_code, reason, attempts, blocked_by)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
               ON CONFLICT (consumer, event_id) DO UPDATE SET
                   reason_code = EXCLUDED.reason_code, reason = EXCLUDED.reason, blocked_by = EXCLUDED.blocked_by,
                   attempts = least(dead_letter.attempts::bigint + EXCLUDED.attempts, 2147483647)::integer, last_at = now(),
                   replay_requested_at = NULL, replay_requested_by = NULL, replay_claimed_at = NULL, replay_sent_at = NULL
                   WHERE dead_letter.dropped_at IS NULL
               RETURNING id, replays),
           stopped AS (
               UPDATE dead_letter
               SET replay_requested_at = NULL, replay_requested_by = NULL, replay_claimed_at = NULL
               WHERE consumer = $1 AND subject = $4 AND sequence > $5 AND dropped_at IS NULL
                 AND replay_requested_at IS NOT NULL AND replay_sent_at IS NULL),
           ended AS (DELETE FROM quarantine WHERE consumer = $1 AND event_id = $2)
           SELECT id AS "id!", replays AS "replays!" FROM letter"#,
        letter.consumer,
        envelope.map(|envelope| envelope.id.uuid()),
        envelope.map(|envelope| envelope.event_type.as_str()),
        envelope.map(|envelope| envelope.subject.as_str()),
        envelope.map(|envelope| envelope.sequence),
        envelope.map(|envelope| envelope.time),
        envelope.and_then(|envelope| envelope.correlation_id.as_deref()),
        envelope.and_then(|envelope| envelope.causation_id).map(EventId::uuid),
        letter.body,
        letter.reason.as_str(),
        letter.text,
        i32::try_from(letter.attempts).unwrap_or(i32::MAX),
        letter.blocked_by,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| (row.id, row.replays)))
}

/// The letters that wait, the oldest first.
pub async fn list(conn: &mut Conn, filter: &DeadLetterFilter) -> Result<Vec<DeadLetter>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, consumer, event_id, type AS event_type, subject, sequence, event_time, correlation_id, causation_id,
                  reason_code, reason, attempts, replays, created_at, last_at, blocked_by, replay_requested_at, body
           FROM dead_letter
           WHERE dropped_at IS NULL AND ($1::bigint[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR consumer = $2)
             AND ($3::text IS NULL OR reason_code = $3) AND ($4::text IS NULL OR type = $4)
             AND ($5::text IS NULL OR subject = $5)
             AND ($6::float8 IS NULL OR last_at < now() - make_interval(secs => $6))
             AND ($7::float8 IS NULL OR last_at > now() - make_interval(secs => $7))
           ORDER BY id LIMIT $8"#,
        filter.ids.as_deref(),
        filter.consumer.as_deref(),
        filter.reason.map(DeadLetterReason::as_str),
        filter.event_type.as_deref(),
        filter.subject.as_deref(),
        filter.older_than_seconds,
        filter.newer_than_seconds,
        filter.limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(DeadLetter::try_from).collect()
}

/// The letters that wait for this one.
pub async fn list_blocked_by(conn: &mut Conn, id: i64) -> Result<Vec<i64>, Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM dead_letter WHERE blocked_by = $1 AND dropped_at IS NULL ORDER BY id",
        id
    );
    Ok(ids.fetch_all(conn).await?)
}

/// The subjects of a consumer's letters that wait, up to `limit`.
pub async fn list_subjects(conn: &mut Conn, consumer: &str, limit: i64) -> Result<Vec<String>, Error> {
    let subjects = sqlx::query_scalar!(
        r#"SELECT DISTINCT subject AS "subject!" FROM dead_letter
           WHERE consumer = $1 AND subject IS NOT NULL AND dropped_at IS NULL LIMIT $2"#,
        consumer,
        limit,
    );
    Ok(subjects.fetch_all(conn).await?)
}

/// A letter that a later event of its order waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierLetter {
    /// Which one.
    pub id: i64,
    /// Whether it is on its way to its consumer again.
    pub is_replayed: bool,
}

/// The first letter of this subject and consumer that waits and comes before this place in its history.
pub async fn find_earlier(
    conn: &mut Conn,
    consumer: &str,
    subject: &str,
    sequence: i64,
) -> Result<Option<EarlierLetter>, Error> {
    // One whose effect is committed is as good as gone.
    let letter = sqlx::query_as!(
        EarlierLetter,
        r#"SELECT id, replay_requested_at IS NOT NULL AS "is_replayed!" FROM dead_letter d
           WHERE consumer = $1 AND subject = $2 AND sequence < $3 AND dropped_at IS NULL
             AND NOT EXISTS (SELECT FROM inbox i WHERE i.consumer = d.consumer AND i.event_id = d.event_id)
           ORDER BY sequence LIMIT 1"#,
        consumer,
        subject,
        sequence,
    );
    Ok(letter.fetch_optional(conn).await?)
}

/// Gives letters up, for good: they are kept for a time, and come back in no list. Not those on their way to their
/// consumer, unless nothing has come of it for [`replays::LOST`] seconds. Gives the ids of those that it dropped.
pub async fn mark_dropped(conn: &mut Conn, ids: &[i64], by: &str, because: &str) -> Result<Vec<i64>, Error> {
    let dropped = sqlx::query_scalar!(
        "UPDATE dead_letter SET dropped_at = now(), dropped_by = $2, dropped_because = $3
         WHERE id = ANY($1) AND dropped_at IS NULL
           AND (replay_requested_at IS NULL OR replay_sent_at <= now() - make_interval(secs => $4)) RETURNING id",
        ids,
        by,
        because,
        replays::LOST,
    );
    Ok(dropped.fetch_all(conn).await?)
}

/// Deletes letters that were dropped more than this many days ago.
pub async fn delete_dropped(conn: &mut Conn, days: i32, limit: i64) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "DELETE FROM dead_letter WHERE id IN (
             SELECT id FROM dead_letter WHERE dropped_at < now() - make_interval(days => $1) LIMIT $2)",
        days,
        limit,
    );
    Ok(deleted.execute(conn).await?.rows_affected())
}

/// How many letters wait, by consumer and reason.
pub async fn count_waiting(conn: &mut Conn) -> Result<Vec<(String, DeadLetterReason, i64)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT consumer, reason_code, count(*) AS "count!" FROM dead_letter
           WHERE dropped_at IS NULL GROUP BY consumer, reason_code"#,
    )
    .fetch_all(conn)
    .await?;
    let read = |code: &str| parse(code, "dead_letter.reason_code");
    rows.into_iter().map(|row| Ok((row.consumer, read(&row.reason_code)?, row.count))).collect()
}
