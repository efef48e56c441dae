//! Deliveries of webhooks as the worker sees them: claimed, tried, over.
//!
//! A claim is a lease: it moves `next_attempt_at` to when the attempt is taken for lost. It is made under the row lock of the
//! endpoint, so that what is under way at an endpoint is counted exactly, over all processes. Within a subject attempts
//! begin in the order of the events: none while an earlier one is under way or was not tried yet.

use super::{Conn, Error, error::parse};
use crate::domain::{
    ids::{EventId, WebhookDeliveryId, WebhookEndpointId},
    webhook::{AttemptError, DeliveredType, DeliveryStatus},
};
use chrono::{DateTime, Utc};

/// So many due deliveries of an endpoint are looked at for one claim.
const LOOKED_AT: i64 = 200;

/// A delivery that this process is to try.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Which.
    pub id: WebhookDeliveryId,
    /// To which endpoint.
    pub endpoint_id: WebhookEndpointId,
    /// Where to.
    pub url: String,
    /// Which event.
    pub event_id: EventId,
    /// Its type.
    pub event_type: DeliveredType,
    /// What is sent, where the feed does not have it.
    pub body: Option<String>,
    /// Which of its attempts this is, from 1.
    pub number: i32,
    /// The same since it was queued.
    pub tries: i32,
    /// When the attempt begins.
    pub began: DateTime<Utc>,
    /// When it is taken for lost; names the claim.
    pub claimed_until: DateTime<Utc>,
}

/// Claims what is due, `limit` at most, and of one endpoint so much that `per_endpoint` are under way; one that has failed
/// `probe_after` times in a row gets one at a time. Endpoints with less under way come first. A claim that ran out is logged as
/// an attempt of unknown outcome. What this program cannot read, because a newer one made it, is left to that one: it comes again
/// when the claim has run out.
pub async fn claim(
    conn: &mut Conn,
    limit: i64,
    per_endpoint: i64,
    probe_after: i32,
    lease_seconds: f64,
) -> Result<Vec<ClaimedDelivery>, Error> {
    let endpoints = sqlx::query_scalar!(
        "SELECT e.id FROM webhook_endpoint e
         WHERE e.status = 'enabled' AND (e.paused_until IS NULL OR e.paused_until <= clock_timestamp())
           AND EXISTS (SELECT FROM webhook_delivery d WHERE d.endpoint_id = e.id AND d.status = 'pending'
                                                        AND d.next_attempt_at <= now())
         ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED",
    )
    .fetch_all(&mut *conn)
    .await?;
    if endpoints.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_file!(
        "src/store/webhook_claim.sql",
        limit,
        per_endpoint,
        probe_after,
        lease_seconds,
        LOOKED_AT,
        &endpoints,
    )
    .fetch_all(conn)
    .await?;
    let claimed = rows.into_iter().filter_map(|row| {
        let event_type = parse(&row.event_type, "webhook_delivery.event_type")
            .inspect_err(|error| tracing::warn!(%error, id = %row.id, "a webhook is left out"))
            .ok()?;
        Some(ClaimedDelivery {
            id: row.id.into(),
            endpoint_id: row.endpoint_id.into(),
            url: row.url,
            event_id: row.event_id.into(),
            event_type,
            body: row.body,
            number: row.attempts,
            tries: row.tries,
            began: row.claimed_at,
            claimed_until: row.claimed_until,
        })
    });
    Ok(claimed.collect())
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub struct AttemptOutcome<'a> {
    /// How long it took.
    pub duration_ms: i32,
    /// What it was answered with, or why it was not.
    pub result: Result<i32, AttemptError>,
    /// The same in words, where it was not.
    pub detail: Option<&'a str>,
    /// The beginning of the answer's body.
    pub response: Option<&'a str>,
}

/// Logs an attempt. One that was taken for lost meanwhile gets its outcome after all.
pub async fn insert_attempt(
    conn: &mut Conn,
    delivery: &ClaimedDelivery,
    outcome: &AttemptOutcome<'_>,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO webhook_attempt (delivery_id, number, started_at, duration_ms, status_code, error_code,
                                      error_detail, response)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT ON CONSTRAINT webhook_attempt_pkey DO UPDATE
         SET duration_ms = EXCLUDED.duration_ms, status_code = EXCLUDED.status_code,
             error_code = EXCLUDED.error_code, error_detail = EXCLUDED.error_detail, response = EXCLUDED.response",
        delivery.id.uuid(),
        delivery.number,
        delivery.began,
        outcome.duration_ms,
        outcome.result.ok(),
        outcome.result.err().map(AttemptError::as_str),
        outcome.detail,
        outcome.response,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// Nothing: it is over.
    Over(DeliveryStatus),
    /// It is tried again, so many seconds from now.
    Again(f64),
}

