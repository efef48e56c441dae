//! What the reservation engine tells monitoring. Handles, so that counting costs no look-up by name.
//!
//! They belong to the recorder that is installed when the first engine is made: install it before.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// See the descriptions.
pub(super) struct EngineMetrics {
    pub(super) queued: Gauge,
    pub(super) under_way: Gauge,
    pub(super) overloaded: Counter,
    pub(super) at_once: Counter,
    pub(super) decided: Counter,
    pub(super) failed: Counter,
    pub(super) orders: Counter,
    pub(super) duration: Histogram,
    pub(super) batch_orders: Histogram,
    pub(super) lanes_busy: Gauge,
}

/// The metrics of every engine of the process.
pub(super) static METRICS: LazyLock<EngineMetrics> = LazyLock::new(|| {
    let count = Unit::Count;
    describe_gauge!(
        "holdfast_reservation_orders_under_way",
        count,
        "Orders not answered yet, those that wait for locks included; reservation.queue is the most."
    );
    describe_gauge!(
        "holdfast_reservation_queued_orders",
        count,
        "Orders that have their locks and wait for a lane."
    );
    describe_counter!(
        "holdfast_reservation_overloaded_total",
        count,
        "Orders refused because as many as reservation.queue were under way."
    );
    describe_counter!(
        "holdfast_reservation_batches_total",
        count,
        "Batches by what came of them: written at once, decided under row locks, or failed."
    );
    describe_counter!(
        "holdfast_reservation_orders_total",
        count,
        "Orders in batches, whatever came of them."
    );
    describe_histogram!(
        "holdfast_reservation_batch_seconds",
        Unit::Seconds,
        "How long a batch took, its transaction and its retries."
    );
    describe_histogram!("holdfast_reservation_batch_orders", count, "How many orders a batch had.");
    describe_gauge!(
        "holdfast_reservation_lanes_busy",
        count,
        "Batches under way, each on a connection of its own; reservation.lanes is the most, and more than one only while they are slow."
    );
    let batches = |outcome| counter!("holdfast_reservation_batches_total", "outcome" => outcome);
    EngineMetrics {
        under_way: gauge!("holdfast_reservation_orders_under_way"),
        queued: gauge!("holdfast_reservation_queued_orders"),
        overloaded: counter!("holdfast_reservation_overloaded_total"),
        at_once: batches("at_once"),
        decided: batches("decided"),
        failed: batches("failed"),
        orders: counter!("holdfast_reservation_orders_total"),
        duration: histogram!("holdfast_reservation_batch_seconds"),
        batch_orders: histogram!("holdfast_reservation_batch_orders"),
        lanes_busy: gauge!("holdfast_reservation_lanes_busy"),
    }
});
