//! The routes: a request in, the action or the reading that it asks for, an answer out.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Sandbox,
    actions::{self, Action},
    intents::{self, Decision, RefundStatus},
    keys::Reply,
    wire::{self, Form, Problem},
};

pub(super) async fn create(
    State(sandbox): State<Arc<Sandbox>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    actions::run(&sandbox, &headers, uri.path(), &form, Action::create(&form)).await
}

pub(super) async fn capture(
    State(sandbox): State<Arc<Sandbox>>,
    uri: Uri,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    actions::run(&sandbox, &headers, uri.path(), &form, Action::capture(id, &form)).await
}

pub(super) async fn cancel(
    State(sandbox): State<Arc<Sandbox>>,
    uri: Uri,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    actions::run(&sandbox, &headers, uri.path(), &form, Ok(Action::cancel(id, &form))).await
}

pub(super) async fn refund(
    State(sandbox): State<Arc<Sandbox>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::parse(&body);
    actions::run(&sandbox, &headers, uri.path(), &form, Action::refund(&form)).await
}

pub(super) async fn refunds(
    State(sandbox): State<Arc<Sandbox>>,
    RawQuery(query): RawQuery,
) -> Result<Reply, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let state = sandbox.state();
    let intent = state.intents.get(form.require("payment_intent")?)?;
    let data: Vec<_> = intent.refunds.iter().rev().map(|refund| wire::refund(intent, refund)).collect();
    Ok(Reply::ok(&wire::page("list", "/v1/refunds", &data, false)))
}

pub(super) async fn read(
    State(sandbox): State<Arc<Sandbox>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Reply, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let state = sandbox.state();
    Ok(Reply::ok(&wire::payment_intent(state.intents.get(&id)?, form.expands_charge())))
}

pub(super) async fn list(
    State(sandbox): State<Arc<Sandbox>>,
    RawQuery(query): RawQuery,
) -> Result<Reply, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let limit = form.amount("limit")?.unwrap_or(10);
    let limit = usize::try_from(limit).ok().filter(|limit| *limit <= 100);
    let wrong = || Problem::parameter("limit", "parameter_invalid_integer", "Must be at most 100.");
    let limit = limit.ok_or_else(wrong)?;
    let state = sandbox.state();
    let newest = state.intents.newest().take(limit + 1);
    let mut data: Vec<_> = newest.map(|intent| wire::payment_intent(intent, form.expands_charge())).collect();
    let has_more = data.len() > limit;
    data.truncate(limit);
    Ok(Reply::ok(&wire::page("list", "/v1/payment_intents", &data, has_more)))
}

pub(super) async fn search(
    State(sandbox): State<Arc<Sandbox>>,
    RawQuery(query): RawQuery,
) -> Result<Reply, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let wrong = || {
        let message = format!("The sandbox searches for metadata['{}']:'…' only.", intents::PAYMENT_ID);
        Problem::parameter("query", "parameter_invalid", &message)
    };
    // Both kinds of quotation marks, as at Stripe.
    let query = form.require("query")?.replace('"', "'");
    let prefix = format!("metadata['{}']:'", intents::PAYMENT_ID);
    let payment_id = query.trim().strip_prefix(&prefix).and_then(|rest| rest.strip_suffix('\''));
    let payment_id = payment_id.filter(|id| !id.contains('\'')).ok_or_else(wrong)?;
    let state = sandbox.state();
    let found = state.intents.find(payment_id);
    let data: Vec<_> = found.map(|intent| wire::payment_intent(intent, form.expands_charge())).collect();
    Ok(Reply::ok(&wire::page("search_result", "/v1/payment_intents/search", &data, false)))
}

pub(super) async fn summary(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let mut summary = json!(sandbox.state().intents.counts());
    summary["requests"] = sandbox.requests.load(Ordering::Relaxed).into();
    Json(summary)
}

pub(super) async fn payments(
    State(sandbox): State<Arc<Sandbox>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let payment_id = form.require("payment_id")?;
    let mut counts = json!(sandbox.state().intents.payment_counts(payment_id));
    counts["payment_id"] = payment_id.into();
    Ok(Json(counts))
}

/// Decides a payment, as time, the issuer or the customer would.
pub(super) async fn decide_payment(
    State(sandbox): State<Arc<Sandbox>>,
    Path(what): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let decision = match what.as_str() {
        "succeed" => Decision::Succeed,
        "confirm" => Decision::Confirm,
        "refuse" => Decision::Refuse,
        "lapse" => Decision::Lapse,
        _ => return Err(unknown_url(uri).await),
    };
    let ids = intents_of(&sandbox, query)?;
    for id in &ids {
        actions::decide(&sandbox, id, decision);
    }
    Ok(Json(json!({ "payment_intents": ids })))
}

/// Decides refunds, as the customer's bank would.
pub(super) async fn decide_refunds(
    State(sandbox): State<Arc<Sandbox>>,
    Path(what): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let status = match what.as_str() {
        "succeed" => RefundStatus::Succeeded,
        "fail" => RefundStatus::Failed,
        _ => return Err(unknown_url(uri).await),
    };
    let ids = intents_of(&sandbox, query)?;
    let refunds: usize = ids.iter().map(|id| actions::decide_refunds(&sandbox, id, status)).sum();
    Ok(Json(json!({ "payment_intents": ids, "refunds": refunds })))
}

/// The intents of the payment that a query names.
fn intents_of(sandbox: &Sandbox, query: Option<String>) -> Result<Vec<String>, Problem> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    let payment_id = form.require("payment_id")?;
    Ok(sandbox.state().intents.find(payment_id).map(|intent| intent.id.clone()).collect())
}

pub(super) async fn unknown_url(uri: Uri) -> Problem {
    let message = format!("Unrecognized request URL ({}).", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
}
