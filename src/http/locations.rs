//! `/v1/locations`.

use axum::{Json, extract::State, response::IntoResponse};

use super::{
    ApiState,
    extract::{LocationPath, Query, Write},
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

/// Sets a location, which is made if there is none.
#[utoipa::path(
    put, operation_id = "set_location", path = "/v1/locations/{id}", tag = "inventory",
    security(("api_key" = ["inventory:write"])), params(("id" = LocationId, Path)),
    request_body = SetLocation, responses((status = 200, body = Location))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    LocationPath(id): LocationPath,
    write: Write<SetLocation>,
) -> Result<impl IntoResponse, Problem> {
    Ok(Json(state.app.set_location(&id, &write.body).await?))
}

/// A location.
#[utoipa::path(
    get, operation_id = "read_location", path = "/v1/locations/{id}", tag = "inventory",
    security(("api_key" = ["orders:read"])), params(("id" = LocationId, Path)),
    responses((status = 200, body = Location)),
    extensions(("x-problems" = json!(["not_found", "validation_failed"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    LocationPath(id): LocationPath,
) -> Result<impl IntoResponse, Problem> {
    let found = locations::find(&mut *state.app.store.conn().await?, &id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("location", id))
}

/// Locations, by id.
#[utoipa::path(
    get, operation_id = "list_locations", path = "/v1/locations", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("starting_after" = Option<LocationId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Location>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let starting_after: Option<LocationId> = query.take("starting_after")?;
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = locations::list(&mut conn, starting_after.as_ref(), limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}
