//! What calls to the provider tell monitoring.
//!
//! They belong to the recorder that is installed when the first breaker is made: install it before.

use std::sync::LazyLock;

use metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use super::ProviderError;

const CALLS: &str = "holdfast_provider_calls_total";

/// 0 closed, 1 half-open, 2 open.
pub(super) static BREAKER_STATE: LazyLock<Gauge> = LazyLock::new(|| {
    describe_counter!(
        CALLS,
        Unit::Count,
        "Calls to the payment provider by what came of them: answered, rejected, unknown, unavailable, or refused by the \
         open circuit breaker."
    );
    describe_gauge!(
        "holdfast_provider_breaker_state",
        Unit::Count,
        "The circuit breaker towards the payment provider: 0 closed, 1 half-open, 2 open."
    );
    gauge!("holdfast_provider_breaker_state")
});

/// Counts a call that reached the breaker's inner provider.
pub(super) fn count_call<T>(call: &'static str, result: &Result<T, ProviderError>) {
    let outcome = match result {
        Ok(_) => "answered",
        Err(ProviderError::Rejected { .. }) => "rejected",
        Err(ProviderError::Unknown(_)) => "unknown",
        Err(ProviderError::Unavailable(_)) => "unavailable",
    };
    counter!(CALLS, "call" => call, "outcome" => outcome).increment(1);
}

/// Counts a call that the open breaker refused.
pub(super) fn count_refused(call: &'static str) {
    counter!(CALLS, "call" => call, "outcome" => "refused").increment(1);
}
