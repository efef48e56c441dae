//! What the connections to the broker tell monitoring, where the process records metrics.
//!
//! Owns one task for each link, the only one that writes its gauges. Once a link was used, a connection that broke is made
//! again here: whoever publishes now and then would else be told of as without one. Must not keep a connection open.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{Unit, describe_gauge, gauge};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connection::{Connected, Link};

const CONNECTED: &str = "holdfast_bus_connected";
const BLOCKED_SECONDS: &str = "holdfast_bus_blocked_seconds";

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(500);

/// The gauges of one link.
#[derive(Debug)]
pub(super) struct Monitor {
    role: &'static str,
    link: Weak<Link>,
    current: Arc<Mutex<Weak<Connected>>>,
    is_started: AtomicBool,
    closed: CancellationToken,
}

impl Monitor {
    pub(super) fn new(role: &'static str, link: Weak<Link>, closed: CancellationToken) -> Self {
        Self { role, link, current: Arc::default(), is_started: AtomicBool::new(false), closed }
    }

    /// Begins to tell, also of a connection that never comes about. Does nothing the second time.
    pub(super) fn start(&self) {
        if !self.is_started.swap(true, Ordering::Relaxed) {
            let (link, current) = (Weak::clone(&self.link), Arc::clone(&self.current));
            tokio::spawn(run(self.role, link, current, self.closed.clone()));
        }
    }

    /// From now on this is the connection.
    pub(super) fn watch(&self, connected: &Arc<Connected>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(connected);
    }
}

async fn run(
    role: &'static str,
    link: Weak<Link>,
    current: Arc<Mutex<Weak<Connected>>>,
    closed: CancellationToken,
) {
    describe_gauge!(CONNECTED, "1 while the process is connected to the broker, to publish or to consume.");
    describe_gauge!(
        BLOCKED_SECONDS,
        Unit::Seconds,
        "For how long the broker has taken nothing from the connection, because it is low on memory or disk."
    );
    let (is_connected, seconds) =
        (gauge!(CONNECTED, "connection" => role), gauge!(BLOCKED_SECONDS, "connection" => role));
    let mut since = None;
    while !closed.is_cancelled() {
        let connected = current.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let connected = connected.filter(|connected| connected.is_alive());
        let is_down = connected.is_none();
        is_connected.set(if is_down { 0.0 } else { 1.0 });
        if connected.is_some_and(|connected| connected.is_blocked()) {
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            // 0 is not blocked.
            seconds.set(since.elapsed().as_secs_f64().max(0.001));
        } else {
            since = None;
            seconds.set(0.0);
        }
        let Some(link) = link.upgrade() else { break };
        if is_down {
            // Why it failed is kept by the link, which also waits between attempts.
            let _ = closed.run_until_cancelled(link.get()).await;
        }
        drop(link);
        let _ = closed.run_until_cancelled(sleep(INTERVAL)).await;
    }
    is_connected.set(0.0);
    seconds.set(0.0);
}
