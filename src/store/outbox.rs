//! The outbox: events written in the transaction of the change, and what the relay does with them, on connections that find
//! rows by their keys whatever the statistics say ([`super::Store::conn_by_key`]).

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::{
    event::{Aggregate, Envelope, Event, EventType},
    ids::EventId,
    trace_parent::TraceParent,
};

/// An event to be written.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Whose history it belongs to.
    pub aggregate: Aggregate,
    /// Its place in that history, taken under the aggregate's row lock.
    pub sequence: i64,
    /// What happened, with what there is to know.
    pub event: Event,
    /// The request or event that began the chain.
    pub correlation_id: Option<String>,
    /// The event that it follows from.
    pub causation_id: Option<EventId>,
    /// The span that wrote it, where that is recorded.
    pub trace_parent: Option<TraceParent>,
}

/// Writes events, in this order.
pub async fn insert(conn: &mut Conn, events: &[NewEvent]) -> Result<(), Error> {
    let ids: Vec<Uuid> = events.iter().map(|_| EventId::new().uuid()).collect();
    let shards: Vec<i16> = events.iter().map(|event| event.aggregate.shard()).collect();
    let aggregates: Vec<Uuid> = events.iter().map(|event| event.aggregate.uuid()).collect();
    let sequences: Vec<i64> = events.iter().map(|event| event.sequence).collect();
    let types: Vec<&str> = events.iter().map(|event| event.event.event_type().as_str()).collect();
    let subjects: Vec<String> = events.iter().map(|event| event.aggregate.subject()).collect();
    let correlations: Vec<Option<&str>> =
        events.iter().map(|event| event.correlation_id.as_deref()).collect();
    let causations: Vec<Option<Uuid>> =
        events.iter().map(|event| event.causation_id.map(EventId::uuid)).collect();
    let traces = trace_parents(events.iter().map(|event| event.trace_parent));
    let data: Vec<Json<&Event>> = events.iter().map(|event| Json(&event.event)).collect();
    let result = sqlx::query!(
        "INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, causation_id, data,
                             trace_parent)
         SELECT event_id, shard, aggregate_id, sequence, type, subject, correlation_id, causation_id, data, trace_parent
         FROM UNNEST($1::uuid[], $2::smallint[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::text[],
                     $8::uuid[], $9::jsonb[], $10::text[]) WITH ORDINALITY
              AS n (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, causation_id, data,
                    trace_parent, place)
         ORDER BY place",
        &ids,
        &shards,
        &aggregates,
        &sequences,
        &types as _,
        &subjects,
        &correlations as _,
        &causations as _,
        &data as _,
        &traces as _,
    )
    .execute(conn)
    .await?;
    super::expect_rows(&result, events.len(), "insert outbox rows")
}

/// The column of these. An array that is shorter than its neighbours ends in NULLs, so one that would hold nothing else is empty.
pub(super) fn trace_parents(
    parents: impl Iterator<Item = Option<TraceParent>> + Clone,
) -> Vec<Option<String>> {
    if parents.clone().all(|parent| parent.is_none()) {
        return Vec::new();
    }
    parents.map(|parent| parent.map(|parent| parent.to_string())).collect()
}

/// The span that a row names. One that cannot be read costs a trace, and no event.
pub(super) fn read_trace_parent(text: Option<&str>) -> Option<TraceParent> {
    text?.parse().ok()
}

/// An event that waits to be published.
#[derive(Debug, Clone, Copy)]
pub struct OutboxRow {
    /// Order of publishing within one aggregate.
    pub id: i64,
    /// How often publishing it failed.
    pub attempts: i32,
}

/// What is to be published next.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    /// Rows that can be published, and what is published of each.
    pub rows: Vec<(OutboxRow, Envelope)>,
    /// Rows of a type that this program does not know: a newer one wrote them.
    pub unknown: Vec<UnknownRow>,
}

/// A row of a type that this program does not know.
#[derive(Debug, Clone)]
pub struct UnknownRow {
    /// Order of publishing within one aggregate.
    pub id: i64,
    /// Its type.
    pub event_type: String,
    /// How often it was held back.
    pub attempts: i32,
}

