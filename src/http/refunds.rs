//! `/v1/payments/{id}/refunds` and `/v1/refunds`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Write},
    orders::Page,
    problem::Problem,
    respond::respond_with_new,
};
use crate::{
    domain::{
        ids::{PaymentId, RefundId},
        refund::{NewRefund, Refund},
    },
    store::{payments, refunds},
};

/// Refunds a captured payment: an amount, units of lines, or everything that is left. Several refunds may be on their way;
/// together they never claim more than was captured. With `restock` the units, which have shipped, are back on the shelf.
#[utoipa::path(
    post, operation_id = "refund_payment", path = "/v1/payments/{id}/refunds", tag = "payments",
    security(("api_key" = ["payments:write"])), params(("id" = PaymentId, Path)), request_body = NewRefund,
    responses((status = 201, body = Refund, headers(("Location", description = "The refund.")))),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "refund_exceeds_captured",
        "inconsistent_fields", "line_quantity_unavailable", "nothing_to_refund"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
    write: Write<NewRefund>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    let answer = state.app.refund_payment(&request, id, &write.body, &actor, &cause).await?;
    Ok(respond_with_new(answer, "/v1/refunds"))
}

/// A refund.
#[utoipa::path(
    get, operation_id = "read_refund", path = "/v1/refunds/{id}", tag = "payments",
    security(("api_key" = ["orders:read"])), params(("id" = RefundId, Path)),
    responses((status = 200, body = Refund)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<RefundId>,
) -> Result<impl IntoResponse, Problem> {
    let found = refunds::find(&mut *state.app.store.conn().await?, id).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no refund {id}")))
}

/// The refunds of a payment, the oldest first.
#[utoipa::path(
    get, operation_id = "list_refunds_of_payment", path = "/v1/payments/{id}/refunds", tag = "payments",
    security(("api_key" = ["orders:read"])), params(("id" = PaymentId, Path)),
    responses((status = 200, body = Page<Refund>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_of_payment(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
) -> Result<impl IntoResponse, Problem> {
    let mut conn = state.app.store.conn().await?;
    if payments::find(&mut conn, id).await?.is_none() {
        return Err(Problem::not_found("payment", id));
    }
    Ok(Json(Page { data: refunds::list_of_payment(&mut conn, id).await?, has_more: false }))
}
