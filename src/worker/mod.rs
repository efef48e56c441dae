//! The workers: the processes behind the queues. Each can run alone, or all in one process.
//!
//! A worker decides nothing about the business: it takes an event, calls a use case, and settles the event by what that
//! answers. `outbox_relay` is the only caller of `EventBus::publish`.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    bus::{EventBus, Subscription},
    config,
    members::MemberDirectory,
};

mod bounded;
mod dead_letters;
mod expiry;
mod fulfilment;
mod import;
mod outbox_relay;
mod payment;
mod queue_depths;
mod reconciliation;
mod retention;
mod runner;
mod topology;
mod webhook;

pub use runner::{Consumer, ConsumerOptions, run_consumer};

/// How much longer than the drain time the end of a process may take.
const BEYOND_DRAIN: Duration = Duration::from_secs(5);

/// A worker that can be chosen on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkerKind {
    /// Authorizes, captures, voids and refunds payments, and looks up those that are not settled.
    Payment,
    /// Makes shipments for confirmed orders, and ships them.
    Fulfilment,
    /// Ends holds whose time has run out.
    Expiry,
    /// Does the rows of stock imports.
    Import,
    /// Publishes the outbox, stores what the broker gives up on, and sends dead letters again that are to be replayed.
    Relay,
    /// Deletes what has been kept for long enough.
    Retention,
    /// Posts events to the merchant's endpoints.
    Webhook,
}

impl WorkerKind {
    /// Every worker.
    pub const ALL: [Self; 7] = [
        Self::Payment,
        Self::Fulfilment,
        Self::Expiry,
        Self::Import,
        Self::Relay,
        Self::Retention,
        Self::Webhook,
    ];

    /// Whether it needs the event bus. Holds end on time, and stock is imported, also while the broker is away.
    pub fn uses_bus(self) -> bool {
        !matches!(self, Self::Expiry | Self::Import | Self::Retention | Self::Webhook)
    }
}

/// Every consumer, so that any process can declare the whole topology: an event published before its consumer has ever
/// run must find the queue.
pub const CONSUMERS: [&dyn Consumer; 2] = [&payment::PaymentConsumer, &fulfilment::FulfilmentConsumer];

/// What they want.
pub fn subscriptions() -> Vec<Subscription> {
    CONSUMERS.iter().map(|consumer| consumer.subscription()).collect()
}

/// Runs workers until `shutdown` fires and they have drained. A worker that panics stops all, and is the error.
pub async fn run(
    kinds: &[WorkerKind],
    app: &App,
    bus: &Arc<dyn EventBus>,
    directory: &Arc<dyn MemberDirectory>,
    settings: &config::Worker,
    shutdown: &CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    if kinds.iter().any(|kind| kind.uses_bus()) {
        topology::declare(bus.as_ref(), shutdown).await;
    }
    let mut workers = JoinSet::new();
    for kind in kinds {
        let (app, bus, shutdown) = (app.clone(), Arc::clone(bus), shutdown.clone());
        let drain = settings.drain();
        tracing::info!(worker = ?kind, "worker started");
        match kind {
            WorkerKind::Payment => {
                let consumer = &payment::PaymentConsumer;
                workers.spawn(reconciliation::run(app.clone(), settings.payment.clone(), shutdown.clone()));
                let options = ConsumerOptions {
                    concurrency: settings.payment.concurrency,
                    max_prefetch: settings.payment.max_prefetch,
                    drain,
                };
                workers.spawn(run_consumer(consumer, app, bus, options, shutdown));
            }
            WorkerKind::Fulfilment => {
                let consumer = &fulfilment::FulfilmentConsumer;
                let options = ConsumerOptions {
                    concurrency: settings.fulfilment.concurrency,
                    max_prefetch: settings.fulfilment.max_prefetch,
                    drain,
                };
                workers.spawn(run_consumer(consumer, app, bus, options, shutdown));
            }
            WorkerKind::Expiry => {
                workers.spawn(expiry::run(app, settings.expiry.clone(), shutdown));
            }
            WorkerKind::Import => {
                workers.spawn(import::run(app, settings.import.clone(), shutdown));
            }
            WorkerKind::Relay => {
                workers.spawn(dead_letters::run(app.clone(), Arc::clone(&bus), shutdown.clone()));
                workers.spawn(queue_depths::run(Arc::clone(&bus), shutdown.clone()));
                workers.spawn(topology::keep(Arc::clone(&bus), shutdown.clone()));
                let directory = Arc::clone(directory);
                workers.spawn(outbox_relay::run(app, bus, directory, settings.relay.clone(), shutdown));
            }
            WorkerKind::Retention => {
                workers.spawn(retention::run(app, settings.retention.clone(), shutdown));
            }
            WorkerKind::Webhook => {
                let settings = &settings.webhook;
                workers.spawn(webhook::fan_out(app.clone(), settings.clone(), shutdown.clone()));
                workers.spawn(webhook::keep_up(app.clone(), shutdown.clone()));
                workers.spawn(webhook::deliver(app, settings.clone(), shutdown, drain));
            }
        }
    }
    join(workers, settings.drain() + BEYOND_DRAIN, shutdown).await
}

/// Waits for the workers, once they are to stop for so long at most. What is cut off then is as if the process had been killed.
async fn join(
    mut workers: JoinSet<()>,
    longest_stop: Duration,
    shutdown: &CancellationToken,
) -> Result<(), tokio::task::JoinError> {
    let mut outcome = Ok(());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(longest_stop).await;
    };
    tokio::pin!(overdue);
    loop {
        let ended = tokio::select! {
            ended = workers.join_next() => ended,
            () = &mut overdue => {
                tracing::error!(workers = workers.len(), "workers do not end: they are cut off");
                return outcome;
            }
        };
        match ended {
            None => return outcome,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!(%error, "a worker panicked: stopping the process");
                shutdown.cancel();
                outcome = Err(error);
            }
        }
    }
}

/// Waits. `true`: stop.
async fn pause(time: Duration, shutdown: &CancellationToken) -> bool {
    shutdown.run_until_cancelled(tokio::time::sleep(time)).await.is_none()
}
