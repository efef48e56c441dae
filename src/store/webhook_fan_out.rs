//! How events become deliveries: the feed is read on from a cursor, and the cursor moves in the transaction that makes the
//! deliveries. Places in the feed have no gaps, so each event is passed once.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::ids::{EventId, WebhookDeliveryId, WebhookEndpointId};

/// Whether any endpoint is enabled: without one, nothing is read and nothing written.
pub async fn is_wanted(conn: &mut Conn) -> Result<bool, Error> {
    let query = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM webhook_endpoint WHERE status = 'enabled') AS "is_wanted!""#
    );
    Ok(query.fetch_one(conn).await?)
}

/// A part of the feed that has yet to become deliveries.
#[derive(Debug, Clone, Copy)]
pub struct FeedPart {
    /// It begins after this place.
    pub after: i64,
    /// It ends with this place.
    pub until: i64,
    /// Whether there is more behind it.
    pub has_more: bool,
}

/// Takes the lock of the cursor, unless another transaction has it, and gives the next `limit` places of the feed. What came
/// before the first enabled endpoint is left out. `None`: nothing to do.
pub async fn lock_next(conn: &mut Conn, limit: i64) -> Result<Option<FeedPart>, Error> {
    let cursor = sqlx::query_scalar!("SELECT position FROM webhook_cursor FOR UPDATE SKIP LOCKED");
    let Some(position) = cursor.fetch_optional(&mut *conn).await? else { return Ok(None) };
    let row = sqlx::query!(
        r#"SELECT f.position, greatest($1, e.starts_after, f.oldest - 1) AS "after!"
           FROM event_feed f
           JOIN (SELECT min(starts_after) AS starts_after FROM webhook_endpoint WHERE status = 'enabled') e
             ON e.starts_after IS NOT NULL"#,
        position,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.filter(|row| row.after < row.position).map(|row| {
        let until = row.position.min(row.after + limit);
        FeedPart { after: row.after, until, has_more: until < row.position }
    }))
}

/// An event that an enabled endpoint wants.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    endpoint_id: WebhookEndpointId,
    event_id: EventId,
}

/// What of a part of the feed is wanted, in its order.
pub async fn list_wanted(conn: &mut Conn, part: FeedPart) -> Result<Vec<Wanted>, Error> {
    let rows = sqlx::query!(
        r#"SELECT e.id, s.event_id FROM outbox_sent s
           JOIN webhook_endpoint e ON e.status = 'enabled' AND e.starts_after < s.position
             AND (e.event_types IS NULL OR s.type = ANY(e.event_types))
           WHERE s.position > $1 AND s.position <= $2
           ORDER BY s.position, e.id"#,
        part.after,
        part.until,
    )
    .fetch_all(conn)
    .await?;
    let wanted = |endpoint_id: Uuid, event_id: Uuid| Wanted {
        endpoint_id: endpoint_id.into(),
        event_id: event_id.into(),
    };
    Ok(rows.into_iter().map(|row| wanted(row.id, row.event_id)).collect())
}

/// Makes deliveries, whose ids are in the order of the feed.
pub async fn insert(conn: &mut Conn, wanted: &[Wanted]) -> Result<(), Error> {
    let ids: Vec<Uuid> = wanted.iter().map(|_| WebhookDeliveryId::new().uuid()).collect();
    let endpoints: Vec<Uuid> = wanted.iter().map(|one| one.endpoint_id.uuid()).collect();
    let events: Vec<Uuid> = wanted.iter().map(|one| one.event_id.uuid()).collect();
    sqlx::query!(
        "INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence)
         SELECT n.id, n.endpoint_id, s.event_id, s.type, s.subject, s.sequence
         FROM UNNEST($1::uuid[], $2::uuid[], $3::uuid[]) AS n (id, endpoint_id, event_id)
         JOIN outbox_sent s ON s.event_id = n.event_id",
        &ids,
        &endpoints,
        &events,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Moves the cursor, whose lock this transaction has, to the end of a part.
pub async fn move_cursor(conn: &mut Conn, part: FeedPart) -> Result<(), Error> {
    sqlx::query!("UPDATE webhook_cursor SET position = $1", part.until).execute(conn).await?;
    Ok(())
}

/// How the deliveries stand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WebhookBacklog {
    /// Deliveries that are pending: exact up to 10,000, no more is counted.
    pub pending: i64,
    /// For how long the oldest of them whose time has come has waited since it was queued, in seconds.
    pub oldest_seconds: f64,
    /// Places in the feed that have yet to become deliveries.
    pub behind: i64,
    /// Endpoints that are disabled.
    pub disabled_endpoints: i64,
}

/// Reads how the deliveries stand, without counting millions.
pub async fn backlog(conn: &mut Conn) -> Result<WebhookBacklog, Error> {
    let row = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM (SELECT FROM webhook_delivery WHERE status = 'pending' LIMIT 10000) p) AS "pending!",
                  (SELECT min(first.queued_at) FROM webhook_endpoint e CROSS JOIN LATERAL (
                       SELECT d.queued_at FROM webhook_delivery d
                       WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.next_attempt_at <= now()
                       ORDER BY d.next_attempt_at, d.id LIMIT 1) first WHERE e.status = 'enabled') AS oldest,
                  -- From where `lock_next` goes on.
                  COALESCE((SELECT greatest(f.position - greatest(c.position, min(e.starts_after), f.oldest - 1), 0)
                            FROM event_feed f, webhook_cursor c, webhook_endpoint e WHERE e.status = 'enabled'
                            GROUP BY f.position, f.oldest, c.position), 0) AS "behind!",
                  (SELECT count(*) FROM webhook_endpoint WHERE status = 'disabled') AS "disabled!",
                  clock_timestamp() AS "now!""#,
    )
    .fetch_one(conn)
    .await?;
    let since = |oldest: DateTime<Utc>| (row.now - oldest).as_seconds_f64().max(0.0);
    Ok(WebhookBacklog {
        pending: row.pending,
        oldest_seconds: row.oldest.map_or(0.0, since),
        behind: row.behind,
        disabled_endpoints: row.disabled,
    })
}
