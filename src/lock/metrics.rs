//! What the locks tell monitoring. Handles, so that counting costs no look-up by name.
//!
//! They belong to the recorder that is installed when a lock is first used: install it before.

use std::sync::LazyLock;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

/// See the descriptions.
pub(super) struct LockMetrics {
    pub(super) acquisitions: Counter,
    pub(super) cache_hits: Counter,
    pub(super) hand_overs: Counter,
    pub(super) lost: Counter,
    pub(super) fenced: Counter,
    pub(super) wait: Histogram,
    pub(super) hold: Histogram,
    pub(super) held_keys: Gauge,
}

/// The metrics of every lock manager of the process.
pub(super) static METRICS: LazyLock<LockMetrics> = LazyLock::new(|| {
    let count = Unit::Count;
    describe_counter!("holdfast_lock_acquisitions_total", count, "Acquisitions that were granted.");
    describe_counter!(
        "holdfast_lock_cache_hits_total",
        count,
        "Acquisitions granted without asking anybody."
    );
    describe_counter!("holdfast_lock_hand_overs_total", count, "Keys given up because somebody else waited.");
    describe_counter!("holdfast_lock_lost_total", count, "Held keys whose node or session vanished.");
    describe_counter!("holdfast_lock_fenced_total", count, "Guards whose token PostgreSQL refused.");
    describe_histogram!(
        "holdfast_lock_wait_seconds",
        Unit::Seconds,
        "How long acquisitions took that were not cache hits."
    );
    describe_histogram!("holdfast_lock_hold_seconds", Unit::Seconds, "How long guards were kept.");
    describe_gauge!("holdfast_lock_held_keys", count, "Keys that this process keeps, used or not.");
    LockMetrics {
        acquisitions: counter!("holdfast_lock_acquisitions_total"),
        cache_hits: counter!("holdfast_lock_cache_hits_total"),
        hand_overs: counter!("holdfast_lock_hand_overs_total"),
        lost: counter!("holdfast_lock_lost_total"),
        fenced: counter!("holdfast_lock_fenced_total"),
        wait: histogram!("holdfast_lock_wait_seconds"),
        hold: histogram!("holdfast_lock_hold_seconds"),
        held_keys: gauge!("holdfast_lock_held_keys"),
    }
});
