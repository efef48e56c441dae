//! Deliveries of webhooks as they are told of: lists, one with its attempts.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Conn, Error, error::parse, newest_first};
use crate::domain::{
    ids::{EventId, WebhookDeliveryId, WebhookEndpointId},
    webhook::{DeliveredType, DeliveryStatus, WebhookAttempt, WebhookDelivery},
};

/// So many attempts of a delivery are told of, the latest.
const ATTEMPTS: i64 = 100;

/// A delivery as the queries of this file give it.
struct Row {
    id: Uuid,
    endpoint_id: Uuid,
    event_id: Uuid,
    event_type: String,
    subject: String,
    sequence: i64,
    status: String,
    attempts: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    last_attempt_at: Option<DateTime<Utc>>,
    last_status_code: Option<i32>,
    last_error_code: Option<String>,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for WebhookDelivery {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let error = row.last_error_code.as_deref();
        Ok(Self {
            id: row.id.into(),
            endpoint_id: row.endpoint_id.into(),
            event_id: row.event_id.into(),
            event_type: parse(&row.event_type, "webhook_delivery.event_type")?,
            subject: row.subject,
            sequence: row.sequence,
            status: parse(&row.status, "webhook_delivery.status")?,
            attempt_count: row.attempts,
            next_attempt_at: row.next_attempt_at,
            last_attempt_at: row.last_attempt_at,
            last_status_code: row.last_status_code,
            last_error_code: error.map(|code| parse(code, "webhook_delivery.last_error_code")).transpose()?,
            created_at: row.created_at,
            completed_at: row.completed_at,
        })
    }
}

macro_rules! select_deliveries {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            "SELECT id, endpoint_id, event_id, event_type, subject, sequence, status, attempts, next_attempt_at,
                    last_attempt_at, last_status_code, last_error_code, created_at, completed_at
             FROM webhook_delivery " + $rest
            $(, $argument)*
        )
    };
}

/// Which deliveries of an endpoint to list.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only those in this status.
    pub status: Option<DeliveryStatus>,
    /// Only those of this type. Walks through those that the other filters leave: a caller bounds them.
    pub event_type: Option<DeliveredType>,
    /// Only that of this event.
    pub event_id: Option<EventId>,
    /// Only those made at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only those made before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only those made before this one.
    pub starting_after: Option<WebhookDeliveryId>,
}

/// The deliveries of an endpoint, the newest first. Made and planned for its filters: see `orders::list`.
pub async fn list(
    conn: &mut Conn,
    endpoint_id: WebhookEndpointId,
    filter: &DeliveryFilter,
    limit: i64,
) -> Result<Vec<WebhookDelivery>, Error> {
    let mut query = QueryBuilder::<Postgres>::new("SELECT id FROM webhook_delivery WHERE endpoint_id = ");
    query.push_bind(endpoint_id.uuid());
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
        if status != DeliveryStatus::Delivered {
            // What the index of these is for; a plan knows no value of a parameter.
            query.push(" AND status <> 'delivered'");
        }
    }
    if let Some(event_type) = filter.event_type {
        query.push(" AND event_type = ").push_bind(event_type.as_str());
    }
    if let Some(event_id) = filter.event_id {
        query.push(" AND event_id = ").push_bind(event_id.uuid());
    }
    newest_first::push_created(&mut query, filter.created_gte, filter.created_lt);
    newest_first::push_page(&mut query, filter.starting_after.map(WebhookDeliveryId::uuid), limit);
    let ids: Vec<Uuid> = query.build_query_scalar().persistent(false).fetch_all(&mut *conn).await?;
    let query = select_deliveries!("WHERE id = ANY($1) ORDER BY id DESC", &ids);
    query.fetch_all(conn).await?.into_iter().map(WebhookDelivery::try_from).collect()
}

/// A delivery.
pub async fn find(conn: &mut Conn, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, Error> {
    let row = select_deliveries!("WHERE id = $1", id.uuid()).fetch_optional(conn).await?;
    row.map(WebhookDelivery::try_from).transpose()
}

/// Takes the row lock of a delivery, after that of its endpoint.
pub async fn lock(conn: &mut Conn, id: WebhookDeliveryId) -> Result<Option<WebhookDelivery>, Error> {
    let row = select_deliveries!("WHERE id = $1 FOR UPDATE", id.uuid()).fetch_optional(conn).await?;
    row.map(WebhookDelivery::try_from).transpose()
}

/// The attempts of a delivery, the latest first, a hundred at most.
pub async fn list_attempts(conn: &mut Conn, id: WebhookDeliveryId) -> Result<Vec<WebhookAttempt>, Error> {
    let rows = sqlx::query!(
        "SELECT number, started_at, duration_ms, status_code, error_code, error_detail, response
         FROM webhook_attempt WHERE delivery_id = $1 ORDER BY number DESC LIMIT $2",
        id.uuid(),
        ATTEMPTS,
    )
    .fetch_all(conn)
    .await?;
    let attempts = rows.into_iter().map(|row| {
        let error = row.error_code.as_deref();
        Ok(WebhookAttempt {
            number: row.number,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            status_code: row.status_code,
            error_code: error.map(|code| parse(code, "webhook_attempt.error_code")).transpose()?,
            error_detail: row.error_detail,
            response: row.response,
        })
    });
    attempts.collect()
}
