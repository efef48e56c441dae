//! `/v1/payments/{id}/refunds`.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{IdPath, Write},
    orders::{Page, respond},
    problem::Problem,
};
use crate::{
    domain::{
        ids::PaymentId,
        refund::{NewRefund, Refund},
    },
    store::{payments, refunds},
};

/// Refunds a captured payment: an amount, units of lines, or everything that is left. Several refunds may be on their way;
/// together they never claim more than was captured. With `restock` the units, which have shipped, are back on the shelf.
#[utoipa::path(
    post, operation_id = "refund_payment", path = "/v1/payments/{id}/refunds", tag = "payments",
    security(("api_key" = ["payments:write"])), params(("id" = PaymentId, Path)), request_body = NewRefund,
    responses((status = 201, body = Refund)),
    extensions(("x-problems" = json!(["not_found", "invalid_state_transition", "refund_exceeds_captured"])))
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
    write: Write<NewRefund>,
) -> Result<Response, Problem> {
    let (request, cause) = (write.idempotent(StatusCode::CREATED)?, write.cause());
    let actor = write.caller.api_key_id.to_string();
    Ok(respond(state.app.refund_payment(&request, id, &write.body, &actor, &cause).await?))
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
