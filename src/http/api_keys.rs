//! `/v1/api-keys`. Only an admin gets here, and an admin may do everything: so nobody gives a key that may do more than his
//! own.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    orders::Page,
    problem::Problem,
    respond::{location_of, respond, respond_with_new},
};
use crate::{
    app::{CreateApiKey, NewApiKey, Once, RevokeApiKey, RotateApiKey},
    domain::{
        access::Scope,
        bounds::PageSize,
        ids::{ApiKeyId, ClientId},
    },
    store::api_keys::{self, ApiKey, ApiKeyFilter},
};

/// Makes a key, of a client of its own. The secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "create_api_key", path = "/v1/api-keys", tag = "API keys",
    security(("api_key" = ["admin"])), request_body = CreateApiKey,
    responses((status = 201, body = NewApiKey, headers(("Location", description = "The key."))))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    write: Write<CreateApiKey>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    Ok(answer_with_new(state.app.create_api_key(&write.body, Some(&request)).await?))
}

/// Keys, the newest first, without their secrets. With `scope` those that were given it: an `admin` may do everything, and is
/// listed under that alone.
#[utoipa::path(
    get, operation_id = "list_api_keys", path = "/v1/api-keys", tag = "API keys",
    security(("api_key" = ["admin"])),
    params(("client_id" = Option<ClientId>, Query), ("is_live" = Option<bool>, Query),
        ("scope" = Option<Scope>, Query), ("starting_after" = Option<ApiKeyId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<ApiKey>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = ApiKeyFilter {
        client_id: query.take("client_id")?,
        is_live: query.take("is_live")?,
        scope: query.take("scope")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = api_keys::list(&mut conn, &filter, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// A key, without its secret.
#[utoipa::path(
    get, operation_id = "read_api_key", path = "/v1/api-keys/{id}", tag = "API keys",
    security(("api_key" = ["admin"])), params(("id" = ApiKeyId, Path)),
    responses((status = 200, body = ApiKey)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ApiKeyId>,
) -> Result<impl IntoResponse, Problem> {
    let found = api_keys::find(&mut *state.app.store.conn().await?, id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("API key", id))
}

/// Makes a second live key of the same client, which may do the same. The secret is in the first answer only.
#[utoipa::path(
    post, operation_id = "rotate_api_key", path = "/v1/api-keys/{id}/rotate", tag = "API keys",
    security(("api_key" = ["admin"])), params(("id" = ApiKeyId, Path)), request_body = RotateApiKey,
    responses((status = 201, body = NewApiKey, headers(("Location", description = "The new key.")))),
    extensions(("x-problems" = json!(["not_found", "api_key_limit_reached", "invalid_state_transition"])))
)]
pub(super) async fn rotate(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ApiKeyId>,
    write: Write<RotateApiKey>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::CREATED)?;
    Ok(answer_with_new(state.app.rotate_api_key(id, &write.body, Some(&request)).await?))
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
    Ok(match state.app.revoke_api_key(id, Some(&request)).await? {
        Once::Now(key) => Json(key).into_response(),
        Once::Before(answer) => respond(answer),
    })
}

fn answer_with_new(once: Once<NewApiKey>) -> Response {
    let keys = "/v1/api-keys";
    match once {
        Once::Now(new) => {
            let place = location_of(&new.key.id.to_string(), keys);
            (StatusCode::CREATED, place, Json(new)).into_response()
        }
        Once::Before(answer) => respond_with_new(answer, keys),
    }
}
