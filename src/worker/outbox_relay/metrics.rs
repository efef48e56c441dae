//! What the relay tells monitoring, where the process records metrics.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::bus::PublishOutcome;

const EVENTS: &str = "holdfast_relay_events_total";
const SHARDS: &str = "holdfast_relay_shards";
const EPOCH: &str = "holdfast_relay_epoch";

const BLOCKED: &str = "holdfast_bus_blocked";

/// Says what they mean. Call it once.
pub(super) fn describe() {
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Events published, by outcome; what is not confirmed is published again."
    );
    describe_gauge!(BLOCKED, "1 while the broker takes no events: it is away, or low on memory or disk.");
    describe_gauge!(SHARDS, Unit::Count, "Shards of the outbox that this process leases, of 16.");
    describe_gauge!(EPOCH, "The epoch of the lease of a shard; it grows with every change of owner.");
}

/// An event was published.
pub(super) fn published(outcome: &PublishOutcome) {
    let outcome = match outcome {
        PublishOutcome::Confirmed => "confirmed",
        PublishOutcome::Returned(_) => "returned",
        PublishOutcome::Nacked => "nacked",
        PublishOutcome::Unknown(_) => "unknown",
    };
    counter!(EVENTS, "outcome" => outcome).increment(1);
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
