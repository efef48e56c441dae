//! Requests and answers in Stripe's shape: form fields in, JSON objects and errors out. Pure.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    intents::{Intent, Refund, RefundStatus, Status},
    keys::Reply,
};

/// The fields of a form or a query, under their whole names (`metadata[order]`). Of a repeated one the last counts.
#[derive(Debug)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn require(&self, name: &'static str) -> Result<&str, Problem> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Problem::parameter(name, "parameter_missing", "Missing required param."))
    }

    /// An amount of at least 1.
    pub(super) fn amount(&self, name: &'static str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let amount = text.parse().ok().filter(|amount| *amount > 0);
        let wrong =
            || Problem::parameter(name, "parameter_invalid_integer", "Must be an integer of at least 1.");
        amount.map(Some).ok_or_else(wrong)
    }

    /// The fields `metadata[…]`.
    pub(super) fn metadata(&self) -> Metadata {
        let entries = self.0.iter().filter_map(|(name, value)| {
            Some((name.strip_prefix("metadata[")?.strip_suffix(']')?.into(), value.as_str().into()))
        });
        Metadata(entries.collect())
    }

    /// Whether the charge is to be shown as an object.
    pub(super) fn expands_charge(&self) -> bool {
        let wanted =
            |value: &str| matches!(value, "latest_charge" | "data.latest_charge" | "latest_charge.refunds");
        self.0.iter().any(|(name, value)| name.starts_with("expand[") && wanted(value))
    }

    /// The same for two requests with the same fields, in whatever order.
    pub(super) fn canonical(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }
}

/// Metadata of an object: a few fields, of which there are many objects.
#[derive(Debug, Clone, Default)]
pub(super) struct Metadata(Box<[(Box<str>, Box<str>)]>);

impl Metadata {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| **key == *name).map(|(_, value)| &**value)
    }

    fn json(&self) -> Value {
        self.0.iter().map(|(key, value)| (&**key, &**value)).collect()
    }
}

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) kind: &'static str,
    pub(super) code: Option<&'static str>,
    pub(super) decline_code: Option<&'static str>,
    pub(super) param: Option<&'static str>,
    pub(super) message: String,
    pub(super) payment_intent: Option<Box<Value>>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, kind, code: None, decline_code: None, param: None, message, payment_intent: None }
    }

    /// 400, for a request that cannot be carried out.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        Self { code: Some(code), ..problem }
    }

    /// 400, for a wrong field.
    pub(super) fn parameter(name: &'static str, code: &'static str, message: &str) -> Self {
        Self { param: Some(name), ..Self::invalid(code, message) }
    }

    /// 404.
    pub(super) fn no_such_intent(id: &str) -> Self {
        let message = format!("No such payment_intent: '{id}'");
        Self { status: StatusCode::NOT_FOUND, ..Self::parameter("intent", "resource_missing", &message) }
    }

    /// 400, for an intent whose status does not allow it.
    pub(super) fn unexpected_state(intent: &Intent, done: &str, allowed: &str) -> Self {
        let message = format!(
            "This PaymentIntent could not be {done} because it has a status of {}. Only a PaymentIntent with one of \
             the following statuses may be {done}: {allowed}.",
            intent.status.name()
        );
        let payment_intent = Some(Box::new(payment_intent(intent, false)));
        Self { payment_intent, ..Self::invalid("payment_intent_unexpected_state", message) }
    }

    /// 500, after the effect.
    pub(super) fn internal() -> Self {
        let message = "An unknown error occurred. The sandbox was asked for it.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", message)
    }

    pub(super) fn reply(self) -> Reply {
        let mut error = json!({"type": self.kind, "message": self.message});
        for (name, value) in [("code", self.code), ("decline_code", self.decline_code)] {
            if let Some(value) = value {
                error[name] = value.into();
            }
        }
        if let Some(param) = self.param {
            error["param"] = param.into();
        }
        if let Some(intent) = self.payment_intent {
            error["payment_intent"] = *intent;
        }
        Reply { status: self.status.as_u16(), body: body(&json!({"error": error})) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.reply().into_response()
    }
}

impl Reply {
    pub(super) fn ok(body: &Value) -> Self {
        Self { status: 200, body: self::body(body) }
    }

    /// The answer, marked as one that was given before.
    pub(super) fn replayed(self) -> Response {
        let replayed = HeaderName::from_static("idempotent-replayed");
        ([(replayed, "true")], self).into_response()
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        // Invariant: a status is 200, 504 or that of a `Problem`.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}

/// In as many bytes as it needs: answers are kept.
fn body(json: &Value) -> Bytes {
    Bytes::from(json.to_string().into_boxed_str().into_boxed_bytes())
}

/// A payment intent.
pub(super) fn payment_intent(intent: &Intent, expand_charge: bool) -> Value {
    let charge = match intent.status {
        Status::RequiresAction | Status::Processing => Value::Null,
        _ if expand_charge => latest_charge(intent),
        _ => charge_id(intent).into(),
    };
    let error = intent.decline.map(|decline| {
        json!({"type": "card_error", "code": "card_declined", "decline_code": decline.code(),
            "message": decline.message()})
    });
    json!({
        "id": intent.id, "object": "payment_intent", "livemode": false, "created": intent.created,
        "amount": intent.amount, "amount_received": intent.amount_captured,
        "amount_capturable": if intent.status == Status::RequiresCapture { intent.amount } else { 0 },
        "currency": intent.currency, "capture_method": "manual", "confirmation_method": "automatic",
        "status": intent.status.name(), "latest_charge": charge, "last_payment_error": error,
        "metadata": intent.metadata.json(),
    })
}

fn charge_id(intent: &Intent) -> String {
    intent.id.replacen("pi_", "ch_", 1)
}

/// The charge of an intent that has one, with its newest refunds.
pub(super) fn latest_charge(intent: &Intent) -> Value {
    let newest: Vec<_> = intent.refunds.iter().rev().take(10).map(|made| refund(intent, made)).collect();
    let refunds = page("list", "/v1/refunds", &newest, intent.refunds.len() > newest.len());
    json!({
        "id": charge_id(intent), "object": "charge", "payment_intent": intent.id, "currency": intent.currency,
        "amount": intent.amount, "amount_captured": intent.amount_captured,
        // As at Stripe: money let go of by a partial capture or by a cancellation, or on its way back, counts as refunded.
        "amount_refunded": intent.amount_refunded + intent.amount_on_its_way() + intent.amount_let_go(),
        "refunds": refunds,
        "captured": intent.amount_captured > 0, "paid": intent.decline.is_none(),
        "status": if intent.decline.is_none() { "succeeded" } else { "failed" },
    })
}

/// A refund.
pub(super) fn refund(intent: &Intent, refund: &Refund) -> Value {
    json!({
        "id": refund.id, "object": "refund", "amount": refund.amount, "currency": intent.currency,
        "status": refund.status.name(), "payment_intent": intent.id, "charge": charge_id(intent),
        "failure_reason": (refund.status == RefundStatus::Failed).then_some("expired_or_canceled_card"),
        "metadata": refund.metadata.json(),
    })
}

/// A list or a search result.
pub(super) fn page(object: &str, url: &str, data: &[Value], has_more: bool) -> Value {
    json!({"object": object, "url": url, "data": data, "has_more": has_more})
}
