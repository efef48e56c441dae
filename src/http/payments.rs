//! `/v1/orders/{id}/payments` and `/v1/payments`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Write},
    orders::{self, Page},
    prefer::Wait,
    problem::Problem,
};
use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        payment::{NewPayment, Payment, PaymentStatus},
    },
    store::payments,
};

/// Starts the payment of an order.
#[utoipa::path(
    post, operation_id = "start_payment", path = "/v1/orders/{id}/payments", tag = "payments",
    security(("api_key" = ["payments:write"])), params(("id" = OrderId, Path)), request_body = NewPayment,
    responses((status = 201, body = Payment)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "payment_in_progress",
        "payment_already_succeeded", "reservation_expired", "payment_declined"])))
)]
pub(super) async fn start(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    wait: Wait,
    write: Write<NewPayment>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let answer = state.app.start_payment(&request, order_id, &write.body, &cause).await?;
    wait.respond(&state, answer, PaymentStatus::Processing).await
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
    found
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no payment {id}")))
}

/// The payments of an order, the oldest first.
#[utoipa::path(
    get, operation_id = "list_payments_of_order", path = "/v1/orders/{id}/payments", tag = "payments",
    security(("api_key" = ["orders:read"])), params(("id" = OrderId, Path)),
    responses((status = 200, body = Page<Payment>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_of_order(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
) -> Result<impl IntoResponse, Problem> {
    orders::require(&state, order_id).await?;
    let mut conn = state.app.store.conn().await?;
    Ok(Json(Page { data: payments::list_of_order(&mut conn, order_id).await?, has_more: false }))
}
