//! Events as they are read back, by those who were not told: of one order, or all of them.
//!
//! An event is in the outbox until the broker has confirmed it, and then in `outbox_sent`, which gives it its place in the
//! feed of all events.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Conn, Error, error::parse};
use crate::domain::{
    event::{Aggregate, Envelope, EventType},
    ids::{EventId, OrderId},
};

/// An event with its place in what is read: its sequence in the history of an order, or its position in the feed.
#[derive(Debug, Clone)]
pub struct PlacedEvent {
    /// The place: reading goes on after it.
    pub place: i64,
    /// The event.
    pub envelope: Envelope,
}

struct Row {
    place: i64,
    event_id: Uuid,
    event_type: String,
    subject: String,
    sequence: i64,
    created_at: DateTime<Utc>,
    correlation_id: Option<String>,
    causation_id: Option<Uuid>,
    trace_parent: Option<String>,
    data: serde_json::Value,
}

impl TryFrom<Row> for PlacedEvent {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let event_type: EventType = parse(&row.event_type, "outbox.type")?;
        let envelope = Envelope {
            id: row.event_id.into(),
            event_type,
            subject: row.subject,
            sequence: row.sequence,
            time: row.created_at,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id.map(EventId::from),
            trace_parent: super::outbox::read_trace_parent(row.trace_parent.as_deref()),
            data: row.data,
        };
        Ok(Self { place: row.place, envelope })
    }
}

/// The history of an order after this sequence: every committed event, published or not.
pub async fn list_of_order(
    conn: &mut Conn,
    id: OrderId,
    after: i64,
    limit: i64,
) -> Result<Vec<PlacedEvent>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT sequence AS "place!", event_id AS "event_id!", type AS "event_type!", subject AS "subject!",
                  sequence AS "sequence!", created_at AS "created_at!", correlation_id, causation_id, trace_parent,
                  data AS "data!"
           FROM (SELECT event_id, type, subject, sequence, created_at, correlation_id, causation_id, trace_parent, data
                 FROM outbox WHERE aggregate_id = $1 AND sequence > $2
                 UNION ALL
                 SELECT event_id, type, subject, sequence, created_at, correlation_id, causation_id, trace_parent, data
                 FROM outbox_sent WHERE aggregate_id = $1 AND sequence > $2) e
           ORDER BY sequence LIMIT $3"#,
        Aggregate::Order(id).uuid(),
        after,
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(PlacedEvent::try_from).collect()
}

/// The feed of all events after this position and up to `until`: those that the broker has confirmed. Where a type is given
/// it looks through all of them: a caller bounds them.
pub async fn list(
    conn: &mut Conn,
    after: i64,
    until: i64,
    event_type: Option<EventType>,
    limit: i64,
) -> Result<Vec<PlacedEvent>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT position AS place, event_id, type AS event_type, subject, sequence, created_at, correlation_id,
                  causation_id, trace_parent, data
           FROM outbox_sent WHERE position > $1 AND position <= $2 AND ($3::text IS NULL OR type = $3)
           ORDER BY position LIMIT $4"#,
        after,
        until,
        event_type.map(EventType::as_str),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(PlacedEvent::try_from).collect()
}

/// Those of these events that are kept and that the broker has confirmed. One that this program cannot read, because a newer
/// one wrote it, is left out.
pub async fn list_confirmed(conn: &mut Conn, ids: &[EventId]) -> Result<Vec<Envelope>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        "SELECT position AS place, event_id, type AS event_type, subject, sequence, created_at, correlation_id,
                causation_id, trace_parent, data
         FROM outbox_sent WHERE event_id = ANY($1)",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let read = |row| {
        PlacedEvent::try_from(row).inspect_err(|error| tracing::warn!(%error, "an event is left out")).ok()
    };
    Ok(rows.into_iter().filter_map(read).map(|event| event.envelope).collect())
}

/// How far the feed goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedRange {
    /// From this place on every event is kept.
    pub oldest: i64,
    /// The last place that was given.
    pub position: i64,
}

/// From where on the feed is kept, and how far it has come. Read after a page it says whether that can lack anything.
pub async fn find_range(conn: &mut Conn) -> Result<FeedRange, Error> {
    let range = sqlx::query_as!(FeedRange, "SELECT oldest, position FROM event_feed");
    Ok(range.fetch_one(conn).await?)
}

/// How far the histories of these orders have come.
pub async fn list_versions(conn: &mut Conn, ids: &[OrderId]) -> Result<Vec<(OrderId, i64)>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows =
        sqlx::query!("SELECT id, version FROM orders WHERE id = ANY($1)", &ids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.version)).collect())
}
