//! `/v1/inventory/imports`.

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
    respond::{respond, respond_with_new},
    stock_file::WriteFile,
};
use crate::{
    app::{CancelStockImport, CreateStockImport},
    domain::{
        bounds::{PageSize, RowNumber, Text},
        ids::ImportId,
        inventory::LocationId,
        stock_import::{ImportMode, ImportRow, ImportStatus, RowStatus, StockImport},
    },
    store::stock_imports,
};

/// Imports a stock file. It is done by a worker, row by row: a wrong row fails alone, and says why.
///
/// CSV begins with a line that names its columns; NDJSON is an object a line. Fields: `sku`, `location_id`; of mode `set`
/// `on_hand`, `compare_quantity`, `safety_stock`, `backorder_limit`, `low_stock_threshold`; of mode `delta` `delta`. What
/// is empty or absent stays as it is. At most 16 MiB and 200,000 rows.
#[utoipa::path(
    post, operation_id = "create_stock_import", path = "/v1/inventory/imports", tag = "inventory",
    security(("api_key" = ["inventory:write"])),
    params(("mode" = ImportMode, Query), ("dry_run" = Option<bool>, Query),
        ("location_id" = Option<LocationId>, Query), ("reference" = Option<Text>, Query)),
    request_body(content((String = "text/csv", example = "sku,on_hand\nTEE-BLACK-M,48\n"),
        (String = "application/x-ndjson", example = "{\"sku\":\"TEE-BLACK-M\",\"on_hand\":48}\n"))),
    responses((status = 202, body = StockImport, headers(("Location", description = "The import.")))),
    extensions(("x-problems" = json!(["stock_file_invalid"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    mut query: Query,
    WriteFile(write): WriteFile,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::ACCEPTED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    let create = CreateStockImport {
        file: write.body.bytes,
        format: write.body.format,
        mode: query.take_required("mode", "set or delta")?,
        dry_run: query.take("dry_run")?.unwrap_or(false),
        location_id: query.take("location_id")?,
        reference: query.take("reference")?,
    };
    query.finish()?;
    let answer = state.app.create_stock_import(&request, create, &actor, &cause).await?;
    Ok(respond_with_new(answer, "/v1/inventory/imports"))
}

/// Imports, the newest first.
#[utoipa::path(
    get, operation_id = "list_stock_imports", path = "/v1/inventory/imports", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("status" = Option<ImportStatus>, Query),
        ("limit" = Option<PageSize>, Query),
        ("starting_after" = Option<ImportId>, Query)),
    responses((status = 200, body = Page<StockImport>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let (status, starting_after) = (query.take("status")?, query.take("starting_after")?);
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    let found = stock_imports::list(&mut conn, status, starting_after, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// An import: how far it has come.
#[utoipa::path(
    get, operation_id = "read_stock_import", path = "/v1/inventory/imports/{id}", tag = "inventory",
    security(("api_key" = ["orders:read"])), params(("id" = ImportId, Path)),
    responses((status = 200, body = StockImport)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ImportId>,
) -> Result<impl IntoResponse, Problem> {
    let found = stock_imports::find(&mut *state.app.store.conn().await?, id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("import", id))
}

/// The rows of an import, in the order of its file, with what became of each. `starting_after` is the number of a row.
#[utoipa::path(
    get, operation_id = "list_stock_import_rows", path = "/v1/inventory/imports/{id}/rows",
    tag = "inventory", security(("api_key" = ["orders:read"])),
    params(("id" = ImportId, Path), ("status" = Option<RowStatus>, Query),
        ("limit" = Option<PageSize>, Query), ("starting_after" = Option<RowNumber>, Query)),
    responses((status = 200, body = Page<ImportRow>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_rows(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ImportId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let status = query.take("status")?;
    let after = query.take_number("starting_after", &RowNumber::RANGE)?.unwrap_or(0);
    let after = i32::try_from(after).unwrap_or(i32::MAX);
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    if stock_imports::find(&mut conn, id).await?.is_none() {
        return Err(Problem::not_found("import", id));
    }
    let found = stock_imports::list_rows(&mut conn, id, status, after, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// Stops an import. Rows that are done stay done, the others stay as they are.
#[utoipa::path(
    post, operation_id = "cancel_stock_import", path = "/v1/inventory/imports/{id}/cancel",
    tag = "inventory", security(("api_key" = ["inventory:write"])), params(("id" = ImportId, Path)),
    request_body = CancelStockImport, responses((status = 200, body = StockImport)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ImportId>,
    write: Write<CancelStockImport>,
) -> Result<Response, Problem> {
    let request = write.idempotent(StatusCode::OK)?;
    Ok(respond(state.app.cancel_stock_import(&request, id).await?))
}
