//! What changes money: a request becomes an action, an action is done once for its idempotency key.
//!
//! An action runs to its end in a task of its own: a client that stops waiting does not stop it, as at a real provider.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::{
    Sandbox,
    intents::{Decision, Intent, NewIntent, RefundStatus, Status},
    keys::{Claim, Reply},
    tokens::{Behaviour, behaviour},
    webhooks,
    wire::{self, Form, Metadata, Problem},
};
use crate::domain::payment::looks_like_card_number;

/// A valid request to change something.
#[derive(Debug)]
pub(super) enum Action {
    Create { new: NewIntent, expand: bool },
    Capture { id: String, amount: Option<i64>, expand: bool },
    Cancel { id: String, expand: bool },
    Refund { id: String, amount: Option<i64>, metadata: Metadata },
}

impl Action {
    pub(super) fn create(form: &Form) -> Result<Self, Problem> {
        let token = form.require("payment_method")?;
        if looks_like_card_number(token) {
            let message = "A card number is not a payment method. Never send card numbers.";
            return Err(Problem::parameter("payment_method", "resource_missing", message));
        }
        let behaviour = behaviour(token).ok_or_else(|| {
            let message = format!("No such PaymentMethod: '{token}'");
            Problem::parameter("payment_method", "resource_missing", &message)
        })?;
        for (name, only) in [("confirm", "true"), ("capture_method", "manual")] {
            if form.require(name)? != only {
                let message = format!("The sandbox takes {only} only.");
                return Err(Problem::parameter(name, "parameter_invalid", &message));
            }
        }
        let currency = form.require("currency")?.to_owned();
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_lowercase()) {
            let message = "Must be a three-letter ISO currency code, in lower case.";
            return Err(Problem::parameter("currency", "parameter_invalid", message));
        }
        form.require("amount")?;
        let amount = form.amount("amount")?.unwrap_or_default();
        let new = NewIntent { amount, currency, metadata: form.metadata(), behaviour };
        Ok(Self::Create { new, expand: form.expands_charge() })
    }

    pub(super) fn capture(id: String, form: &Form) -> Result<Self, Problem> {
        Ok(Self::Capture { id, amount: form.amount("amount_to_capture")?, expand: form.expands_charge() })
    }

    pub(super) fn cancel(id: String, form: &Form) -> Self {
        Self::Cancel { id, expand: form.expands_charge() }
    }

    pub(super) fn refund(form: &Form) -> Result<Self, Problem> {
        let id = form.require("payment_intent")?.to_owned();
        Ok(Self::Refund { id, amount: form.amount("amount")?, metadata: form.metadata() })
    }

    const fn behaviour(&self) -> Option<Behaviour> {
        match self {
            Self::Create { new, .. } => Some(new.behaviour),
            _ => None,
        }
    }

    /// Takes effect. Gives the intent as it is now, and what to answer.
    fn apply(self, sandbox: &Sandbox) -> Result<(Intent, Result<Reply, Problem>), Problem> {
        let mut state = sandbox.state();
        Ok(match self {
            Self::Create { new, expand } => {
                let intent = state.intents.create(new);
                let answer = created(&intent, expand);
                (intent, answer)
            }
            Self::Capture { id, amount, expand } => {
                let intent = state.intents.capture(&id, amount)?;
                let fails = intent.behaviour == Behaviour::ErrorAfterCapture;
                let answer = Reply::ok(&wire::payment_intent(&intent, expand));
                (intent, if fails { Err(Problem::internal()) } else { Ok(answer) })
            }
            Self::Cancel { id, expand } => {
                let intent = state.intents.cancel(&id)?;
                let answer = Reply::ok(&wire::payment_intent(&intent, expand));
                (intent, Ok(answer))
            }
            Self::Refund { id, amount, metadata } => {
                let (intent, refund) = state.intents.refund(&id, amount, metadata)?;
                let fails = intent.behaviour == Behaviour::ErrorAfterRefund;
                let answer = Reply::ok(&wire::refund(&intent, &refund));
                (intent, if fails { Err(Problem::internal()) } else { Ok(answer) })
            }
        })
    }
}

fn created(intent: &Intent, expand: bool) -> Result<Reply, Problem> {
    if let Some(decline) = intent.decline {
        let problem = Problem::new(StatusCode::PAYMENT_REQUIRED, "card_error", decline.message());
        return Err(Problem {
            code: Some("card_declined"),
            decline_code: Some(decline.code()),
            payment_intent: Some(Box::new(wire::payment_intent(intent, false))),
            ..problem
        });
    }
    if intent.behaviour == Behaviour::ErrorAfterAuthorize {
        return Err(Problem::internal());
    }
    Ok(Reply::ok(&wire::payment_intent(intent, expand)))
}

