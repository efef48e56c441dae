//! `/v1/orders`.

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
    extract::{IdPath, Query, Write},
    if_match::{EntityTags, IfMatch, etag},
    problem::Problem,
    respond::{respond_with_new_order, respond_with_order},
    walk::require_bounds,
};
use crate::{
    app::{CancelOrder, ExtendReservation},
    domain::{
        bounds::{PageSize, Text},
        ids::OrderId,
        inventory::Sku,
        new_order::NewOrder,
        order::{Order, OrderStatus},
        payment::Payment,
        refund::Refund,
        shipment::Shipment,
    },
    store::{
        Conn,
        orders::{self, OrderFilter},
        payments, refunds, shipments,
    },
};

/// An order with what became of it.
#[derive(Debug, Serialize, ToSchema)]
struct OrderDetail {
    #[serde(flatten)]
    order: Order,
    payments: Vec<Payment>,
    refunds: Vec<Refund>,
    shipments: Vec<Shipment>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

impl<T> Page<T> {
    /// The page, from a query that asked for one more than `limit`.
    pub(super) fn new(mut data: Vec<T>, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = data.len() > limit;
        data.truncate(limit);
        Self { data, has_more }
    }
}

/// Places an order: reserves the stock of every line, or none.
#[utoipa::path(
    post, operation_id = "place_order", path = "/v1/orders", tag = "orders",
    security(("api_key" = ["orders:write"])), request_body = NewOrder,
    responses((status = 201, body = Order, headers(("Location", description = "The order."),
        ("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["insufficient_stock", "duplicate_client_reference", "unknown_sku",
        "inconsistent_fields", "customer_needed", "open_order_limit_reached", "purchase_limit_exceeded",
        "overloaded", "events_delayed", "lock_unavailable"])))
)]
pub(super) async fn place(
    State(state): State<ApiState>,
    write: Write<NewOrder>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    Ok(respond_with_new_order(state.app.place_order(request, write.body, &cause).await?))
}

/// Cancels an order that has not shipped, or units of it that are not packed. Its money is voided or refunded: of units, what
/// they cost; of a whole order, everything. Canceling the last units that have not shipped cancels the order, or completes
/// it.
#[utoipa::path(
    post, operation_id = "cancel_order", path = "/v1/orders/{id}/cancel", tag = "orders",
    security(("api_key" = ["orders:write"])),
    params(("id" = OrderId, Path), ("If-Match" = Option<EntityTags>, Header)), request_body = CancelOrder,
    responses((status = 200, body = Order, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "payment_in_progress",
        "insufficient_stock", "inconsistent_fields", "line_quantity_unavailable", "nothing_left_to_pay",
        "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    IdPath(id): IdPath<OrderId>,
    IfMatch(expected): IfMatch,
    write: Write<CancelOrder>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    let answer = state.app.cancel_order(&request, id, expected.as_ref(), &write.body, &actor, &cause).await?;
    Ok(respond_with_order(answer))
}

/// Gives an order that waits for payment more time, a few times at most.
#[utoipa::path(
    post, operation_id = "extend_reservation", path = "/v1/orders/{id}/reservation/extend", tag = "orders",
    security(("api_key" = ["orders:write"])),
    params(("id" = OrderId, Path), ("If-Match" = Option<EntityTags>, Header)), request_body = ExtendReservation,
    responses((status = 200, body = Order, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "reservation_expired",
        "extension_limit_reached", "extension_too_long", "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn extend(
    State(state): State<ApiState>,
    IdPath(id): IdPath<OrderId>,
    IfMatch(expected): IfMatch,
    write: Write<ExtendReservation>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::OK)?, write.cause());
    let answer = state.app.extend_reservation(&request, id, expected.as_ref(), write.body, &cause).await?;
    Ok(respond_with_order(answer))
}

/// Fails if there is no such order.
pub(super) async fn require(conn: &mut Conn, id: OrderId) -> Result<(), Problem> {
    if orders::exists(conn, id).await? { Ok(()) } else { Err(Problem::not_found("order", id)) }
}

/// An order with its payments, refunds and shipments, each the oldest first.
#[utoipa::path(
    get, operation_id = "read_order", path = "/v1/orders/{id}", tag = "orders",
    security(("api_key" = ["orders:read"])), params(("id" = OrderId, Path)),
    responses((status = 200, body = OrderDetail, headers(("ETag", description = "Its version, for `If-Match`.")))),
    extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<OrderId>,
) -> Result<impl IntoResponse, Problem> {
    let mut conn = state.app.store.conn().await?;
    let order = orders::find(&mut conn, id).await?;
    let order = order.ok_or_else(|| Problem::not_found("order", id))?;
    let payments = payments::list_of_order(&mut conn, id).await?;
    let refunds = refunds::list_of_order(&mut conn, id).await?;
    let shipments = shipments::list_of_order(&mut conn, id).await?;
    Ok((etag(order.version), Json(OrderDetail { order, payments, refunds, shipments })))
}

/// Orders, the newest first. A list by `sku` needs a time, a customer or a reference too: `created_gte`, and `created_lt` at
/// most 31 days later.
#[utoipa::path(
    get, operation_id = "list_orders", path = "/v1/orders", tag = "orders",
    security(("api_key" = ["orders:read"])),
    params(("status" = Option<OrderStatus>, Query), ("customer_id" = Option<Text>, Query),
        ("client_reference" = Option<Text>, Query), ("sku" = Option<Sku>, Query),
        ("created_gte" = Option<DateTime<Utc>>, Query), ("created_lt" = Option<DateTime<Utc>>, Query),
        ("starting_after" = Option<OrderId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Order>)), extensions(("x-problems" = json!(["inconsistent_fields"])))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = OrderFilter {
        status: query.take("status")?,
        customer_id: query.take_text("customer_id")?,
        client_reference: query.take_text("client_reference")?,
        sku: query.take("sku")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        id: None,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    bound_walk(&filter)?;
    let mut conn = state.app.store.conn().await?;
    let found = orders::list(&mut conn, &filter, limit + 1).await?;
    Ok(Json(Page::new(found, limit)))
}

/// Nothing finds the orders of a SKU but looking through them: something else has to say through which.
fn bound_walk(filter: &OrderFilter) -> Result<(), Problem> {
    if filter.sku.is_none() || filter.customer_id.is_some() || filter.client_reference.is_some() {
        return Ok(());
    }
    let list = "a list by sku without customer_id or client_reference";
    require_bounds(list, filter.created_gte, filter.created_lt)
}
