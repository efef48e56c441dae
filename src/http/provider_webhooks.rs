//! `/v1/provider-webhooks/{provider}`: no API key; the signature says who speaks.

use std::time::SystemTime;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::IntoResponse,
};
use serde_json::json;

use super::{ApiState, extract::read_body, problem::Problem};

/// Where Stripe puts its signature.
const SIGNATURE: &str = "stripe-signature";

/// 200 says that the event is stored, or was before, or is about nothing here: the provider need not send it again.
pub(super) async fn receive(
    State(state): State<ApiState>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<impl IntoResponse, Problem> {
    let body = read_body(body).await?;
    let signature = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    state.app.receive_provider_event(&provider, signature, &body, SystemTime::now()).await?;
    Ok(Json(json!({ "received": true })))
}
