//! `/v1/inventory/imports`.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    orders::{Page, respond},
    problem::Problem,
    stock_file::WriteFile,
};
use crate::{
    app::{Answer, CancelStockImport, CreateStockImport},
    domain::{
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
        ("location_id" = Option<LocationId>, Query), ("reference" = Option<String>, Query)),
    request_body(content((String = "text/csv", example = "sku,on_hand\nTEE-BLACK-M,48\n"),
        (String = "application/x-ndjson", example = "{\"sku\":\"TEE-BLACK-M\",\"on_hand\":48}\n"))),
    responses((status = 202, body = StockImport)), extensions(("x-problems" = json!(["body_too_large"])))
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
    Ok(respond_located(state.app.create_stock_import(&request, create, &actor, &cause).await?))
}

/// The answer with the place of the import that it tells of, also when it is a stored one.
fn respond_located(answer: Answer) -> Response {
    #[derive(Deserialize)]
    struct Created {
        id: ImportId,
    }
    let created = serde_json::from_str::<Created>(&answer.body).ok();
    let path = created.map(|created| format!("/v1/inventory/imports/{}", created.id));
    let mut response = respond(answer);
    if let Some(location) = path.and_then(|path| HeaderValue::from_str(&path).ok()) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// Imports, the newest first.
#[utoipa::path(
    get, operation_id = "list_stock_imports", path = "/v1/inventory/imports", tag = "inventory",
    security(("api_key" = ["orders:read"])),
    params(("status" = Option<ImportStatus>, Query),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100),
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
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 100), ("starting_after" = Option<i32>, Query)),
    responses((status = 200, body = Page<ImportRow>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_rows(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ImportId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let status = query.take("status")?;
    let after = query.take::<RowNumber>("starting_after")?.map_or(0, |row| row.0);
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

/// The number of a row, from 1.
struct RowNumber(i32);

impl std::str::FromStr for RowNumber {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| *number >= 0);
        number.map(Self).ok_or("must be the number of a row")
    }
}
