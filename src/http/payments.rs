//! `/v1/orders/{id}/payments` and `/v1/payments`.

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
    prefer::Wait,
    problem::Problem,
    respond::{location, respond},
};
use crate::{
    app::{RequestCapture, RequestVoid},
    domain::{
        bounds::PageSize,
        ids::{OrderId, PaymentId},
        payment::{NewPayment, Payment, PaymentStatus},
    },
    store::{
        Conn,
        payments::{self, PaymentFilter},
    },
};

/// Starts the payment of an order.
#[utoipa::path(
    post, operation_id = "start_payment", path = "/v1/orders/{id}/payments", tag = "payments",
    security(("api_key" = ["payments:write"])),
    params(("id" = OrderId, Path), ("If-Match" = Option<EntityTags>, Header),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer once the payment is decided, after N \
            seconds (30 at most) if it is not by then.", example = "wait=5")),
    request_body = NewPayment,
    responses((status = 201, body = Payment, headers(("Location", description = "The payment.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "payment_in_progress",
        "payment_already_succeeded", "reservation_expired", "payment_declined", "amount_mismatch",
        "card_number_refused", "version_conflict", "if_match_invalid"])))
)]
pub(super) async fn start(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    IfMatch(expected): IfMatch,
    wait: Wait,
    write: Write<NewPayment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let answer = state.app.start_payment(&request, order_id, expected.as_ref(), &write.body, &cause).await?;
    let place = location(&answer, "/v1/payments");
    let response = wait.respond(&state, answer, PaymentStatus::Processing).await;
    Ok((place, response).into_response())
}

/// Asks for the capture of an authorized payment: of what is due for its order, or of less. There is no second capture; what
/// is not captured is given free. Carried out soon after the answer.
#[utoipa::path(
    post, operation_id = "capture_payment", path = "/v1/payments/{id}/capture", tag = "payments",
    security(("api_key" = ["payments:write"])), params(("id" = PaymentId, Path)), request_body = RequestCapture,
    responses((status = 202, body = Payment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "payment_in_progress",
        "amount_exceeds_authorized"])))
)]
pub(super) async fn capture(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
    write: Write<RequestCapture>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::ACCEPTED)?, write.cause());
    Ok(respond(state.app.request_capture(&request, id, write.body, &cause).await?))
}

/// Asks to give up a payment that waits for the customer; the order can then be paid in another way. The payment of an order
/// that is confirmed is voided by canceling the order. Carried out soon after the answer.
#[utoipa::path(
    post, operation_id = "void_payment", path = "/v1/payments/{id}/void", tag = "payments",
    security(("api_key" = ["payments:write"])), params(("id" = PaymentId, Path)), request_body = RequestVoid,
    responses((status = 202, body = Payment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "order_needs_payment",
        "payment_in_progress"])))
)]
pub(super) async fn void(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
    write: Write<RequestVoid>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::ACCEPTED)?, write.cause());
    Ok(respond(state.app.request_void(&request, id, &write.body, &cause).await?))
}

/// Payments, the newest first.
#[utoipa::path(
    get, operation_id = "list_payments", path = "/v1/payments", tag = "payments",
    security(("api_key" = ["orders:read"])),
    params(("order_id" = Option<OrderId>, Query), ("status" = Option<PaymentStatus>, Query),
        ("created_gte" = Option<DateTime<Utc>>, Query), ("created_lt" = Option<DateTime<Utc>>, Query),
        ("starting_after" = Option<PaymentId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Payment>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = PaymentFilter {
        order_id: query.take("order_id")?,
        status: query.take("status")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    page(&mut *state.app.store.conn().await?, &filter, limit).await
}

/// The payments of an order, the newest first.
#[utoipa::path(
    get, operation_id = "list_payments_of_order", path = "/v1/orders/{id}/payments", tag = "payments",
    security(("api_key" = ["orders:read"])),
    params(("id" = OrderId, Path), ("status" = Option<PaymentStatus>, Query),
        ("starting_after" = Option<PaymentId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Payment>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_of_order(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = PaymentFilter {
        order_id: Some(order_id),
        status: query.take("status")?,
        starting_after: query.take("starting_after")?,
        ..PaymentFilter::default()
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    orders::require(&mut conn, order_id).await?;
    page(&mut conn, &filter, limit).await
}

async fn page(conn: &mut Conn, filter: &PaymentFilter, limit: i64) -> Result<Json<Page<Payment>>, Problem> {
    Ok(Json(Page::new(payments::list(conn, filter, limit + 1).await?, limit)))
}

/// A payment.
#[utoipa::path(
    get, operation_id = "read_payment", path = "/v1/payments/{id}", tag = "payments",
    security(("api_key" = ["orders:read"])), params(("id" = PaymentId, Path)),
    responses((status = 200, body = Payment)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
) -> Result<impl IntoResponse, Problem> {
    let found = payments::find(&mut *state.app.store.conn().await?, id).await?;
    found.map(Json).ok_or_else(|| Problem::not_found("payment", id))
}
