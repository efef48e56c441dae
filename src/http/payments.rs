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
    orders::Page,
    prefer::Wait,
    problem::Problem,
};
use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        payment::{NewPayment, PaymentStatus},
    },
    store::{orders, payments},
};

pub(super) async fn start(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
    wait: Wait,
    write: Write<NewPayment>,
) -> Result<Response, Problem> {
    let request = write.idempotent("POST /v1/orders/{id}/payments", StatusCode::CREATED)?;
    let cause = write.request_id.cause();
    let answer = state.app.start_payment(&request, order_id, &write.body, &cause).await?;
    wait.respond(&state, answer, PaymentStatus::Processing).await
}

pub(super) async fn read(
    State(state): State<ApiState>,
    IdPath(id): IdPath<PaymentId>,
) -> Result<impl IntoResponse, Problem> {
    let found = payments::find(&mut *state.app.store.conn().await?, id).await?;
    found
        .map(Json)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "not_found", format!("there is no payment {id}")))
}

pub(super) async fn list(
    State(state): State<ApiState>,
    IdPath(order_id): IdPath<OrderId>,
) -> Result<impl IntoResponse, Problem> {
    let mut conn = state.app.store.conn().await?;
    if orders::find(&mut conn, order_id).await?.is_none() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no order {order_id}"),
        ));
    }
    Ok(Json(Page { data: payments::list_of_order(&mut conn, order_id).await?, has_more: false }))
}
