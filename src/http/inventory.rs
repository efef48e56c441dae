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
    if_match::{EntityTags, IfMatch, etag},
    orders::Page,
    problem::Problem,
    respond::respond,
    walk::{require_bounds, turn},
};
use crate::{
    app::{AdjustInventory, ChangedInventory, SetInventory, TransferInventory},
    domain::{
        bounds::{PageSize, Text},
        inventory::{InventoryLevel, LevelKey, LocationId, Sku},
        movement::{MovementId, MovementType, StockMovement},
    },
    store::{
        inventory::{self, LevelFilter},
        movements::{self, MovementFilter},
    },
};

/// A level with what follows from its counters.
#[derive(Debug, Serialize, ToSchema)]
struct LevelView {
    #[serde(flatten)]
    level: InventoryLevel,
    available: i64,
}

impl LevelView {
    /// The answer that shows a level, with its version as entity tag.
    fn respond(level: InventoryLevel) -> impl IntoResponse {
        (etag(level.version), Json(Self::from(level)))
    }
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

/// Levels, by SKU and location. With `is_low_stock` only those of which nothing is left, or no more than their
/// `low_stock_threshold`; or only the others.
#[utoipa::path(
    get, operation_id = "list_levels", path = "/v1/inventory", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("sku" = Option<Sku>, Query), ("location_id" = Option<LocationId>, Query),
        ("is_low_stock" = Option<bool>, Query), ("starting_after" = Option<LevelCursor>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = LevelPage))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = LevelFilter {
        sku: query.take("sku")?,
        location_id: query.take("location_id")?,
        is_low_stock: query.take("is_low_stock")?,
        starting_after: query.take("starting_after")?.map(|LevelCursor(key)| key),
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let walks = filter.sku.is_none() && (filter.location_id.is_some() || filter.is_low_stock.is_some());
    let _turn = if walks { Some(turn(&state).await?) } else { None };
    let mut conn = state.app.store.conn().await?;
    let Page { data, has_more } =
        Page::new(inventory::list_levels(&mut conn, &filter, limit + 1).await?, limit);
    let next = data.last().filter(|_| has_more).map(|level| LevelCursor(level.key.clone()).to_string());
    Ok(Json(LevelPage { data: data.into_iter().map(LevelView::from).collect(), has_more, next }))
}

/// The level of a SKU at a location.
#[utoipa::path(
    get, operation_id = "read_level", path = "/v1/inventory/{sku}/{location}", tag = "inventory",
    security(("api_key" = ["orders:read"])), params(("sku" = Sku, Path), ("location" = LocationId, Path)),
    responses((status = 200, body = LevelView, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "validation_failed"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    LevelPath(key): LevelPath,
) -> Result<impl IntoResponse, Problem> {
    let found = inventory::find_level(&mut *state.app.store.conn().await?, &key).await?;
    let missing = || Problem::not_found("SKU", format_args!("{} at location {}", key.sku, key.location_id));
    found.map(LevelView::respond).ok_or_else(missing)
}

/// Sets a level, which is made if there is none. With `If-Match` only in the version that the entity tag names.
#[utoipa::path(
    put, operation_id = "set_level", path = "/v1/inventory/{sku}/{location}", tag = "inventory",
    security(("api_key" = ["inventory:write"])),
    params(("sku" = Sku, Path), ("location" = LocationId, Path), ("If-Match" = Option<EntityTags>, Header)),
    request_body = SetInventory,
    responses((status = 200, body = LevelView, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["stock_conflict", "below_committed", "version_conflict",
        "if_match_invalid"])))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    LevelPath(key): LevelPath,
    IfMatch(expected): IfMatch,
    write: Write<SetInventory>,
) -> Result<impl IntoResponse, Problem> {
    let actor = write.caller.api_key_id.to_string();
    let level = state.app.set_inventory(&key, expected.as_ref(), &write.body, &actor, &write.cause()).await?;
    Ok(LevelView::respond(level))
}

