//! A claim on its way: one task that enters the queues of some keys with one request, and hands each node to the table when
//! it is the first of its queue.
//!
//! The task owns a node until then, whatever becomes of the requests that it was started for. A claim does not outlive its
//! session: the table makes new ones in the next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{
    StreamExt as _,
    future::{try_join, try_join_all},
    stream::FuturesUnordered,
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    Cache,
    table::{Node, Ticket},
};
use crate::lock::{
    LockError,
    zookeeper::{
        entry::{Entry, Nodes, RETRY},
        session::{Fault, Session},
        turn::{View, first},
    },
};

/// A claim on its way, as the table and the task see it.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: Ticket,
    pub(super) session: Arc<Session>,
    /// Sorted, without duplicates.
    pub(super) keys: Arc<[Arc<str>]>,
    /// The request that it is made for, if it is made for one alone.
    pub(super) request: Option<Ticket>,
    /// Whether it waits for those ahead.
    pub(super) patient: bool,
    /// Where it waits. See [`crate::lock::zookeeper::entry::Blueprint`].
    pub(super) waiting_for: Arc<AtomicUsize>,
    /// Nobody wants it any more.
    pub(super) cancel: CancellationToken,
}

/// Until every node has landed, or the claim came to nothing.
pub(super) async fn fly(cache: Arc<Cache>, flight: Arc<Flight>) {
    let blueprint = cache.plan.blueprint(flight.keys.clone(), flight.waiting_for.clone());
    let mut entry = Entry::new(flight.session.clone(), &blueprint);
    let outcome = tokio::select! {
        biased;
        // The end of the session deletes the nodes of every claim at once.
        () = cache.closing.cancelled() => return,
        () = flight.session.ended().cancelled() => Err(Fault::Ended),
        () = flight.cancel.cancelled() => Ok(()),
        outcome = wait(&cache, &flight, &mut entry) => outcome,
    };
    let answer = match outcome {
        Err(Fault::Refused(reason)) => Some(Err(LockError::Unavailable(format!("refused: {reason}")))),
        // It was not to wait.
        Ok(()) if !flight.patient => Some(Ok(None)),
        Ok(()) | Err(_) => None,
    };
    // Whoever is told that it failed may try again at once, and must not find these nodes.
    if !matches!(&answer, Some(Err(_))) {
        entry.leave().await;
    }
    cache.with(|table, _, fx| table.fail(&flight, answer, fx));
    entry.leave().await;
}

/// Enters, waits and lands, and leaves in `entry` what did not land.
async fn wait(cache: &Cache, flight: &Flight, entry: &mut Entry<'_>) -> Result<(), Fault> {
    while let Err(fault) = entry.enter().await {
        let Fault::Unanswered(_) = fault else { return Err(fault) };
        time::sleep(RETRY).await;
        flight.session.connected().await?;
    }
    cache.with(|table, _, _| table.entered(flight));
    let (czxid, views) = loop {
        match look(entry).await {
            Err(Fault::Unanswered(_)) => time::sleep(RETRY).await,
            outcome => break outcome?,
        }
        flight.session.connected().await?;
    };
    let nodes: Vec<Node> = flight
        .keys
        .iter()
        .zip(entry.queues.iter().cloned().zip(entry.paths().iter().cloned()))
        .map(|(key, (queue, path))| Node {
            session: flight.session.clone(),
            key: key.clone(),
            queue,
            path,
            czxid,
        })
        .collect();
    if !flight.patient {
        for (node, view) in nodes.iter().zip(&views) {
            if view.ahead_of(node.name())?.is_some() || !flight.session.is_connected() {
                return Ok(());
            }
        }
    }
    // All that is free lands at once, and only then are requests looked at.
    let (mut landing, mut waiting) = (Vec::new(), FuturesUnordered::new());
    for (index, (node, view)) in nodes.into_iter().zip(views).enumerate() {
        if view.ahead_of(node.name())?.is_none() && flight.session.is_connected() {
            landing.push((node, view));
        } else {
            waiting.push(async move {
                let waits = || flight.waiting_for.store(index + 1, Ordering::Relaxed);
                let view = first(&node.session, &node.queue, node.name(), view, waits).await?;
                Ok::<_, Fault>((node, view))
            });
        }
    }
    loop {
        land(cache, flight, entry, landing)?;
        match waiting.next().await {
            None => return Ok(()),
            Some(landed) => landing = vec![landed?],
        }
    }
}

/// Hands nodes to the table. From then on it deletes them.
fn land(
    cache: &Cache,
    flight: &Flight,
    entry: &mut Entry<'_>,
    landing: Vec<(Node, View)>,
) -> Result<(), Fault> {
    let paths: Vec<String> = landing.iter().map(|(node, _)| node.path.clone()).collect();
    if !cache.with(|table, now, fx| table.land(flight, landing, now, fx)) {
        return Err(Fault::Ended);
    }
    if let Nodes::Present(nodes) = &mut entry.nodes {
        nodes.retain(|node| !paths.contains(node));
    }
    Ok(())
}

/// The czxid of the nodes, and each queue with a watch on it. As many requests as keys, all on their way at once.
async fn look(entry: &Entry<'_>) -> Result<(i64, Vec<View>), Fault> {
    let (session, Some(node)) = (&entry.session, entry.paths().first()) else { return Err(Fault::NoNode) };
    let stat = session.call(session.client().check_stat(node));
    let views = try_join_all(entry.queues.iter().map(|queue| View::read(session, queue)));
    let (stat, views) = try_join(stat, views).await?;
    Ok((stat.ok_or(Fault::NoNode)?.czxid, views))
}
