//! `/v1/provider-webhooks/{provider}`: no API key; the signature says who speaks.

use std::time::SystemTime;

use axum::{
    Json,
    extract::{Request, State},
    response::IntoResponse,
};
use serde_json::json;

use super::{ApiState, body, extract::IdPath, problem::Problem};

/// Where Stripe puts its signature.
const SIGNATURE: &str = "stripe-signature";

/// Takes an event of the payment provider.
///
/// 200 says that the event is stored, or was before, or is about nothing here: the provider need not send it again.
#[utoipa::path(
    post, operation_id = "receive_provider_event", path = "/v1/provider-webhooks/{provider}",
    tag = "payments", security(()),
    params(("provider" = String, Path, example = "stripe"),
        ("Stripe-Signature" = String, Header, description = "`t=…,v1=…`: see Stripe's documentation")),
    request_body(content = serde_json::Value, example = json!({ "id": "evt_1", "type": "payment_intent.succeeded" })),
    responses((status = 200)),
    extensions(("x-problems" = json!(["not_found", "webhook_signature_invalid"])))
)]
pub(super) async fn receive(
    State(state): State<ApiState>,
    IdPath(provider): IdPath<String>,
    request: Request,
) -> Result<impl IntoResponse, Problem> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts, body).await?;
    let signature = parts.headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    state.app.receive_provider_event(&provider, signature, &body, SystemTime::now()).await?;
    Ok(Json(json!({ "received": true })))
}
