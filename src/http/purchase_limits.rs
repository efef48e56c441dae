//! `/v1/purchase-limits`.

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};

use super::{
    ApiState,
    extract::{Query, SkuPath, Write},
    if_match::{EntityTags, IfMatch, etag},
    orders::Page,
    problem::Problem,
};
use crate::{
    app::SetPurchaseLimit,
    domain::{bounds::PageSize, inventory::Sku, purchase_limit::PurchaseLimit},
    store::purchase_limits,
};

/// Limits how many units of a SKU one customer may buy. From then on an order for it has to name its customer. What is absent
/// stays as it is. With `If-Match` only in the version that the entity tag names.
#[utoipa::path(
    put, operation_id = "set_purchase_limit", path = "/v1/purchase-limits/{sku}", tag = "purchase limits",
    security(("api_key" = ["inventory:write"])),
    params(("sku" = Sku, Path), ("If-Match" = Option<EntityTags>, Header)), request_body = SetPurchaseLimit,
    responses((status = 200, body = PurchaseLimit, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["version_conflict", "if_match_invalid"])))
)]
pub(super) async fn set(
    State(state): State<ApiState>,
    SkuPath(sku): SkuPath,
    IfMatch(expected): IfMatch,
    write: Write<SetPurchaseLimit>,
) -> Result<impl IntoResponse, Problem> {
    Ok(respond(state.app.set_purchase_limit(&sku, expected.as_ref(), &write.body).await?))
}

fn respond(limit: PurchaseLimit) -> impl IntoResponse {
    (etag(limit.version), Json(limit))
}

/// The purchase limit of a SKU.
#[utoipa::path(
    get, operation_id = "read_purchase_limit", path = "/v1/purchase-limits/{sku}", tag = "purchase limits",
    security(("api_key" = ["orders:read"])), params(("sku" = Sku, Path)),
    responses((status = 200, body = PurchaseLimit, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "validation_failed"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    SkuPath(sku): SkuPath,
) -> Result<impl IntoResponse, Problem> {
    let mut found = purchase_limits::find(&mut *state.app.store.conn().await?, &[sku.as_str()]).await?;
    let limit = found.remove(&sku);
    limit.map(respond).ok_or_else(|| Problem::not_found("purchase limit of SKU", sku))
}

/// Takes the purchase limit of a SKU away. With `If-Match` only in the version that the entity tag names.
#[utoipa::path(
    delete, operation_id = "delete_purchase_limit", path = "/v1/purchase-limits/{sku}",
    tag = "purchase limits", security(("api_key" = ["inventory:write"])),
    params(("sku" = Sku, Path), ("If-Match" = Option<EntityTags>, Header)), responses((status = 204)),
    extensions(("x-problems" = json!(["not_found", "validation_failed", "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    SkuPath(sku): SkuPath,
    IfMatch(expected): IfMatch,
    query: Query,
) -> Result<impl IntoResponse, Problem> {
    query.finish()?;
    state.app.delete_purchase_limit(&sku, expected.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Purchase limits, by SKU.
#[utoipa::path(
    get, operation_id = "list_purchase_limits", path = "/v1/purchase-limits", tag = "purchase limits",
    security(("api_key" = ["orders:read"])),
    params(("starting_after" = Option<Sku>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<PurchaseLimit>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let starting_after: Option<Sku> = query.take("starting_after")?;
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = purchase_limits::list(&mut conn, starting_after.as_ref(), limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}
