//! What happens around a held node: somebody queues behind it, or it vanishes. One task for each, until it is given up.
//!
//! One-shot watches only. The watch on the queue is set while nobody waits behind; from then on the node is to be given up
//! within bounds, and only its own end is of interest.

use std::{sync::Arc, time::Duration};

use tokio::time;

use super::{Cache, hand_over::HandOver, table::Node};
use crate::lock::zookeeper::{entry::RETRY, session::Fault, turn::View};

/// Between two looks at a queue that may not be read.
const BLIND: Duration = Duration::from_secs(1);

/// Until the node is given up, lost, or its session is over.
pub(super) async fn keep(cache: Arc<Cache>, node: Arc<Node>, mut view: View) {
    let session = node.session.clone();
    tokio::select! {
        biased;
        () = session.ended().cancelled() => return,
        () = uncontended(&cache, &node, &mut view) => {}
    }
    tokio::select! {
        biased;
        () = session.ended().cancelled() => {}
        () = contended(&cache, &node) => {}
    }
}

/// Returns when somebody waits behind the node, or it is not held any more.
async fn uncontended(cache: &Cache, node: &Node, seen: &mut View) {
    while !seen.is_contended() {
        let reconnected = node.session.reconnected();
        if let Some(watch) = seen.watch.take() {
            tokio::select! {
                _ = watch.changed() => {}
                // The client sets its watches again, but to look costs little.
                () = reconnected => {}
            }
        }
        if !cache.with(|table, _, _| table.holds(node)) {
            return;
        }
        match View::read_again(&node.session, &node.queue).await {
            Ok(view) if view.ahead_of(node.name()).is_ok() => *seen = view,
            Ok(_) | Err(Fault::NoNode) => return cache.with(|table, _, fx| table.lose_node(node, fx)),
            Err(fault) => {
                tracing::warn!(%fault, key = %node.key, "the queue behind a held lock cannot be seen");
                time::sleep(BLIND).await;
            }
        }
    }
}

/// Gives the node up within bounds; returns when it is not held any more.
async fn contended(cache: &Cache, node: &Node) {
    loop {
        match cache.with(|table, now, fx| table.hand_over(node, now, fx)) {
            HandOver::Done => return,
            HandOver::Draining => break,
            HandOver::Wait(until) => time::sleep_until(until).await,
        }
    }
    // Somebody pins it for longer than is good. Whoever that is wants to know if it is lost.
    while cache.with(|table, _, _| table.holds(node)) {
        let reconnected = node.session.reconnected();
        match node.session.call(node.session.client().check_and_watch_stat(&node.path)).await {
            Ok((None, watch)) => {
                cache.with(|table, _, fx| table.lose_node(node, fx));
                drop(watch);
            }
            Ok((Some(_), watch)) => {
                tokio::select! {
                    _ = watch.changed() => {}
                    () = reconnected => {}
                }
            }
            Err(_) => time::sleep(RETRY).await,
        }
    }
}
