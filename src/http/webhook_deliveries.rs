//! `/v1/webhook-endpoints/{id}/deliveries` and `/v1/webhook-deliveries`: what became of events at endpoints.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    orders::Page,
    problem::Problem,
    respond::respond,
    walk::turn,
};
use crate::{
    app::RedeliverWebhook,
    domain::{
        bounds::PageSize,
        ids::{EventId, WebhookDeliveryId, WebhookEndpointId},
        webhook::{DeliveredType, DeliveryStatus, WebhookAttempt, WebhookDelivery},
    },
    store::{
        webhook_endpoints,
        webhook_log::{self, DeliveryFilter},
    },
};

/// Where deliveries are.
pub(super) const DELIVERIES: &str = "/v1/webhook-deliveries";

/// A delivery with its attempts, the latest first, a hundred at most.
#[derive(Serialize, ToSchema)]
struct WebhookDeliveryDetail {
    #[serde(flatten)]
    delivery: WebhookDelivery,
    attempts: Vec<WebhookAttempt>,
}

/// The deliveries of an endpoint, the newest first.
#[utoipa::path(
    get, operation_id = "list_webhook_deliveries", path = "/v1/webhook-endpoints/{id}/deliveries",
    tag = "webhooks", security(("api_key" = ["orders:read"])),
    params(("id" = WebhookEndpointId, Path), ("status" = Option<DeliveryStatus>, Query),
        ("type" = Option<DeliveredType>, Query), ("event_id" = Option<EventId>, Query),
        ("created_gte" = Option<DateTime<Utc>>, Query), ("created_lt" = Option<DateTime<Utc>>, Query),
        ("starting_after" = Option<WebhookDeliveryId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<WebhookDelivery>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    IdPath(endpoint_id): IdPath<WebhookEndpointId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = DeliveryFilter {
        status: query.take("status")?,
        event_type: query.take("type")?,
        event_id: query.take("event_id")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let _turn = if filter.event_type.is_some() { Some(turn(&state).await?) } else { None };
    let mut conn = state.app.store.conn().await?;
    if webhook_endpoints::find(&mut conn, endpoint_id).await?.is_none() {
        return Err(Problem::not_found("webhook endpoint", endpoint_id));
    }
    let found = webhook_log::list(&mut conn, endpoint_id, &filter, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// A delivery, with its attempts.
#[utoipa::path(
    get, operation_id = "read_webhook_delivery", path = "/v1/webhook-deliveries/{id}", tag = "webhooks",
    security(("api_key" = ["orders:read"])), params(("id" = WebhookDeliveryId, Path)),
    responses((status = 200, body = WebhookDeliveryDetail)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookDeliveryId>,
) -> Result<impl IntoResponse, Problem> {
    let mut conn = state.app.store.conn().await?;
    let found = webhook_log::find(&mut conn, id).await?;
    let delivery = found.ok_or_else(|| Problem::not_found("webhook delivery", id))?;
    let attempts = webhook_log::list_attempts(&mut conn, id).await?;
    Ok(Json(WebhookDeliveryDetail { delivery, attempts }))
}

/// Delivers again, under the same `webhook-id`: whatever became of it, or at once where it waits for its next attempt.
#[utoipa::path(
    post, operation_id = "redeliver_webhook", path = "/v1/webhook-deliveries/{id}/redeliver", tag = "webhooks",
    security(("api_key" = ["webhooks:write"])), params(("id" = WebhookDeliveryId, Path)),
    request_body = RedeliverWebhook, responses((status = 202, body = WebhookDelivery)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "events_no_longer_kept"])))
)]
pub(super) async fn redeliver(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookDeliveryId>,
    write: Write<RedeliverWebhook>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::ACCEPTED)?;
    Ok(respond(state.app.redeliver_webhook(&request, id).await?))
}
