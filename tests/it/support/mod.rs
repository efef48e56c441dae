//! What tests share: servers, network faults, waiting.

pub(crate) mod api;
pub(crate) mod app;
pub(crate) mod broker;
pub(crate) mod canned;
pub(crate) mod cluster;
pub(crate) mod collector;
pub(crate) mod contract;
pub(crate) mod database;
pub(crate) mod ensemble;
pub(crate) mod events;
pub(crate) mod faulty_provider;
pub(crate) mod gate;
pub(crate) mod history;
pub(crate) mod lock_system;
pub(crate) mod meeting;
pub(crate) mod operations;
pub(crate) mod past_days;
pub(crate) mod payments;
pub(crate) mod programs;
pub(crate) mod raw_http;
pub(crate) mod receiver;
pub(crate) mod rival;
pub(crate) mod sandbox;
pub(crate) mod setup;
pub(crate) mod shop;
pub(crate) mod stack;
pub(crate) mod stripe_mock;
pub(crate) mod system;
pub(crate) mod tcp_proxy;
pub(crate) mod traffic;
pub(crate) mod webhooks;
pub(crate) mod zookeeper;
pub(crate) mod zookeeper_admin;

use std::time::Duration;

use tokio::time::{self, Instant};

/// Longer than anything takes that works, on a machine under load too; only a test that fails waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `condition` holds; panics with `what` when it does not within `within`.
pub(crate) async fn eventually(what: &str, within: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        time::sleep(Duration::from_millis(5)).await;
    }
}

/// So many milliseconds from now.
pub(crate) fn in_ms(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}
