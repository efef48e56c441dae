//! What the pools tell monitoring: their connections, and how long somebody waits for one.
//!
//! They belong to the recorder that is installed when the store connects: install it before.

use std::time::Instant;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};
use sqlx::PgPool;

use crate::telemetry::metrics::at_scrape;

const CONNECTIONS: &str = "holdfast_database_connections";
const CONNECTIONS_MAX: &str = "holdfast_database_connections_max";
const WAITING: &str = "holdfast_database_waiting";
const ACQUIRE: &str = "holdfast_database_acquire_seconds";
const FAILED: &str = "holdfast_database_acquire_failures_total";

/// Of one pool.
#[derive(Clone)]
pub(super) struct PoolMetrics {
    waiting: Gauge,
    acquire: Histogram,
    failed: Counter,
}

impl std::fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolMetrics").finish_non_exhaustive()
    }
}

impl PoolMetrics {
    /// Watches a pool by this name.
    pub(super) fn of(name: &'static str, pool: &PgPool) -> Self {
        describe();
        let watched = pool.clone();
        at_scrape(move || {
            let idle = watched.num_idle();
            let in_use = (watched.size() as usize).saturating_sub(idle);
            let of = |state: &'static str| gauge!(CONNECTIONS, "pool" => name, "state" => state);
            of("idle").set(number(idle));
            of("in_use").set(number(in_use));
            gauge!(CONNECTIONS_MAX, "pool" => name).set(f64::from(watched.options().get_max_connections()));
        });
        Self {
            waiting: gauge!(WAITING, "pool" => name),
            acquire: histogram!(ACQUIRE, "pool" => name),
            failed: counter!(FAILED, "pool" => name),
        }
    }

    /// Somebody begins to wait for a connection.
    pub(super) fn begin(&self) -> Wait<'_> {
        self.waiting.increment(1);
        Wait { of: self, since: Instant::now() }
    }
}

fn describe() {
    let count = Unit::Count;
    describe_gauge!(CONNECTIONS, count, "Connections to PostgreSQL by pool, in use and idle.");
    describe_gauge!(
        CONNECTIONS_MAX,
        count,
        "How many connections a pool may have: database.max_connections."
    );
    describe_gauge!(WAITING, count, "Who waits for a connection of a pool.");
    describe_histogram!(ACQUIRE, Unit::Seconds, "How long somebody waited for a connection of a pool.");
    describe_counter!(
        FAILED,
        count,
        "Who got no connection: the server did not answer, or all were in use for database.acquire_timeout_ms."
    );
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// One who waits for a connection, until it is dropped.
pub(super) struct Wait<'a> {
    of: &'a PoolMetrics,
    since: Instant,
}

impl Wait<'_> {
    /// What came of it.
    pub(super) fn end<T, E>(self, acquired: Result<T, E>) -> Result<T, E> {
        match &acquired {
            Ok(_) => self.of.acquire.record(self.since.elapsed()),
            Err(_) => self.of.failed.increment(1),
        }
        acquired
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.of.waiting.decrement(1);
    }
}
