//! `/v1/payments/{id}/refunds` and `/v1/refunds`.

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
    respond::respond_with_new,
};
use crate::{
    domain::{
        bounds::PageSize,
        ids::{OrderId, PaymentId, RefundId},
        refund::{NewRefund, Refund, RefundStatus},
    },
    store::{
        Conn, payments,
        refunds::{self, RefundFilter},
    },
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

/// Refunds, the newest first.
#[utoipa::path(
    get, operation_id = "list_refunds", path = "/v1/refunds", tag = "payments",
    security(("api_key" = ["orders:read"])),
    params(("order_id" = Option<OrderId>, Query), ("payment_id" = Option<PaymentId>, Query),
        ("status" = Option<RefundStatus>, Query), ("created_gte" = Option<DateTime<Utc>>, Query),
        ("created_lt" = Option<DateTime<Utc>>, Query), ("starting_after" = Option<RefundId>, Query),
        ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Refund>))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = RefundFilter {
        order_id: query.take("order_id")?,
        payment_id: query.take("payment_id")?,
        status: query.take("status")?,
        created_gte: query.take_time("created_gte")?,
        created_lt: query.take_time("created_lt")?,
        starting_after: query.take("starting_after")?,
    };
    let limit = query.take_limit()?;
    query.finish()?;
    page(&mut *state.app.store.conn().await?, &filter, limit).await
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
    found.map(Json).ok_or_else(|| Problem::not_found("refund", id))
}

/// The refunds of a payment, the newest first.
#[utoipa::path(
    get, operation_id = "list_refunds_of_payment", path = "/v1/payments/{id}/refunds", tag = "payments",
    security(("api_key" = ["orders:read"])),
    params(("id" = PaymentId, Path), ("status" = Option<RefundStatus>, Query),
        ("starting_after" = Option<RefundId>, Query), ("limit" = Option<PageSize>, Query)),
    responses((status = 200, body = Page<Refund>)), extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn list_of_payment(
    State(state): State<ApiState>,
    IdPath(payment_id): IdPath<PaymentId>,
    mut query: Query,
) -> Result<impl IntoResponse, Problem> {
    let filter = RefundFilter {
        payment_id: Some(payment_id),
        status: query.take("status")?,
        starting_after: query.take("starting_after")?,
        ..RefundFilter::default()
    };
    let limit = query.take_limit()?;
    query.finish()?;
    let mut conn = state.app.store.conn().await?;
    if payments::find(&mut conn, payment_id).await?.is_none() {
        return Err(Problem::not_found("payment", payment_id));
    }
    page(&mut conn, &filter, limit).await
}

async fn page(conn: &mut Conn, filter: &RefundFilter, limit: i64) -> Result<Json<Page<Refund>>, Problem> {
    Ok(Json(Page::new(refunds::list(conn, filter, limit + 1).await?, limit)))
}