/// Notes what becomes of a delivery after an attempt, unless its claim was lost. That it was delivered is a fact, whoever has
/// the claim. One that failed and was queued again meanwhile stays as it was queued: see [`mark_queued`]. Gives what was written;
/// `None`: nothing was changed.
pub async fn mark_tried(
    conn: &mut Conn,
    delivery: &ClaimedDelivery,
    outcome: &AttemptOutcome<'_>,
    next: Next,
) -> Result<Option<DeliveryStatus>, Error> {
    let (status, wait) = match next {
        Next::Over(status) => (status, None),
        Next::Again(seconds) => (DeliveryStatus::Pending, Some(seconds)),
    };
    let written = sqlx::query_scalar!(
        "UPDATE webhook_delivery
         SET status = CASE WHEN $3 <> 'delivered' AND queued_at > claimed_at THEN 'pending' ELSE $3 END,
             next_attempt_at = CASE WHEN $3 <> 'delivered' AND queued_at > claimed_at THEN created_at
                                    ELSE clock_timestamp() + make_interval(secs => $4) END,
             completed_at = CASE WHEN $3 = 'delivered' OR $3 <> 'pending' AND queued_at <= claimed_at
                                 THEN clock_timestamp() END,
             claimed_at = NULL, claimed_until = NULL, last_attempt_at = $5, last_status_code = $6, last_error_code = $7
         WHERE id = $1 AND status = 'pending' AND (claimed_until = $2 OR $3 = 'delivered')
         RETURNING status",
        delivery.id.uuid(),
        delivery.claimed_until,
        status.as_str(),
        wait,
        delivery.began,
        outcome.result.ok(),
        outcome.result.err().map(AttemptError::as_str),
    )
    .fetch_optional(conn)
    .await?;
    written.map(|status| parse(&status, "webhook_delivery.status")).transpose()
}

/// Makes the delivery of a test to an endpoint that this transaction has locked. `false`: it is there already.
pub async fn insert_test(
    conn: &mut Conn,
    id: WebhookDeliveryId,
    endpoint_id: WebhookEndpointId,
    event_id: EventId,
    body: &str,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "INSERT INTO webhook_delivery (id, endpoint_id, event_id, event_type, subject, sequence, body)
         VALUES ($1, $2, $3, $4, 'webhook-endpoint/' || $6::text, 1, $5)
         ON CONFLICT ON CONSTRAINT webhook_delivery_pkey DO NOTHING",
        id.uuid(),
        endpoint_id.uuid(),
        event_id.uuid(),
        DeliveredType::TEST,
        body,
        endpoint_id.to_string(),
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Has a delivery, whose endpoint this transaction has locked, tried at once, as if it were new. An attempt that is under way
/// goes on. Its time is when it was made: it keeps the later ones of its subject back, so it has to come before them among
/// those that are looked at.
pub async fn mark_queued(conn: &mut Conn, id: WebhookDeliveryId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE webhook_delivery
         SET status = 'pending', tries = 0, queued_at = clock_timestamp(), completed_at = NULL,
             next_attempt_at = CASE WHEN claimed_until > clock_timestamp() THEN claimed_until ELSE created_at END
         WHERE id = $1",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Cancels what is pending for endpoints that are disabled, what was queued before they were, and what is for those that are gone;
/// so many at most. Gives how many. Whoever makes deliveries may not see yet that an endpoint is being disabled: what it queues then
/// is newer than that.
pub async fn cancel_left(conn: &mut Conn, limit: i64) -> Result<u64, Error> {
    let result = sqlx::query!(
        "UPDATE webhook_delivery
         SET status = 'canceled', next_attempt_at = NULL, completed_at = clock_timestamp(), claimed_at = NULL,
             claimed_until = NULL
         WHERE status = 'pending' AND id IN (
             SELECT d.id FROM webhook_endpoint e CROSS JOIN LATERAL (
                 SELECT d.id FROM webhook_delivery d
                 WHERE d.endpoint_id = e.id AND d.status = 'pending'
                   AND (e.status = 'disabled' OR d.queued_at <= e.disabled_at) LIMIT $1) d
             WHERE e.disabled_at IS NOT NULL
             UNION ALL
             SELECT id FROM (SELECT d.id FROM webhook_delivery d
                 WHERE d.status = 'pending' AND NOT EXISTS (SELECT FROM webhook_endpoint e WHERE e.id = d.endpoint_id)
                 LIMIT $1) gone)",
        limit,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected())
}

/// Deletes deliveries with their attempts that were over more than this many days ago, so many at most. Gives how many.
pub async fn delete_old(conn: &mut Conn, days: i32, limit: i64) -> Result<u64, Error> {
    // A UUIDv7 says when the row was made, so the oldest come first and no index of completed_at is needed.
    let gone = sqlx::query_scalar!(
        r#"WITH gone AS (
               DELETE FROM webhook_delivery WHERE id IN (
                   SELECT id FROM webhook_delivery
                   WHERE id < event_id_from(now() - make_interval(days => $1))
                     AND completed_at < now() - make_interval(days => $1)
                   ORDER BY id LIMIT $2)
               RETURNING id),
           log AS (DELETE FROM webhook_attempt WHERE delivery_id IN (SELECT id FROM gone))
           SELECT count(*) AS "deleted!" FROM gone"#,
        days,
        limit,
    )
    .fetch_one(conn)
    .await?;
    Ok(gone.unsigned_abs())
}