/// Adds to and takes from several levels at once: all of it or nothing.
#[utoipa::path(
    post, operation_id = "adjust_inventory", path = "/v1/inventory/adjustments", tag = "inventory",
    security(("api_key" = ["inventory:write"])), request_body = AdjustInventory,
    responses((status = 201, body = ChangedInventory)),
    extensions(("x-problems" = json!(["unknown_sku", "on_hand_too_large", "below_committed"])))
)]
pub(super) async fn adjust(
    State(state): State<ApiState>,
    write: Write<AdjustInventory>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.adjust_inventory(&request, &write.body, &actor, &cause).await?))
}

/// Moves units from one location to another, several at once: all of it or nothing.
#[utoipa::path(
    post, operation_id = "transfer_inventory", path = "/v1/inventory/transfers", tag = "inventory",
    security(("api_key" = ["inventory:write"])), request_body = TransferInventory,
    responses((status = 201, body = ChangedInventory)),
    extensions(("x-problems" = json!(["inconsistent_fields", "unknown_sku", "unknown_location",
        "on_hand_too_large", "below_committed"])))
)]
pub(super) async fn transfer(
    State(state): State<ApiState>,
    write: Write<TransferInventory>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.transfer_inventory(&request, &write.body, &actor, &cause).await?))
}

/// The ledger: every change of what is on hand, the newest first. A list by two of `location_id`, `type` and `actor` needs
/// something else too: a SKU, a reference, or a time, `created_gte` and `created_lt` at most 31 days later.
#[utoipa::path(
    get, operation_id = "list_stock_movements", path = "/v1/inventory/movements", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("sku" = Option<Sku>, Query), ("location_id" = Option<LocationId>, Query),
        ("type" = Option<MovementType>, Query), ("reference" = Option<Text>, Query),
        ("actor" = Option<Text>, Query), ("created_gte" = Option<DateTime<Utc>>, Query),
        ("created_lt" = Option<DateTime<Utc>>, Query),
        ("limit" = Option<PageSize>, Query),
        ("starting_after" = Option<MovementId>, Query)),
    responses((status = 200, body = Page<StockMovement>)), extensions(("x-problems" = json!(["inconsistent_fields"])))
)]
pub(super) async fn list_movements(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = MovementFilter {
        sku: query.take("sku")?,
        location_id: query.take("location_id")?,
        movement_type: query.take("type")?,
        reference: query.take_text("reference")?,
        actor: query.take_text("actor")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    bound_walk(&filter)?;
    let mut conn = state.app.store.conn().await?;
    Ok(Json(Page::new(movements::list(&mut conn, &filter, limit + 1).await?, limit)))
}

/// Each of these filters finds its movements by itself. Nothing finds those that two of them name but looking through those
/// of one of them, which may be the whole ledger.
fn bound_walk(filter: &MovementFilter) -> Result<(), Problem> {
    let wide = [filter.location_id.is_some(), filter.movement_type.is_some(), filter.actor.is_some()];
    let is_walk = wide.into_iter().filter(|given| *given).count() > 1;
    if !is_walk || filter.sku.is_some() || filter.reference.is_some() {
        return Ok(());
    }
    let list = "a list by two of location_id, type and actor without sku or reference";
    require_bounds(list, filter.created_gte, filter.created_lt)
}

/// The place after a level, in a form that survives a query string: `sku location`, where neither can hold a space.
#[derive(Debug, ToSchema)]
#[schema(value_type = String, pattern = "^[!-~]{1,64} [!-~]{1,64}$", example = "TEE-BLACK-M main")]
pub(super) struct LevelCursor(LevelKey);

impl std::fmt::Display for LevelCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.sku, self.0.location_id)
    }
}

impl std::str::FromStr for LevelCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be the `next` of the page before";
        let (sku, location_id) = text.split_once(' ').ok_or(wrong)?;
        let sku = sku.parse().map_err(|_| wrong)?;
        Ok(Self(LevelKey { sku, location_id: location_id.parse().map_err(|_| wrong)? }))
    }
}
