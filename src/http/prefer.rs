//! `Prefer: wait=N` (RFC 7240): the client rather waits for the outcome of a payment than comes back for it.
//!
//! A preference asks for no guarantee: one that cannot be read is ignored, and one that asks for more than
//! [`LONGEST_WAIT`] gets that.

use std::time::Duration;

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::time::sleep;

use super::{ApiState, problem::Problem, respond::respond};
use crate::{
    app::{Answer, Conflict, Error},
    domain::{ids::PaymentId, payment::PaymentStatus},
};

/// No request is kept open longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long the client wants to wait; `None`: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(Option<Duration>);

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(&parts.headers))
    }
}

impl Wait {
    /// The first `wait` of all `Prefer` headers counts, as the RFC says.
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
        let mut preferences = values.flat_map(|value| value.split(',')).map(|preference| {
            // What follows a semicolon are parameters of the preference; `wait` has none.
            let preference = preference.split(';').next().unwrap_or_default();
            preference
                .split_once('=')
                .map_or((preference.trim(), ""), |(name, value)| (name.trim(), value.trim()))
        });
        let wait = preferences.find(|(name, _)| name.eq_ignore_ascii_case("wait"));
        let seconds = wait.and_then(|(_, value)| {
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            let digits = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
            // So many digits that they do not fit are more than the longest wait too.
            digits.then(|| bare.parse().unwrap_or(u64::MAX))
        });
        Self(
            seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT)),
        )
    }

    /// The answer to a request whose body is a payment: where the client waits, the payment once it has left `status`. A
    /// replayed answer is replaced in the same way by how the payment stands.
    ///
    /// The request has taken effect: whatever becomes of the waiting, it is not answered with an error of that.
    pub(super) async fn respond(self, state: &ApiState, answer: Answer, status: PaymentStatus) -> Response {
        #[derive(Deserialize)]
        struct Named {
            id: PaymentId,
        }
        let (Some(wait), Ok(Named { id })) = (self.0, serde_json::from_str(&answer.body)) else {
            return respond(answer);
        };
        let enough = async {
            tokio::select! {
                () = sleep(wait) => {}
                // A stopping process keeps nobody waiting.
                () = state.stopping.cancelled() => {}
            }
        };
        let payment = match state.app.await_payment(id, status, enough).await {
            Ok(payment) => payment,
            Err(error) => {
                tracing::warn!(%error, "a payment that a client waits for cannot be read");
                return respond(answer);
            }
        };
        let mut response = if payment.status == PaymentStatus::Failed {
            let (payment_id, decline_code) = (payment.id, payment.decline_code);
            Problem::from(Error::Conflict(Conflict::PaymentDeclined { payment_id, decline_code }))
                .into_response()
        } else {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
            (status, Json(payment)).into_response()
        };
        let headers = response.headers_mut();
        if let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs())) {
            headers.insert("preference-applied", applied);
        }
        if answer.replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(values: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_str(value).expect("a header"));
        }
        Wait::of(&headers).0.map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_read_wherever_it_stands() {
        assert_eq!(wait(&["wait=5"]), Some(5));
        assert_eq!(wait(&["respond-async, wait=10"]), Some(10));
        assert_eq!(wait(&["return=minimal; foo=bar", "Wait = \"7\" ; x"]), Some(7));
        assert_eq!(wait(&["wait=3, wait=9", "wait=1"]), Some(3));
        for longer in ["wait=31", "wait=86400", "wait=99999999999999999999999"] {
            assert_eq!(wait(&[longer]), Some(30), "{longer}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for ignored in [
            "", "wait", "wait=", "wait=x", "wait=-1", "wait=1.5", "wait=0", "waits=5", "wait=+5", "=5",
            ";,=;",
        ] {
            assert_eq!(wait(&[ignored]), None, "{ignored}");
        }
        assert_eq!(wait(&[]), None);
    }
}
