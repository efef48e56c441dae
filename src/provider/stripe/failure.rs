//! What it means that a request did not succeed: did it take effect, did it not, or is that open?
//!
//! Pure. In doubt it is open: "nothing took effect" is said only where Stripe said so, or where there was no connection.

use std::error::Error as _;

use reqwest::StatusCode;

use super::wire::{ApiError, ErrorBody};
use crate::provider::ProviderError;

/// Why there is no answer that says that the request took effect.
pub(super) enum Failure {
    /// Stripe looked at the request and says no. Callers may know what it means; else it is `Rejected`.
    Refused(StatusCode, ApiError),
    /// Everything else.
    Other(ProviderError),
}

impl From<Failure> for ProviderError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Other(error) => error,
            Failure::Refused(status, error) => Self::Rejected {
                code: error
                    .decline_reason()
                    .or(error.kind)
                    .unwrap_or_else(|| format!("http_{}", status.as_u16())),
                message: error.message.unwrap_or_else(|| status.to_string()),
            },
        }
    }
}

/// A request without an answer took no effect only if there was no connection to send it over.
pub(super) fn unsent(error: &reqwest::Error, address: &str) -> ProviderError {
    let text = format!("{address}: {}", causes(error));
    if error.is_connect() {
        ProviderError::Unavailable(text)
    } else if error.is_builder() {
        invalid(&text)
    } else {
        ProviderError::Unknown(text)
    }
}

/// What an answer other than 2xx means.
pub(super) fn classify(status: StatusCode, body: &[u8], text: &str) -> Failure {
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // Turned away at the door, which says nothing about the payment: an operator has to mend the key, and then it
        // goes on. Not Stripe's own message: it repeats a part of the key.
        let message = format!("the payment provider does not accept the configured secret key ({text})");
        return Failure::Other(ProviderError::Unavailable(message));
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Failure::Other(ProviderError::Unavailable(text.into()));
    }
    // 408 gave up waiting, 409 is another request at work under the same key, 424 failed behind Stripe; a redirect and a
    // body that is not Stripe's come from something in between.
    let open = !status.is_client_error() || matches!(status.as_u16(), 408 | 409 | 424);
    match serde_json::from_slice::<ErrorBody>(body) {
        // Something else happened under this key, so "nothing took effect" would be a lie.
        Ok(ErrorBody { error }) if error.kind.as_deref() == Some("idempotency_error") => {
            Failure::Other(ProviderError::Unknown(format!("{text}: idempotency_error")))
        }
        Ok(ErrorBody { error }) if !open => Failure::Refused(status, error),
        Ok(ErrorBody { error }) => {
            let code = error.code.or(error.kind).unwrap_or_default();
            Failure::Other(ProviderError::Unknown(format!("{text}: {code}")))
        }
        Err(_) => Failure::Other(ProviderError::Unknown(text.into())),
    }
}

pub(super) fn invalid(message: &str) -> ProviderError {
    ProviderError::Rejected { code: "invalid_configuration".into(), message: message.into() }
}

/// The causes of an error on one line. Its own text is left out: it repeats the address.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { "request failed".into() } else { causes.join(": ") }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
