//! The load: a closed loop. Each client sends an order over its one connection, waits for the answer, and sends the next.
//!
//! All clients run on one thread of their own, which does nothing else. A refusal that is not a 503 ends the run: the
//! stock suffices, so it would be a fault. Invariant: no request is in flight when [`run`] has returned a tally.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout_at},
};

use super::{database::Sent, orders::Orders, usage::Window, wire::Connection};

/// How long after the end of the window a last answer may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many connections send the orders that do not count.
const CONNECTIONS: usize = 32;

/// One client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// The process that it talks to.
    pub(super) address: SocketAddr,
    /// What it orders.
    pub(super) orders: Arc<Orders>,
    /// How often it orders; without it, as soon as it has its answer.
    pub(super) pace: Option<Duration>,
    /// Whether its latencies count.
    pub(super) is_watched: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// All orders, those of the warm-up too.
    pub(super) sent: Sent,
    /// Orders accepted within the window.
    pub(super) in_window: u64,
    /// Orders answered by 503 within the window.
    pub(super) refused: u64,
    /// Of the orders accepted within the window, of watched clients, in microseconds.
    pub(super) latencies: Vec<u32>,
}

/// Runs the clients until the window ends.
pub(super) async fn run(clients: Vec<Client>, window: Window) -> anyhow::Result<Tally> {
    let (sender, tally) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        // Nobody waits for the tally any more where this was interrupted.
        let _ = sender.send(runtime.block_on(drive(clients, window)));
    };
    thread::Builder::new().name("load".into()).spawn(work)?;
    tally.await.context("the load generator panicked")?
}

/// Sends every order once before anything counts: a process that keeps its locks then has them all, and PostgreSQL has read
/// every level.
pub(super) async fn send_each_once(address: SocketAddr, orders: &Arc<Orders>) -> anyhow::Result<Sent> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (orders, next) = (Arc::clone(orders), Arc::clone(&next));
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut sent = Sent::default();
            while let Some(order) = orders.all().get(next.fetch_add(1, Ordering::Relaxed)) {
                let (status, body) = connection.send(order).await?;
                match status {
                    201 => sent.accepted += 1,
                    503 => sent.refused += 1,
                    _ => bail!("an order was answered {status}: {}", String::from_utf8_lossy(body)),
                }
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = Sent::default();
    while let Some(finished) = tasks.join_next().await {
        sent += finished??;
    }
    Ok(sent)
}

async fn drive(clients: Vec<Client>, window: Window) -> anyhow::Result<Tally> {
    let mut tasks: JoinSet<_> = clients.into_iter().map(|client| client.run(window)).collect();
    let mut sum = Tally::default();
    let deadline = Instant::from_std(window.end) + PATIENCE;
    while let Some(finished) = timeout_at(deadline, tasks.join_next())
        .await
        .with_context(|| format!("orders were not answered within {} s", PATIENCE.as_secs()))?
    {
        let tally = finished??;
        sum.sent += tally.sent;
        sum.in_window += tally.in_window;
        sum.refused += tally.refused;
        sum.latencies.extend(tally.latencies);
    }
    Ok(sum)
}

impl Client {
    async fn run(self, window: Window) -> anyhow::Result<Tally> {
        let mut connection = Connection::open(self.address).await?;
        let mut tally = Tally::default();
        let mut ticks = self.pace.map(|pace| {
            let mut ticks = interval_at(Instant::now(), pace);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        loop {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let began = std::time::Instant::now();
            if began >= window.end {
                return Ok(tally);
            }
            let (status, body) = connection.send(self.orders.next()).await?;
            let ended = std::time::Instant::now();
            let counts = window.contains(ended);
            match status {
                201 => {
                    tally.sent.accepted += 1;
                    tally.in_window += u64::from(counts);
                    if counts && self.is_watched {
                        let micros = ended.saturating_duration_since(began).as_micros();
                        tally.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
                    }
                }
                503 => {
                    tally.sent.refused += 1;
                    tally.refused += u64::from(counts);
                }
                _ => bail!("an order was answered {status}: {}", String::from_utf8_lossy(body)),
            }
        }
    }
}
