//! The merchant's webhook endpoints and their secrets.
//!
//! Whoever changes what is delivered to an endpoint takes its row lock first: what is claimed of it is counted under the lock.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Conn, Error, error::parse};
use crate::domain::{
    event::EventType,
    ids::WebhookEndpointId,
    webhook::{DisabledReason, EndpointStatus, WebhookEndpoint},
};

/// An endpoint as the queries of this file give it.
struct Row {
    id: Uuid,
    url: String,
    description: Option<String>,
    event_types: Option<Vec<String>>,
    status: String,
    disabled_reason: Option<String>,
    disabled_at: Option<DateTime<Utc>>,
    failing_since: Option<DateTime<Utc>>,
    old_secret_expires_at: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for WebhookEndpoint {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let parse_type = |name: &String| parse::<EventType>(name, "webhook_endpoint.event_types");
        let types = row.event_types.map(|names| names.iter().map(parse_type).collect()).transpose()?;
        let reason = row.disabled_reason.as_deref();
        Ok(Self {
            id: row.id.into(),
            url: row.url,
            description: row.description,
            event_types: types,
            status: parse(&row.status, "webhook_endpoint.status")?,
            disabled_reason: reason
                .map(|reason| parse(reason, "webhook_endpoint.disabled_reason"))
                .transpose()?,
            disabled_at: row.disabled_at,
            failing_since: row.failing_since,
            old_secret_expires_at: row.old_secret_expires_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select_endpoints {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            "SELECT id, url, description, event_types, status, disabled_reason, disabled_at, failing_since,
                    (SELECT max(s.expires_at) FROM webhook_secret s WHERE s.endpoint_id = e.id AND s.expires_at > now())
                        AS old_secret_expires_at,
                    version, created_at, updated_at
             FROM webhook_endpoint e " + $rest
            $(, $argument)*
        )
    };
}

/// An endpoint that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewWebhookEndpoint<'a> {
    /// Its id.
    pub id: WebhookEndpointId,
    /// Where events are posted to.
    pub url: &'a str,
    /// What people call it.
    pub description: Option<&'a str>,
    /// Which types; `None` is all.
    pub event_types: Option<&'a [EventType]>,
}

/// Stores a new endpoint, which gets what comes in the feed from now on; unless there are `most`, or it is there already.
pub async fn insert(conn: &mut Conn, new: &NewWebhookEndpoint<'_>, most: i64) -> Result<bool, Error> {
    let types = new.event_types.map(names);
    // One at a time, so that the count holds.
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('webhook_endpoint'))").fetch_one(&mut *conn).await?;
    let result = sqlx::query!(
        "INSERT INTO webhook_endpoint (id, url, description, event_types, starts_after)
         SELECT $1, $2, $3, $4, f.position FROM event_feed f WHERE $5 > (SELECT count(*) FROM webhook_endpoint)
         ON CONFLICT ON CONSTRAINT webhook_endpoint_pkey DO NOTHING",
        new.id.uuid(),
        new.url,
        new.description,
        types.as_deref() as _,
        most,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

fn names(types: &[EventType]) -> Vec<String> {
    types.iter().map(|event_type| event_type.as_str().to_owned()).collect()
}

/// What is to change of an endpoint; `None` stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct WebhookEndpointChange<'a> {
    /// Where events are posted to.
    pub url: Option<&'a str>,
    /// What people call it, or nothing.
    pub description: Option<Option<&'a str>>,
    /// Which types, or all.
    pub event_types: Option<Option<&'a [EventType]>>,
}

/// Changes an endpoint that this transaction has locked. At another URL it is not known to fail.
pub async fn update(
    conn: &mut Conn,
    id: WebhookEndpointId,
    change: &WebhookEndpointChange<'_>,
) -> Result<(), Error> {
    let types = change.event_types.flatten().map(names);
    sqlx::query!(
        "UPDATE webhook_endpoint
         SET url = COALESCE($2, url),
             description = CASE WHEN $3 THEN $4 ELSE description END,
             event_types = CASE WHEN $5 THEN $6::text[] ELSE event_types END,
             failures = CASE WHEN $2 <> url THEN 0 ELSE failures END,
             failing_since = CASE WHEN $2 <> url THEN NULL ELSE failing_since END,
             paused_until = CASE WHEN $2 <> url THEN NULL ELSE paused_until END,
             version = version + 1, updated_at = now()
         WHERE id = $1",
        id.uuid(),
        change.url,
        change.description.is_some(),
        change.description.flatten(),
        change.event_types.is_some(),
        types.as_deref() as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that something that is told of an endpoint has changed, which this transaction has locked.
pub async fn mark_changed(conn: &mut Conn, id: WebhookEndpointId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint SET version = version + 1, updated_at = now() WHERE id = $1",
        id.uuid()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes the row lock of an endpoint.
pub async fn lock(conn: &mut Conn, id: WebhookEndpointId) -> Result<Option<WebhookEndpoint>, Error> {
    let row = select_endpoints!("WHERE id = $1 FOR NO KEY UPDATE", id.uuid()).fetch_optional(conn).await?;
    row.map(WebhookEndpoint::try_from).transpose()
}

/// An endpoint.
pub async fn find(conn: &mut Conn, id: WebhookEndpointId) -> Result<Option<WebhookEndpoint>, Error> {
    let row = select_endpoints!("WHERE id = $1", id.uuid()).fetch_optional(conn).await?;
    row.map(WebhookEndpoint::try_from).transpose()
}

/// Endpoints, the newest first, of those before `starting_after` if given.
pub async fn list(
    conn: &mut Conn,
    status: Option<EndpointStatus>,
    starting_after: Option<WebhookEndpointId>,
    limit: i64,
) -> Result<Vec<WebhookEndpoint>, Error> {
    let query = select_endpoints!(
        "WHERE ($1::text IS NULL OR status = $1) AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        status.map(EndpointStatus::as_str),
        starting_after.map(WebhookEndpointId::uuid),
        limit,
    );
    query.fetch_all(conn).await?.into_iter().map(WebhookEndpoint::try_from).collect()
}

/// Disables an endpoint that this transaction has locked. What is queued for it by now is canceled.
pub async fn mark_disabled(
    conn: &mut Conn,
    id: WebhookEndpointId,
    reason: DisabledReason,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "UPDATE webhook_endpoint SET status = 'disabled', disabled_reason = $2, disabled_at = clock_timestamp(),
                version = version + 1, updated_at = now()
         WHERE id = $1 AND status = 'enabled'",
        id.uuid(),
        reason.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Enables an endpoint that this transaction has locked: it gets what comes in the feed from now on.
pub async fn mark_enabled(conn: &mut Conn, id: WebhookEndpointId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint SET status = 'enabled', disabled_reason = NULL, failures = 0, failing_since = NULL,
                paused_until = NULL, starts_after = (SELECT position FROM event_feed),
                version = version + 1, updated_at = now()
         WHERE id = $1",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes an endpoint that this transaction has locked, with its secrets. Its deliveries are canceled, and go with their age.
pub async fn delete(conn: &mut Conn, id: WebhookEndpointId) -> Result<(), Error> {
    sqlx::query!("DELETE FROM webhook_endpoint WHERE id = $1", id.uuid()).execute(conn).await?;
    Ok(())
}

/// Notes that an attempt at an endpoint has succeeded: what failed before does not count any more.
pub async fn mark_succeeding(conn: &mut Conn, id: WebhookEndpointId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint SET failures = 0, failing_since = NULL, paused_until = NULL
         WHERE id = $1 AND failures > 0",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that an attempt at an endpoint, which began at this time, has failed, and pauses it for as long as `pause` says for so
/// many failures. One that began before the endpoint was paused does not count again. Gives whether it has failed for `most_days`
/// without any success.
pub async fn mark_failing(
    conn: &mut Conn,
    id: WebhookEndpointId,
    began: DateTime<Utc>,
    pause: impl FnOnce(i32) -> Option<f64>,
    most_days: i32,
) -> Result<bool, Error> {
    let failures = sqlx::query_scalar!(
        "UPDATE webhook_endpoint
         SET failures = least(failures, 1000000) + CASE WHEN paused_until > $2 THEN 0 ELSE 1 END,
             failing_since = COALESCE(failing_since, clock_timestamp())
         WHERE id = $1 RETURNING CASE WHEN paused_until > $2 THEN NULL ELSE failures END",
        id.uuid(),
        began,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let Some(counted) = failures else { return Ok(false) };
    let row = sqlx::query!(
        r#"UPDATE webhook_endpoint SET paused_until = greatest(paused_until, clock_timestamp() + make_interval(secs => $2))
           WHERE id = $1 RETURNING failing_since <= clock_timestamp() - make_interval(days => $3) AS "is_over!""#,
        id.uuid(),
        counted.and_then(pause),
        most_days,
    )
    .fetch_one(conn)
    .await?;
    Ok(row.is_over)
}
