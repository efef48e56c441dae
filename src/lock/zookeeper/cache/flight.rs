//! A claim on its way: one task that enters the queues of some keys, waits until each node is the first, and hands the
//! nodes over to the table.
//!
//! The task owns its nodes until then, whatever becomes of the request that it was started for.

use std::sync::{Arc, atomic::AtomicUsize};

use tokio_util::sync::CancellationToken;

use super::{Cache, table::Ticket};
use crate::lock::{
    LockError,
    zookeeper::{entry::Entry, session::Fault},
};

/// A claim on its way, as the table and the task see it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: Ticket,
    /// Sorted, without duplicates.
    pub(super) keys: Arc<[Arc<str>]>,
    /// Whether it waits for those ahead.
    pub(super) patient: bool,
    /// See [`crate::lock::zookeeper::entry::Blueprint`].
    pub(super) waiting_for: Arc<AtomicUsize>,
    /// Nobody wants it any more.
    pub(super) cancel: CancellationToken,
}

/// Until the claim landed, failed or was cancelled.
pub(super) async fn fly(cache: Arc<Cache>, flight: Arc<Flight>) {
    let blueprint = cache.plan.blueprint(flight.keys.clone(), flight.waiting_for.clone());
    let mut sessions = cache.sessions.subscribe();
    loop {
        let session = tokio::select! {
            biased;
            () = cache.closing.cancelled() => return,
            () = flight.cancel.cancelled() => return,
            session = sessions.wait_for(Option::is_some) => session.ok().and_then(|session| session.clone()),
        };
        let Some(session) = session else { return };
        let mut entry = Entry::new(session, &blueprint);
        let outcome = tokio::select! {
            biased;
            // The end of the session deletes the nodes of every claim at once.
            () = cache.closing.cancelled() => return,
            () = flight.cancel.cancelled() => Ok(None),
            outcome = entry.obtain(flight.patient, true) => outcome,
        };
        match outcome {
            Ok(Some(turn)) => {
                let nodes = entry.queues.iter().cloned().zip(entry.paths().iter().cloned()).collect();
                let session = entry.session.clone();
                if cache.with(|table, now, fx| table.land(&flight, &session, (nodes, turn), now, fx)) {
                    return;
                }
                entry.leave().await;
                if flight.cancel.is_cancelled() {
                    return;
                }
            }
            // Until the sentinel knows it too.
            Err(Fault::Ended) => entry.session.ended().cancelled().await,
            Ok(None) => {
                entry.leave().await;
                return cache.with(|table, _, fx| table.fail(&flight, Ok(None), fx));
            }
            Err(fault) => {
                let error = LockError::Unavailable(fault.to_string());
                cache.with(|table, _, fx| table.fail(&flight, Err(error), fx));
                return entry.leave().await;
            }
        }
    }
}