/// The next rows of these shards, oldest first, and of each aggregate only its first: one event of an order is on its way
/// at a time, so that a failed one keeps the later ones of its order back, and nobody else's.
///
/// No row is locked. `from` saves a reader the rows that it knows to be gone, which an index names until it is vacuumed: identity
/// values commit out of order and rows come back after a failure, so whoever gives one must look from 0 on again and again.
///
/// `OFFSET 0` keeps the question a question for each row: as a join, in a plan made while the outbox was empty, it would read all of
/// the outbox for each.
pub async fn list_pending(conn: &mut Conn, shards: &[i16], from: i64, limit: i64) -> Result<Pending, Error> {
    let rows = sqlx::query!(
        "SELECT o.id, o.event_id, o.sequence, o.type AS event_type, o.subject, o.correlation_id, o.causation_id,
                o.data, o.created_at, o.attempts, o.trace_parent
         FROM outbox o
         WHERE o.id >= $2 AND o.shard = ANY($1)
           AND (o.retry_at IS NULL OR o.retry_at <= now())
           AND NOT EXISTS (SELECT 1 FROM outbox e
                           WHERE e.aggregate_id = o.aggregate_id AND e.sequence < o.sequence OFFSET 0)
         ORDER BY o.id LIMIT $3",
        shards,
        from,
        limit,
    )
    .fetch_all(conn)
    .await?;
    let mut pending = Pending::default();
    for row in rows {
        let Ok(event_type) = row.event_type.parse::<EventType>() else {
            let (id, event_type, attempts) = (row.id, row.event_type, row.attempts);
            pending.unknown.push(UnknownRow { id, event_type, attempts });
            continue;
        };
        let envelope = Envelope {
            id: row.event_id.into(),
            event_type,
            subject: row.subject,
            sequence: row.sequence,
            time: row.created_at,
            correlation_id: row.correlation_id,
            causation_id: row.causation_id.map(EventId::from),
            trace_parent: read_trace_parent(row.trace_parent.as_deref()),
            data: row.data,
        };
        pending.rows.push((OutboxRow { id: row.id, attempts: row.attempts }, envelope));
    }
    Ok(pending)
}

/// Moves rows that the broker confirmed to `outbox_sent`, each with its place in the feed of all events, but only those of shards that `owner` still leases under the
/// epoch it published them with: a former owner moves nothing. Gives how many were moved.
pub async fn mark_sent(
    conn: &mut Conn,
    owner: &str,
    leases: &[(i16, i64)],
    ids: &[i64],
) -> Result<u64, Error> {
    let (shards, epochs): (Vec<i16>, Vec<i64>) = leases.iter().copied().unzip();
    let moved = sqlx::query!(
        "WITH lease AS (
             SELECT l.shard FROM relay_lease l
             JOIN UNNEST($2::smallint[], $3::bigint[]) AS mine (shard, epoch)
               ON l.shard = mine.shard AND l.epoch = mine.epoch
             WHERE l.owner = $1 FOR SHARE OF l),
         gone AS (
             DELETE FROM outbox o WHERE o.id = ANY($4) AND o.shard = ANY (ARRAY(SELECT shard FROM lease))
             RETURNING o.id, o.event_id, o.shard, o.aggregate_id, o.sequence, o.type, o.subject, o.correlation_id,
                       o.causation_id, o.data, o.created_at, o.trace_parent),
         -- After the deletion: the one row is held for no longer than it takes to commit.
         feed AS (
             UPDATE event_feed SET position = position + (SELECT count(*) FROM gone)
             WHERE is_only AND EXISTS (SELECT 1 FROM gone) RETURNING position)
         INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, correlation_id,
                                  causation_id, data, created_at, trace_parent, sent_at, position)
         SELECT gone.*, clock_timestamp(), feed.position + 1 - row_number() OVER (ORDER BY gone.id DESC)
         FROM gone CROSS JOIN feed",
        owner,
        &shards,
        &epochs,
        ids,
    )
    .execute(conn)
    .await?;
    Ok(moved.rows_affected())
}

