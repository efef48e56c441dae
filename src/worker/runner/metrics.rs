//! What a consumer tells monitoring, where the process records metrics.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const EVENTS: &str = "holdfast_consumer_events_total";
const HANDLING: &str = "holdfast_consumer_handling_seconds";
const IN_FLIGHT: &str = "holdfast_consumer_in_flight";
const PREFETCH: &str = "holdfast_consumer_prefetch";
const ACK_LOST: &str = "holdfast_consumer_ack_lost_total";

/// What became of a delivery.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    Acked,
    Duplicate,
    Retried,
    Dead,
    Released,
}

/// Says what they mean. Call it once for each consumer.
pub(super) fn describe() {
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Deliveries by what became of them; a duplicate had taken effect before."
    );
    describe_histogram!(
        HANDLING,
        Unit::Seconds,
        "How long handling a delivery took, its settlement included."
    );
    describe_gauge!(IN_FLIGHT, Unit::Count, "Deliveries that are being handled.");
    describe_gauge!(
        PREFETCH,
        Unit::Count,
        "How many deliveries the broker may have out to this process; 0 while it takes none."
    );
    describe_counter!(
        ACK_LOST,
        Unit::Count,
        "Settlements that did not reach the broker, because the connection broke: the delivery comes again."
    );
}

pub(super) fn settled(consumer: &'static str, outcome: Outcome) {
    let outcome = match outcome {
        Outcome::Acked => "acked",
        Outcome::Duplicate => "duplicate",
        Outcome::Retried => "retried",
        Outcome::Dead => "dead",
        Outcome::Released => "released",
    };
    counter!(EVENTS, "consumer" => consumer, "outcome" => outcome).increment(1);
}

pub(super) fn handled(consumer: &'static str, time: Duration) {
    histogram!(HANDLING, "consumer" => consumer).record(time.as_secs_f64());
}

pub(super) fn in_flight(consumer: &'static str, count: usize) {
    gauge!(IN_FLIGHT, "consumer" => consumer).set(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(super) fn prefetch(consumer: &'static str, prefetch: u16) {
    gauge!(PREFETCH, "consumer" => consumer).set(prefetch);
}

pub(super) fn ack_lost(consumer: &'static str) {
    counter!(ACK_LOST, "consumer" => consumer).increment(1);
}
