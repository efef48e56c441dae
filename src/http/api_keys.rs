//! `/v1/api-keys`. Only an admin gets here, and an admin may do everything: so nobody gives a key that may do more than his
//! own.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    orders::{Page, respond},
    problem::Problem,
};
use crate::{
    app::{CreateApiKey, NewApiKey, Once, RevokeApiKey, RotateApiKey},
    domain::ids::ApiKeyId,
    store::api_keys::{self, ApiKey},
};

/// Makes a key, of a client of its own. The secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "create_api_key", path = "/v1/api-keys", tag = "API keys",
    security(("api_key" = ["admin"])), request_body = CreateApiKey,
    responses((status = 201, body = NewApiKey))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    write: Write<CreateApiKey>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    Ok(answer(StatusCode::CREATED, state.app.create_api_key(&write.body, Some(&request)).await?))
}

/// Keys, the newest first, without their secrets.
#[utoipa::path(
    get, operation_id = "list_api_keys", path = "/v1/api-keys", tag = "API keys",
    security(("api_key" = ["admin"])),
    params(("starting_after" = Option<ApiKeyId>, Query),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100)),
    responses((status = 200, body = Page<ApiKey>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let starting_after = query.take("starting_after")?;
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = api_keys::list(&mut conn, starting_after, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// Makes a second live key of the same client, which may do the same. The secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "rotate_api_key", path = "/v1/api-keys/{id}/rotate", tag = "API keys",
    security(("api_key" = ["admin"])), params(("id" = ApiKeyId, Path)), request_body = RotateApiKey,
    responses((status = 201, body = NewApiKey)),
    extensions(("x-problems" = json!(["not_found", "api_key_limit_reached", "invalid_state_transition"])))
)]
pub(super) async fn rotate(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ApiKeyId>,
    write: Write<RotateApiKey>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    Ok(answer(StatusCode::CREATED, state.app.rotate_api_key(id, &write.body, Some(&request)).await?))
}

/// Revokes a key: it stops working within seconds.
#[utoipa::path(
    post, operation_id = "revoke_api_key", path = "/v1/api-keys/{id}/revoke", tag = "API keys",
    security(("api_key" = ["admin"])), params(("id" = ApiKeyId, Path)), request_body = RevokeApiKey,
    responses((status = 200, body = ApiKey)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn revoke(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ApiKeyId>,
    write: Write<RevokeApiKey>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::OK)?;
    Ok(answer(StatusCode::OK, state.app.revoke_api_key(id, Some(&request)).await?))
}

fn answer(status: StatusCode, once: Once<impl Serialize>) -> Response {
    match once {
        Once::Now(done) => (status, Json(done)).into_response(),
        Once::Before(answer) => respond(answer),
    }
}
