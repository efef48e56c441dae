//! What webhooks tell monitoring, where the process records metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{app::WebhookAttempted, domain::webhook::DeliveryStatus, store::webhook_fan_out::WebhookBacklog};

const ATTEMPTS: &str = "holdfast_webhook_attempts_total";
const DELIVERIES: &str = "holdfast_webhook_deliveries_total";
const DURATION: &str = "holdfast_webhook_attempt_seconds";
const PENDING: &str = "holdfast_webhook_pending";
const OLDEST: &str = "holdfast_webhook_oldest_seconds";
const BEHIND: &str = "holdfast_webhook_events_behind";
const DISABLED: &str = "holdfast_webhook_endpoints_disabled";

/// Says what they mean. Call it once.
pub(super) fn describe() {
    describe_counter!(
        ATTEMPTS,
        Unit::Count,
        "Attempts at deliveries to endpoints, by outcome: succeeded or failed."
    );
    describe_counter!(
        DELIVERIES,
        Unit::Count,
        "Deliveries that are over, by what became of them: delivered, failed (after the last attempt), canceled."
    );
    describe_histogram!(DURATION, Unit::Seconds, "How long attempts took, by outcome.");
    describe_gauge!(PENDING, Unit::Count, "Deliveries that are pending; no more than 10,000 are counted.");
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "For how long the oldest delivery has waited whose time has come."
    );
    describe_gauge!(BEHIND, Unit::Count, "Events in the feed that have yet to become deliveries.");
    describe_gauge!(DISABLED, Unit::Count, "Endpoints that are disabled.");
    // The first of a kind is a growth too.
    for outcome in [DeliveryStatus::Delivered, DeliveryStatus::Failed, DeliveryStatus::Canceled] {
        counter!(DELIVERIES, "outcome" => outcome.as_str()).increment(0);
    }
}

/// An attempt was made and recorded.
pub(super) fn attempted(attempted: &WebhookAttempted) {
    let is_delivered = attempted.status == DeliveryStatus::Delivered;
    let outcome = if is_delivered { "succeeded" } else { "failed" };
    counter!(ATTEMPTS, "outcome" => outcome).increment(1);
    histogram!(DURATION, "outcome" => outcome).record(attempted.duration.as_secs_f64());
    if attempted.status != DeliveryStatus::Pending {
        counter!(DELIVERIES, "outcome" => attempted.status.as_str()).increment(1);
    }
}

/// Deliveries were canceled.
pub(super) fn canceled(count: u64) {
    counter!(DELIVERIES, "outcome" => DeliveryStatus::Canceled.as_str()).increment(count);
}

/// How things stand.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn stand(backlog: WebhookBacklog) {
    gauge!(PENDING).set(backlog.pending as f64);
    gauge!(OLDEST).set(backlog.oldest_seconds);
    gauge!(BEHIND).set(backlog.behind as f64);
    gauge!(DISABLED).set(backlog.disabled_endpoints as f64);
}