/// Does the action, or repeats the answer of the request that did.
pub(super) async fn run(
    sandbox: &Arc<Sandbox>,
    headers: &HeaderMap,
    path: &str,
    form: &Form,
    action: Result<Action, Problem>,
) -> Response {
    let action = match action {
        Ok(action) => action,
        Err(problem) => return problem.into_response(),
    };
    let key = match idempotency_key(headers) {
        Ok(key) => key,
        Err(problem) => return problem.into_response(),
    };
    if let Some(key) = &key {
        let fingerprint = Sha256::digest(format!("{path}?{}", form.canonical())).into();
        match sandbox.state().keys.claim(key, fingerprint) {
            Claim::New => {}
            Claim::Done(reply) => return reply.replayed(),
            Claim::InFlight => return in_flight(),
            Claim::OtherParameters => return other_parameters(),
        }
    }
    let keeps_answer_back = action.behaviour() == Some(Behaviour::NoAnswer);
    let task = tokio::spawn(perform(Arc::clone(sandbox), key, action));
    let reply = task.await.unwrap_or_else(|_| Problem::internal().reply());
    if keeps_answer_back {
        tokio::select! {
            () = tokio::time::sleep(sandbox.options.answer_held_back) => {}
            () = sandbox.shutdown.cancelled() => {}
        }
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    reply.into_response()
}

async fn perform(sandbox: Arc<Sandbox>, key: Option<String>, action: Action) -> Reply {
    if action.behaviour() == Some(Behaviour::Slow) {
        tokio::time::sleep(sandbox.options.slow).await;
    }
    let outcome = action.apply(&sandbox);
    if let Ok((intent, _)) = &outcome {
        tell(&sandbox, intent).await;
    }
    let reply = outcome.and_then(|(_, answer)| answer).unwrap_or_else(Problem::reply);
    if let Some(key) = &key {
        sandbox.state().keys.finish(key, &reply);
    }
    reply
}

/// Sends the webhook of a change, and does what else the behaviour asks for before the answer.
async fn tell(sandbox: &Arc<Sandbox>, intent: &Intent) {
    let sent = webhooks::send(sandbox, intent);
    let is_new = matches!(intent.status, Status::RequiresCapture | Status::Processing);
    match intent.behaviour {
        Behaviour::WebhookBeforeAnswer if is_new => {
            if let Some(sent) = sent {
                // However the delivery ends, the answer comes.
                let _ = sent.await;
            }
            tokio::time::sleep(sandbox.options.slow).await;
        }
        Behaviour::LateSuccess if is_new => {
            let (sandbox, id) = (Arc::clone(sandbox), intent.id.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(sandbox.options.late_success) => {
                        decide(&sandbox, &id, Decision::Succeed);
                    }
                    () = sandbox.shutdown.cancelled() => {}
                }
            });
        }
        _ => {}
    }
}

/// Decides a payment that is open, and tells of it.
pub(super) fn decide(sandbox: &Arc<Sandbox>, id: &str, decision: Decision) {
    let intent = sandbox.state().intents.decide(id, decision);
    if let Some(intent) = intent {
        webhooks::send(sandbox, &intent);
    }
}

/// Decides the refunds of an intent, and tells of each. Gives how many.
pub(super) fn decide_refunds(sandbox: &Arc<Sandbox>, id: &str, status: RefundStatus) -> usize {
    let decided = sandbox.state().intents.decide_refunds(id, status);
    for (intent, refund) in &decided {
        webhooks::send_refund(sandbox, intent, refund);
    }
    decided.len()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let wrong =
        || Problem::invalid("parameter_invalid", "An Idempotency-Key has 1 to 255 visible characters.");
    key.map(|key| Some(key.to_owned())).ok_or_else(wrong)
}

fn in_flight() -> Response {
    let message = "There is currently another in-progress request using this Idempotent Key.";
    let problem = Problem::invalid("idempotency_key_in_use", message);
    Problem { status: StatusCode::CONFLICT, ..problem }.into_response()
}

fn other_parameters() -> Response {
    let message =
        "Keys for idempotent requests can only be used with the same parameters they were first used with.";
    Problem::new(StatusCode::BAD_REQUEST, "idempotency_error", message).into_response()
}
