//! What the relay tells monitoring, where the process records metrics.

use std::time::{Instant, SystemTime};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{bus::PublishOutcome, domain::event::Envelope};

const EVENTS: &str = "holdfast_relay_events_total";
const CONFIRM: &str = "holdfast_relay_confirm_seconds";
const LAG: &str = "holdfast_relay_lag_seconds";
const SHARDS: &str = "holdfast_relay_shards";
const EPOCH: &str = "holdfast_relay_epoch";

const BLOCKED: &str = "holdfast_bus_blocked";

/// Says what they mean. Call it once.
pub(super) fn describe() {
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Events published, by type and outcome; what is not confirmed is published again."
    );
    describe_histogram!(CONFIRM, Unit::Seconds, "How long the broker took to confirm a window of events.");
    describe_histogram!(LAG, Unit::Seconds, "From the commit of an event to the broker's confirm.");
    describe_gauge!(BLOCKED, "1 while the broker takes no events: it is away, or low on memory or disk.");
    describe_gauge!(SHARDS, Unit::Count, "Shards of the outbox that this process leases, of 16.");
    describe_gauge!(EPOCH, "The epoch of the lease of a shard; it grows with every change of owner.");
}

/// An event was published.
pub(super) fn published(envelope: &Envelope, outcome: &PublishOutcome) {
    let outcome = match outcome {
        PublishOutcome::Confirmed => "confirmed",
        PublishOutcome::Returned(_) => "returned",
        PublishOutcome::Nacked => "nacked",
        PublishOutcome::Unknown(_) => "unknown",
    };
    counter!(EVENTS, "type" => envelope.event_type.as_str(), "outcome" => outcome).increment(1);
    if outcome == "confirmed" {
        // The clocks of PostgreSQL and of this process may differ.
        let lag = SystemTime::now().duration_since(envelope.time.into()).unwrap_or_default();
        histogram!(LAG).record(lag);
    }
}

/// The fate of every event of a window is known.
pub(super) fn confirmed(since: Instant) {
    histogram!(CONFIRM).record(since.elapsed());
}

/// What became of a window: whether the broker took none of its events, whatever it said of them.
pub(super) fn blocked(is_blocked: bool) {
    gauge!(BLOCKED).set(if is_blocked { 1.0 } else { 0.0 });
}

/// What this process leases.
pub(super) fn leased(leases: &[(i16, i64)]) {
    gauge!(SHARDS).set(u32::try_from(leases.len()).unwrap_or(u32::MAX));
    for (shard, epoch) in leases {
        #[expect(clippy::cast_precision_loss, reason = "an epoch is far below 2^52")]
        gauge!(EPOCH, "shard" => shard.to_string()).set(*epoch as f64);
    }
}
