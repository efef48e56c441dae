//! Deletes the nodes that the table gave up, several at a time.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Cache, table::Node};
use crate::lock::zookeeper::{entry::delete, session::Session};

/// How many nodes one request deletes.
const BATCH: usize = 256;

/// Until closing: the end of the session deletes everything.
pub(super) async fn release(cache: Arc<Cache>, mut given_up: mpsc::UnboundedReceiver<Arc<Node>>) {
    loop {
        let mut nodes = Vec::new();
        let count = tokio::select! {
            biased;
            () = cache.closing.cancelled() => return,
            count = given_up.recv_many(&mut nodes, BATCH) => count,
        };
        if count == 0 {
            return;
        }
        while let Some(session) = nodes.first().map(|node| node.session.clone()) {
            let (batch, rest) = nodes.into_iter().partition(|node| Arc::ptr_eq(&node.session, &session));
            nodes = rest;
            // The next batch does not wait for the answer to this one.
            cache.spawn(delete_batch(cache.clone(), session, batch));
        }
    }
}

async fn delete_batch(cache: Arc<Cache>, session: Arc<Session>, nodes: Vec<Arc<Node>>) {
    let paths: Vec<String> = nodes.iter().map(|node| node.path.clone()).collect();
    tokio::select! {
        biased;
        () = cache.closing.cancelled() => {}
        () = session.ended().cancelled() => {}
        () = delete(&session, &paths) => {}
    }
}