/// Keeps rows back that were not published, or that the broker did not confirm: each tries again after its delay, in seconds.
pub async fn mark_failed(conn: &mut Conn, failed: &[(i64, f64)]) -> Result<(), Error> {
    let (ids, delays): (Vec<i64>, Vec<f64>) = failed.iter().copied().unzip();
    sqlx::query!(
        "UPDATE outbox o SET attempts = attempts + 1, retry_at = clock_timestamp() + make_interval(secs => f.delay)
         FROM UNNEST($1::bigint[], $2::double precision[]) AS f (id, delay) WHERE o.id = f.id",
        &ids,
        &delays,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Of how many subjects the next event may have been refused without more than these being late: in a quiet hour nothing later
/// shows that they are alone, and without a new order nothing would.
const FEW: i64 = 10;

/// How much waits in the outbox, as it can be told without counting millions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// How many events wait: exact up to 1,000, an estimate beyond.
    pub waiting: i64,
    /// For how long the oldest of them has waited, in seconds.
    pub oldest_seconds: f64,
    /// The same without those that are held back alone, and what waits behind them: events that the broker did not take while it
    /// took later ones, or so few that it would not take that it is not to be told from these.
    pub delay_seconds: f64,
}

/// Reads how much waits. Looks at 1,000 rows at most, however many there are.
pub async fn backlog(conn: &mut Conn) -> Result<Backlog, Error> {
    let row = sqlx::query!(
        r#"WITH waiting AS MATERIALIZED (
               SELECT id, aggregate_id, sequence, attempts, created_at FROM outbox ORDER BY id LIMIT 1000),
           next AS MATERIALIZED (
               SELECT w.attempts, w.created_at FROM waiting w
               WHERE NOT EXISTS (SELECT 1 FROM outbox e
                                 WHERE e.aggregate_id = w.aggregate_id AND e.sequence < w.sequence OFFSET 0)),
           late AS (
               SELECT min(created_at) AS since FROM next
               WHERE attempts = 0
                  OR (SELECT count(*) FROM next WHERE attempts > 0) > $1 AND created_at >= coalesce((
                     SELECT max(created_at) FROM (SELECT created_at FROM outbox_sent ORDER BY position DESC LIMIT 100) s),
                     '-infinity'))
           SELECT (SELECT count(*) FROM waiting) AS "counted!",
                  pg_stat_get_live_tuples('outbox'::regclass) AS "estimated!",
                  (SELECT min(created_at) FROM waiting) AS oldest,
                  (SELECT since FROM late) AS late,
                  clock_timestamp() AS "now!""#,
        FEW,
    )
    .fetch_one(conn)
    .await?;
    let seconds =
        |since: Option<DateTime<Utc>>| since.map_or(0.0, |since| (row.now - since).as_seconds_f64().max(0.0));
    let is_counted = row.counted < 1000;
    // So many are not alone.
    let late = if is_counted { row.late } else { row.late.or(row.oldest) };
    Ok(Backlog {
        waiting: if is_counted { row.counted } else { row.estimated.max(row.counted) },
        oldest_seconds: seconds(row.oldest),
        delay_seconds: seconds(late),
    })
}

/// How the outbox stands.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OutboxStatus {
    /// Events not yet confirmed by the broker.
    pub pending: i64,
    /// When the oldest of them was made.
    pub oldest: Option<DateTime<Utc>>,
    /// Events confirmed.
    pub sent: i64,
    /// Effects of consumers committed.
    pub consumed: i64,
    /// Deliveries that no consumer could handle, without those that an operator dropped.
    pub dead: i64,
}

/// Counts the events by where they are.
pub async fn status(conn: &mut Conn) -> Result<OutboxStatus, Error> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM outbox) AS "pending!", (SELECT min(created_at) FROM outbox) AS oldest,
                  (SELECT count(*) FROM outbox_sent) AS "sent!", (SELECT count(*) FROM inbox) AS "consumed!",
                  (SELECT count(*) FROM dead_letter WHERE dropped_at IS NULL) AS "dead!""#,
    )
    .fetch_one(conn)
    .await?;
    Ok(OutboxStatus {
        pending: row.pending,
        oldest: row.oldest,
        sent: row.sent,
        consumed: row.consumed,
        dead: row.dead,
    })
}
