//! `/v1/locations`.

use axum::{Json, extract::State, response::IntoResponse};

use super::{
    ApiState,
    extract::{LocationPath, Query, Write},
    if_match::{EntityTags, IfMatch, etag},
    orders::Page,
    problem::Problem,
};
use crate::{
    app::SetLocation,
    domain::{
        bounds::PageSize,
        inventory::{Location, LocationId},
    },
    store::locations,
};

/// Sets a location, which is made if there is none. What is absent stays as it is. With `If-Match` only in the version that
/// the entity tag names.
#[utoipa::path(
    put, operation_id = "set_location", path = "/v1/locations/{id}", tag = "inventory",
    security(("api_key" = ["inventory:write"])),
    params(("id" = LocationId, Path), ("If-Match" = Option<EntityTags>, Header)), request_body = SetLocation,
    responses((status = 200, body = Location, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["version_conflict", "if_match_invalid"])))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    LocationPath(id): LocationPath,
    IfMatch(expected): IfMatch,
    write: Write<SetLocation>,
) -> Result<impl IntoResponse, Problem> {
    Ok(respond(state.app.set_location(&id, expected.as_ref(), &write.body).await?))
}

fn respond(location: Location) -> impl IntoResponse {
    (etag(location.version), Json(location))
}

/// A location.
#[utoipa::path(
    get, operation_id = "read_location", path = "/v1/locations/{id}", tag = "inventory",
    security(("api_key" = ["orders:read"])), params(("id" = LocationId, Path)),
    responses((status = 200, body = Location, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "validation_failed"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    LocationPath(id): LocationPath,
) -> Result<impl IntoResponse, Problem> {
    let found = locations::find(&mut *state.app.store.conn().await?, &id).await?;
    found.map(respond).ok_or_else(|| Problem::not_found("location", id))
}

/// Locations, by id.
#[utoipa::path(
    get, operation_id = "list_locations", path = "/v1/locations", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("is_active" = Option<bool>, Query), ("starting_after" = Option<LocationId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Location>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let is_active = query.take("is_active")?;
    let starting_after: Option<LocationId> = query.take("starting_after")?;
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = locations::list(&mut conn, is_active, starting_after.as_ref(), limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}
