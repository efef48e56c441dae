//! `/v1/inventory`.

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
    extract::{LevelPath, Query, Write},
    orders::respond,
    problem::Problem,
};
use crate::{
    app::{AdjustInventory, AdjustedInventory, SetInventory},
    domain::inventory::{InventoryLevel, LevelKey, LocationId, Sku},
    store::inventory,
};

/// A level with what follows from its counters.
#[derive(Debug, Serialize, ToSchema)]
struct LevelView {
    #[serde(flatten)]
    level: InventoryLevel,
    available: i64,
}

impl From<InventoryLevel> for LevelView {
    fn from(level: InventoryLevel) -> Self {
        Self { available: level.available(), level }
    }
}

/// A page of levels. `next` is the `starting_after` of the next page.
#[derive(Debug, Serialize, ToSchema)]
struct LevelPage {
    data: Vec<LevelView>,
    has_more: bool,
    next: Option<String>,
}

/// Levels, by SKU and location.
#[utoipa::path(
    get, operation_id = "list_levels", path = "/v1/inventory", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("sku" = Option<Sku>, Query), ("starting_after" = Option<String>, Query), ("limit" = Option<i64>,
        Query, minimum = 1, maximum = 100)),
    responses((status = 200, body = LevelPage)), extensions(("x-problems" = json!(["validation_failed"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let sku: Option<Sku> = query.take("sku")?;
    let starting_after: Option<Cursor> = query.take("starting_after")?;
    let limit = query.take_limit()?;
    query.finish()?;
    let after = starting_after.map(|cursor| cursor.0);
    let mut conn = state.app.store.conn().await?;
    // One more to know whether there is a next page, and one that may be the last of the page before.
    let sku = sku.as_ref().map(Sku::as_str);
    let mut levels = inventory::list_levels(&mut conn, sku, after.as_ref(), limit + 2).await?;
    levels.retain(|level| Some(&level.key) != after.as_ref());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = levels.len() > limit;
    levels.truncate(limit);
    let next = levels.last().filter(|_| has_more).map(|level| Cursor(level.key.clone()).to_string());
    Ok(Json(LevelPage { data: levels.into_iter().map(LevelView::from).collect(), has_more, next }))
}

/// The level of a SKU at a location.
#[utoipa::path(
    get, operation_id = "read_level", path = "/v1/inventory/{sku}/{location}", tag = "inventory",
    security(("api_key" = ["orders:read"])), params(("sku" = Sku, Path), ("location" = LocationId, Path)),
    responses((status = 200, body = LevelView)),
    extensions(("x-problems" = json!(["not_found", "validation_failed"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    LevelPath(key): LevelPath,
) -> Result<impl IntoResponse, Problem> {
    let found = inventory::find_level(&mut *state.app.store.conn().await?, &key).await?;
    found.map(|level| Json(LevelView::from(level))).ok_or_else(|| {
        let detail = format!("there is no SKU {} at location {}", key.sku, key.location_id);
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })
}

/// Sets a level, which is made if there is none.
#[utoipa::path(
    put, operation_id = "set_level", path = "/v1/inventory/{sku}/{location}", tag = "inventory",
    security(("api_key" = ["inventory:write"])),
    params(("sku" = Sku, Path), ("location" = LocationId, Path)), request_body = SetInventory,
    responses((status = 200, body = LevelView)),
    extensions(("x-problems" = json!(["stock_conflict", "below_committed"])))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    LevelPath(key): LevelPath,
    write: Write<SetInventory>,
) -> Result<impl IntoResponse, Problem> {
    let actor = write.caller.api_key_id.to_string();
    let level = state.app.set_inventory(&key, &write.body, &actor, &write.cause()).await?;
    Ok(Json(LevelView::from(level)))
}

/// Adds to and takes from several levels at once: all of it or nothing.
#[utoipa::path(
    post, operation_id = "adjust_inventory", path = "/v1/inventory/adjustments", tag = "inventory",
    security(("api_key" = ["inventory:write"])), request_body = AdjustInventory,
    responses((status = 201, body = AdjustedInventory)),
    extensions(("x-problems" = json!(["unknown_sku", "below_committed"])))
)]
pub(super) async fn adjust(
    State(state): State<ApiState>,
    write: Write<AdjustInventory>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.adjust_inventory(&request, &write.body, &actor, &cause).await?))
}

/// The place after a level, in a form that survives a query string: `sku location`, where neither can hold a space.
#[derive(Debug)]
struct Cursor(LevelKey);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.sku, self.0.location_id)
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be the `next` of the page before";
        let (sku, location_id) = text.split_once(' ').ok_or(wrong)?;
        let sku = sku.parse().map_err(|_| wrong)?;
        Ok(Self(LevelKey { sku, location_id: location_id.parse().map_err(|_| wrong)? }))
    }
}
