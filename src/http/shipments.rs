//! `/v1/orders/{id}/shipments` and `/v1/shipments`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Query, Write},
    if_match::{EntityTags, IfMatch},
    orders::{self, Page},
    problem::Problem,
    respond::{respond, respond_with_new},
};
use crate::{
    app::{CancelShipment, CreateShipment, DeliverShipment, PackShipment, ReturnShipment, ShipShipment},
    domain::{
        bounds::PageSize,
        ids::{OrderId, ShipmentId},
        inventory::LocationId,
        shipment::{Shipment, ShipmentStatus},
    },
    store::{
        Conn,
        shipments::{self, ShipmentFilter},
    },
};

/// Creates a shipment of stock that is paid, lies at one location and is in no other shipment.
#[utoipa::path(
    post, operation_id = "create_shipment", path = "/v1/orders/{id}/shipments", tag = "shipments",
    security(("api_key" = ["orders:write"])),
    params(("id" = OrderId, Path), ("If-Match" = Option<EntityTags>, Header)), request_body = CreateShipment,
    responses((status = 201, body = Shipment, headers(("Location", description = "The shipment.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "order_not_paid",
        "nothing_to_ship", "inconsistent_fields", "line_quantity_unavailable", "location_needed",
        "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    IfMatch(expected): IfMatch,
    write: Write<CreateShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let answer =
        state.app.create_shipment(&request, order_id, expected.as_ref(), &write.body, &cause).await?;
    Ok(respond_with_new(answer, "/v1/shipments"))
}

/// Shipments, the newest first.
#[utoipa::path(
    get, operation_id = "list_shipments", path = "/v1/shipments", tag = "shipments",
    security(("api_key" = ["orders:read"])),
    params(("order_id" = Option<OrderId>, Query), ("status" = Option<ShipmentStatus>, Query),
        ("location_id" = Option<LocationId>, Query), ("created_gte" = Option<DateTime<Utc>>, Query),
        ("created_lt" = Option<DateTime<Utc>>, Query), ("starting_after" = Option<ShipmentId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Shipment>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = ShipmentFilter {
        order_id: query.take("order_id")?,
        status: query.take("status")?,
        location_id: query.take("location_id")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    page(&mut *state.app.store.conn().await?, &filter, limit).await
}

/// The shipments of an order, the newest first.
#[utoipa::path(
    get, operation_id = "list_shipments_of_order", path = "/v1/orders/{id}/shipments", tag = "shipments",
    security(("api_key" = ["orders:read"])),
    params(("id" = OrderId, Path), ("status" = Option<ShipmentStatus>, Query),
        ("starting_after" = Option<ShipmentId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Shipment>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_of_order(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = ShipmentFilter {
        order_id: Some(order_id),
        status: query.take("status")?,
        starting_after: query.take("starting_after")?,
        ..ShipmentFilter::default()
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    orders::require(&mut conn, order_id).await?;
    page(&mut conn, &filter, limit).await
}

async fn page(conn: &mut Conn, filter: &ShipmentFilter, limit: i64) -> Result<Json<Page<Shipment>>, Problem> {
    Ok(Json(Page::new(shipments::list(conn, filter, limit + 1).await?, limit)))
}

/// A shipment.
#[utoipa::path(
    get, operation_id = "read_shipment", path = "/v1/shipments/{id}", tag = "shipments",
    security(("api_key" = ["orders:read"])), params(("id" = ShipmentId, Path)),
    responses((status = 200, body = Shipment)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
) -> Result<impl IntoResponse, Problem> {
    let found = shipments::find(&mut *state.app.store.conn().await?, id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("shipment", id))
}

/// Marks a pending shipment as packed. Its units cannot be canceled one by one any more.
#[utoipa::path(
    post, operation_id = "pack_shipment", path = "/v1/shipments/{id}/pack", tag = "shipments",
    security(("api_key" = ["orders:write"])), params(("id" = ShipmentId, Path)), request_body = PackShipment,
    responses((status = 200, body = Shipment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "order_not_paid"])))
)]
pub(super) async fn pack(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
    write: Write<PackShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    Ok(respond(state.app.pack_shipment(&request, id, &write.body, &cause).await?))
}

/// Marks a packed shipment as shipped: its stock leaves `on_hand`, and the order is fulfilled, whole or in part.
#[utoipa::path(
    post, operation_id = "ship_shipment", path = "/v1/shipments/{id}/ship", tag = "shipments",
    security(("api_key" = ["orders:write"])), params(("id" = ShipmentId, Path)), request_body = ShipShipment,
    responses((status = 200, body = Shipment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "order_not_paid", "insufficient_stock"])))
)]
pub(super) async fn ship(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
    write: Write<ShipShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.ship_shipment(&request, id, &write.body, &actor, &cause).await?))
}

/// Marks a shipment as delivered.
#[utoipa::path(
    post, operation_id = "deliver_shipment", path = "/v1/shipments/{id}/deliver", tag = "shipments",
    security(("api_key" = ["orders:write"])), params(("id" = ShipmentId, Path)), request_body = DeliverShipment,
    responses((status = 200, body = Shipment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn deliver(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
    write: Write<DeliverShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    Ok(respond(state.app.deliver_shipment(&request, id, &cause).await?))
}

/// Cancels a shipment that has not left. Its stock stays committed to the order: another shipment can take it.
#[utoipa::path(
    post, operation_id = "cancel_shipment", path = "/v1/shipments/{id}/cancel", tag = "shipments",
    security(("api_key" = ["orders:write"])), params(("id" = ShipmentId, Path)), request_body = CancelShipment,
    responses((status = 200, body = Shipment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition"])))
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
    write: Write<CancelShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    Ok(respond(state.app.cancel_shipment(&request, id, &cause).await?))
}

/// Takes units of a shipment back, all or some, onto the shelf or not. Nothing is refunded by that: a refund names the units.
#[utoipa::path(
    post, operation_id = "return_shipment", path = "/v1/shipments/{id}/return", tag = "shipments",
    security(("api_key" = ["orders:write"])), params(("id" = ShipmentId, Path)), request_body = ReturnShipment,
    responses((status = 200, body = Shipment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "inconsistent_fields",
        "line_quantity_unavailable"])))
)]
pub(super) async fn give_back(
    State(state): State<ApiState>,
    IdPath(id): IdPath<ShipmentId>,
    write: Write<ReturnShipment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.return_shipment(&request, id, &write.body, &actor, &cause).await?))
}
