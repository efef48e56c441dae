//! Events that were sent and that their consumer never got: the broker lost them after it had confirmed them. They become dead
//! letters that are to be replayed, so that they come to that consumer alone, in the order of their history, and take effect once.
//!
//! Which they are is what the audit calls broken (`A3`), by the same statement.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::super::{Conn, Error, audit::Scope};
use crate::domain::{dead_letter::DeadLetterReason, ids::EventId};

/// What a letter says that was made here, for people.
const TEXT: &str = "it was sent, and its consumer never got it";

const FIND: &str = concat!(
    include_str!("../audit/consumers.sql"),
    "SELECT consumer, event_id, type, subject FROM settled WHERE state = 'broken' ORDER BY event_id, consumer"
);

const INSERT: &str = concat!(
    include_str!("../audit/consumers.sql"),
    ", letter AS (
         INSERT INTO dead_letter (consumer, event_id, type, subject, sequence, event_time, correlation_id, causation_id, body,
             reason_code, reason, attempts, replay_requested_at, replay_requested_by)
         SELECT consumer, event_id, type, subject, sequence, created_at, correlation_id, causation_id,
                convert_to(data::text, 'UTF8'), $6, $7, 0, now(), $8
         FROM settled WHERE state = 'broken' ORDER BY event_id, consumer
         -- Somebody else was faster: it has died, or is sent again already.
         ON CONFLICT (consumer, event_id) DO NOTHING
         RETURNING consumer, event_id, type, subject)
     SELECT consumer, event_id, type, subject FROM letter ORDER BY event_id, consumer"
);

/// An event that a consumer never got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEvent {
    /// Who.
    pub consumer: String,
    /// The event.
    pub event_id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its subject.
    pub subject: String,
}

/// Where a page of so many events ends that were made from the beginning of the scope on: before this time. `None`: there are
/// not so many.
pub async fn find_page_end(
    conn: &mut Conn,
    scope: &Scope,
    size: i64,
) -> Result<Option<DateTime<Utc>>, Error> {
    let id: Option<Uuid> = sqlx::query_scalar(
        "SELECT event_id FROM outbox_sent WHERE event_id >= event_id_from($1) AND event_id < event_id_from($2)
         ORDER BY event_id OFFSET $3 LIMIT 1",
    )
    .bind(scope.since)
    .bind(scope.until)
    .bind(size)
    .fetch_optional(conn)
    .await?;
    // A UUIDv7 begins with its time, in milliseconds.
    let time =
        id.and_then(|id| i64::try_from(id.as_u128() >> 80).ok()).and_then(DateTime::from_timestamp_millis);
    Ok(time.map(|time| time.max(scope.since + TimeDelta::milliseconds(1))))
}

/// The events of a scope that were lost.
pub async fn list(conn: &mut Conn, scope: &Scope) -> Result<Vec<LostEvent>, Error> {
    let rows = over(FIND, scope).fetch_all(conn).await?;
    Ok(rows.into_iter().map(LostEvent::from).collect())
}

/// Has the events of a scope that were lost sent again, each to the consumer that never got it. Gives them. `by` is who asks.
pub async fn insert(conn: &mut Conn, scope: &Scope, by: &str) -> Result<Vec<LostEvent>, Error> {
    let insert = over(INSERT, scope).bind(DeadLetterReason::Lost.as_str()).bind(TEXT).bind(by);
    Ok(insert.fetch_all(conn).await?.into_iter().map(LostEvent::from).collect())
}

type Row = (String, Uuid, String, String);

/// A statement with what `consumers.sql` wants.
fn over<'q>(sql: &'static str, scope: &Scope) -> QueryAs<'q, Postgres, Row, PgArguments> {
    let (consumers, types): (Vec<&str>, Vec<&str>) = scope.required.iter().copied().unzip();
    sqlx::query_as(sql)
        .bind(scope.since)
        .bind(scope.until)
        .bind(scope.grace.as_secs_f64())
        .bind(consumers)
        .bind(types)
}

impl From<Row> for LostEvent {
    fn from((consumer, event_id, event_type, subject): Row) -> Self {
        Self { consumer, event_id: event_id.into(), event_type, subject }
    }
}
