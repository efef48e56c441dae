//! `/v1/webhook-endpoints`: where events are posted to.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    if_match::{EntityTags, IfMatch, etag},
    orders::Page,
    problem::Problem,
    respond::{location_of, respond, respond_with_new},
};
use crate::{
    app::{
        CreateWebhookEndpoint, DisableWebhookEndpoint, EnableWebhookEndpoint, EndpointWithSecret, Once,
        RotateWebhookSecret, SetWebhookEndpoint, TestWebhookEndpoint,
    },
    domain::{
        bounds::PageSize,
        ids::WebhookEndpointId,
        webhook::{EndpointStatus, WebhookDelivery, WebhookEndpoint},
    },
    store::webhook_endpoints,
};

const ENDPOINTS: &str = "/v1/webhook-endpoints";

/// Makes an endpoint: whatever happens from then on, of the types that it names, is posted to it as Standard Webhooks says. The
/// secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "create_webhook_endpoint", path = "/v1/webhook-endpoints", tag = "webhooks",
    security(("api_key" = ["webhooks:write"])), request_body = CreateWebhookEndpoint,
    responses((status = 201, body = EndpointWithSecret, headers(("Location", description = "The endpoint.")))),
    extensions(("x-problems" = json!(["webhook_url_refused", "webhook_endpoint_limit_reached"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    write: Write<CreateWebhookEndpoint>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    Ok(match state.app.create_webhook_endpoint(&write.body, &request).await? {
        Once::Now(new) => {
            let place = location_of(&new.endpoint.id.to_string(), ENDPOINTS);
            (StatusCode::CREATED, place, Json(new)).into_response()
        }
        Once::Before(answer) => respond_with_new(answer, ENDPOINTS),
    })
}

/// Endpoints, the newest first, without their secrets.
#[utoipa::path(
    get, operation_id = "list_webhook_endpoints", path = "/v1/webhook-endpoints", tag = "webhooks",
    security(("api_key" = ["orders:read"])),
    params(("status" = Option<EndpointStatus>, Query), ("starting_after" = Option<WebhookEndpointId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<WebhookEndpoint>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let (status, starting_after) = (query.take("status")?, query.take("starting_after")?);
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = webhook_endpoints::list(&mut conn, status, starting_after, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// An endpoint, without its secret.
#[utoipa::path(
    get, operation_id = "read_webhook_endpoint", path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    security(("api_key" = ["orders:read"])), params(("id" = WebhookEndpointId, Path)),
    responses((status = 200, body = WebhookEndpoint,
        headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
) -> Result<impl IntoResponse, Problem> {
    let found = webhook_endpoints::find(&mut *state.app.store.conn().await?, id).await?;
    found.map(tagged).ok_or_else(|| Problem::not_found("webhook endpoint", id))
}

fn tagged(endpoint: WebhookEndpoint) -> impl IntoResponse {
    (etag(endpoint.version), Json(endpoint))
}

/// Changes an endpoint. What is absent stays as it is. With `If-Match` only in the version that the entity tag names.
#[utoipa::path(
    put, operation_id = "set_webhook_endpoint", path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    security(("api_key" = ["webhooks:write"])),
    params(("id" = WebhookEndpointId, Path), ("If-Match" = Option<EntityTags>, Header)),
    request_body = SetWebhookEndpoint,
    responses((status = 200, body = WebhookEndpoint,
        headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "webhook_url_refused", "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    IfMatch(expected): IfMatch,
    write: Write<SetWebhookEndpoint>,
) -> Result<impl IntoResponse, Problem> {
    Ok(tagged(state.app.set_webhook_endpoint(id, expected.as_ref(), &write.body).await?))
}

/// Deletes an endpoint. What is pending for it is canceled; the log of its deliveries can be read by their ids until it is old.
#[utoipa::path(
    delete, operation_id = "delete_webhook_endpoint", path = "/v1/webhook-endpoints/{id}", tag = "webhooks",
    security(("api_key" = ["webhooks:write"])),
    params(("id" = WebhookEndpointId, Path), ("If-Match" = Option<EntityTags>, Header)),
    responses((status = 204)),
    extensions(("x-problems" = json!(["not_found", "validation_failed", "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    IfMatch(expected): IfMatch,
    query: Query,
) -> Result<impl IntoResponse, Problem> {
    query.finish()?;
    state.app.delete_webhook_endpoint(id, expected.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a new secret. For a time messages are signed with the old one too. The secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "rotate_webhook_secret", path = "/v1/webhook-endpoints/{id}/rotate-secret",
    tag = "webhooks", security(("api_key" = ["webhooks:write"])), params(("id" = WebhookEndpointId, Path)),
    request_body = RotateWebhookSecret, responses((status = 200, body = EndpointWithSecret)),
    extensions(("x-problems" = json!(["not_found", "webhook_secret_limit_reached"])))
)]
pub(super) async fn rotate_secret(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    write: Write<RotateWebhookSecret>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::OK)?;
    Ok(match state.app.rotate_webhook_secret(id, &write.body, &request).await? {
        Once::Now(new) => Json(new).into_response(),
        Once::Before(answer) => respond(answer),
    })
}

/// Enables an endpoint: it gets what happens from then on. What happened while it was disabled is in the feed.
#[utoipa::path(
    post, operation_id = "enable_webhook_endpoint", path = "/v1/webhook-endpoints/{id}/enable",
    tag = "webhooks", security(("api_key" = ["webhooks:write"])), params(("id" = WebhookEndpointId, Path)),
    request_body = EnableWebhookEndpoint, responses((status = 200, body = WebhookEndpoint)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn enable(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    write: Write<EnableWebhookEndpoint>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::OK)?;
    Ok(respond(state.app.enable_webhook_endpoint(&request, id).await?))
}

/// Disables an endpoint. What is pending for it is canceled.
#[utoipa::path(
    post, operation_id = "disable_webhook_endpoint", path = "/v1/webhook-endpoints/{id}/disable",
    tag = "webhooks", security(("api_key" = ["webhooks:write"])), params(("id" = WebhookEndpointId, Path)),
    request_body = DisableWebhookEndpoint, responses((status = 200, body = WebhookEndpoint)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn disable(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    write: Write<DisableWebhookEndpoint>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::OK)?;
    Ok(respond(state.app.disable_webhook_endpoint(&request, id).await?))
}

/// Has a message of the type `webhook.test.v1` delivered to an endpoint, whatever types it wants.
#[utoipa::path(
    post, operation_id = "test_webhook_endpoint", path = "/v1/webhook-endpoints/{id}/test", tag = "webhooks",
    security(("api_key" = ["webhooks:write"])), params(("id" = WebhookEndpointId, Path)),
    request_body = TestWebhookEndpoint,
    responses((status = 201, body = WebhookDelivery, headers(("Location", description = "The delivery.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn test(
    State(state): State<ApiState>,
    IdPath(id): IdPath<WebhookEndpointId>,
    write: Write<TestWebhookEndpoint>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    let answer = state.app.test_webhook_endpoint(&request, id).await?;
    Ok(respond_with_new(answer, super::webhook_deliveries::DELIVERIES))
}
