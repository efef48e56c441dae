//! The nodes of one claim on one session: their creation and their deletion. `turn` has the waiting in between.
//!
//! Every method may be dropped at any await: what was sent is remembered in [`Entry::nodes`] before it is sent, and
//! [`Entry::leave`] deletes it.
//!
//! # Why claims on several keys cannot deadlock
//! All nodes of a claim are created by one `multi`, which is one transaction. So claims are totally ordered by its zxid,
//! and in every queue in which two claims meet, the same one is ahead. A claim waits only for claims that are ahead of it,
//! so waiting follows the order and has no cycle; the oldest claim waits for nobody. This holds only as long as *every*
//! claim is entered whole: one that took a key first and a second one later could be ahead in one queue and behind in
//! the other. A claim that found one of its nodes gone therefore leaves every queue and enters again at the tail.
//!
//! For the same reason one czxid is the fencing token of every key of the claim: each queue is served in the order of
//! its nodes' czxid, which grows for as long as the ensemble keeps its data, also when the queue's parent is collected
//! and its sequence numbers start again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use tokio::time;
use uuid::Uuid;
use zookeeper_client::{Acls, CreateMode, MultiWriteResult};

use super::{
    path,
    session::{Fault, Session},
};

/// A request must stay below the server's `jute.maxbuffer` (1 MiB), or the server cuts the connection.
const REQUEST_BYTES_MAX: usize = 900 * 1024;
/// What a node costs in a request beyond its path and its data.
const NODE_BYTES: usize = 100;

/// Between attempts that fail at once although the session is connected.
pub(super) const RETRY: Duration = Duration::from_millis(20);

/// What the nodes of a claim are made of.
#[derive(Debug)]
pub(super) struct Blueprint {
    /// Sorted, without duplicates.
    pub(super) keys: Arc<[Arc<str>]>,
    pub(super) root: String,
    pub(super) data: Vec<u8>,
    pub(super) acls: Acls<'static>,
    /// The key that somebody ahead holds or waits for, as its index plus one. Written by the claim's task, read by whoever
    /// asks what it waits for.
    pub(super) waiting_for: Arc<AtomicUsize>,
}

impl Blueprint {
    /// The key that is waited for, as far as is known: `None` while the servers owe an answer.
    pub(super) fn waiting_for(&self) -> Option<&str> {
        waiting_for(&self.keys, &self.waiting_for).map(AsRef::as_ref)
    }
}

/// The key at an index plus one.
pub(super) fn waiting_for<'a>(keys: &'a [Arc<str>], index: &AtomicUsize) -> Option<&'a Arc<str>> {
    keys.get(index.load(Ordering::Relaxed).checked_sub(1)?)
}

/// What is known about the nodes.
#[derive(Debug)]
pub(super) enum Nodes {
    /// There are none.
    Absent,
    /// Their creation was sent; there is no answer to it.
    Unknown,
    /// Their paths, in the order of the keys.
    Present(Vec<String>),
}

/// A claim's place in the queues of its keys.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) session: Arc<Session>,
    pub(super) blueprint: &'a Blueprint,
    /// The queue of each key.
    pub(super) queues: Vec<String>,
    /// Marks the nodes as this entry's, for when the answer to their creation is lost.
    id: Uuid,
    pub(super) nodes: Nodes,
}

impl<'a> Entry<'a> {
    pub(super) fn new(session: Arc<Session>, blueprint: &'a Blueprint) -> Self {
        let queues = blueprint.keys.iter().map(|key| path::queue(&blueprint.root, key)).collect();
        blueprint.waiting_for.store(0, Ordering::Relaxed);
        Self { session, blueprint, queues, id: Uuid::now_v7(), nodes: Nodes::Absent }
    }

    /// The key that is waited for, as far as is known: `None` while the servers owe an answer.
    pub(super) fn waiting_for(&self) -> Option<&'a str> {
        match self.nodes {
            Nodes::Present(_) if self.session.is_connected() => self.blueprint.waiting_for(),
            _ => None,
        }
    }

    /// The paths of the nodes that exist.
    pub(super) fn paths(&self) -> &[String] {
        if let Nodes::Present(paths) = &self.nodes { paths } else { &[] }
    }

    /// Creates the nodes, or finds out that they were created.
    pub(super) async fn enter(&mut self) -> Result<(), Fault> {
        loop {
            match self.nodes {
                Nodes::Present(_) => return Ok(()),
                Nodes::Unknown => self.find().await?,
                Nodes::Absent => match self.create().await {
                    Err(Fault::NoNode) => self.make_queues().await?,
                    outcome => return outcome,
                },
            }
        }
    }

    async fn create(&mut self) -> Result<(), Fault> {
        let options = CreateMode::EphemeralSequential.with_acls(self.blueprint.acls);
        let prefix = path::node_prefix(self.id);
        let mut writer = self.session.client().new_multi_writer();
        let mut bytes = 0;
        for queue in &self.queues {
            let node = format!("{queue}/{prefix}");
            bytes += node.len() + self.blueprint.data.len() + NODE_BYTES;
            writer.add_create(&node, &self.blueprint.data, &options)?;
        }
        if bytes > REQUEST_BYTES_MAX {
            return Err(Fault::Refused(format!("{} keys do not fit into one request", self.queues.len())));
        }
        self.nodes = Nodes::Unknown;
        let outcome = self.session.call(writer.commit()).await;
        self.nodes = match &outcome {
            Ok(results) => Nodes::Present(created(results)),
            Err(Fault::Unanswered(_)) => Nodes::Unknown,
            Err(_) => Nodes::Absent,
        };
        outcome.map(drop)
    }

    /// Makes the queues that are missing: never used before, or collected because they were empty.
    async fn make_queues(&self) -> Result<(), Fault> {
        self.make(&self.blueprint.root, CreateMode::Persistent).await?;
        try_join_all(self.queues.iter().map(|queue| self.make(queue, CreateMode::Container))).await.map(drop)
    }

    async fn make(&self, path: &str, mode: CreateMode) -> Result<(), Fault> {
        let client = self.session.client();
        // A creation that fails costs a transaction like one that succeeds; to ask first is cheap.
        if self.session.call(client.check_stat(path)).await?.is_some() {
            return Ok(());
        }
        let options = mode.with_acls(self.blueprint.acls);
        match self.session.call(client.mkdir(path, &options)).await {
            Err(Fault::NoNode) => {
                Err(Fault::Refused("the root in the connection string does not exist".into()))
            }
            outcome => outcome,
        }
    }

    /// Resolves [`Nodes::Unknown`]: all nodes exist, or none. `sync` first: the answer may come from another server than
    /// the one that took the creation.
    async fn find(&mut self) -> Result<(), Fault> {
        self.session.call(self.session.client().sync(&self.blueprint.root)).await?;
        let (lists, _) = self.look(None).await?;
        let prefix = path::node_prefix(self.id);
        let own = self.queues.iter().zip(lists).flat_map(|(queue, children)| {
            let own = children.into_iter().filter(|name| name.starts_with(&prefix));
            own.map(move |name| format!("{queue}/{name}"))
        });
        let own: Vec<String> = own.collect();
        if own.len() == self.queues.len() || own.is_empty() {
            self.nodes = if own.is_empty() { Nodes::Absent } else { Nodes::Present(own) };
            return Ok(());
        }
        // Somebody deleted some of them. `leave` deletes the rest.
        self.nodes = Nodes::Present(own);
        Err(Fault::NoNode)
    }

    /// Deletes the nodes, if there are or may be any. Tries for as long as the session lives: its end deletes them too.
    pub(super) async fn leave(&mut self) {
        loop {
            match &self.nodes {
                Nodes::Absent => return,
                Nodes::Present(nodes) => {
                    delete(&self.session, nodes).await;
                    self.nodes = Nodes::Absent;
                }
                Nodes::Unknown => match self.find().await {
                    Ok(()) | Err(Fault::NoNode) => {}
                    Err(fault) => {
                        if !try_again(&self.session, &fault).await {
                            self.nodes = Nodes::Absent;
                        }
                    }
                },
            }
        }
    }
}

/// Deletes nodes, those of them that exist. Tries for as long as the session lives.
pub(super) async fn delete(session: &Session, nodes: &[String]) {
    while let Err(fault) = try_delete(session, nodes).await {
        if !try_again(session, &fault).await {
            return;
        }
    }
}

/// Whether the nodes may still have to be deleted. Waits until it makes sense to try.
async fn try_again(session: &Session, fault: &Fault) -> bool {
    match fault {
        Fault::Ended => return false,
        Fault::Refused(reason) => {
            tracing::warn!(reason, "lock nodes cannot be deleted before their session ends");
            return false;
        }
        fault => tracing::debug!(%fault, "lock nodes are not deleted yet, trying again"),
    }
    time::sleep(RETRY).await;
    // An ended session shows in the next attempt.
    let _ = session.connected().await;
    true
}

async fn try_delete(session: &Session, nodes: &[String]) -> Result<(), Fault> {
    let client = session.client();
    let mut writer = client.new_multi_writer();
    nodes.iter().try_for_each(|node| writer.add_delete(node, None))?;
    match session.call(writer.commit()).await {
        // One is gone already, and so none was deleted.
        Err(Fault::NoNode) => {}
        outcome => return outcome.map(drop),
    }
    let deletions = nodes.iter().map(|node| async {
        match session.call(client.delete(node, None)).await {
            Err(Fault::NoNode) => Ok(()),
            outcome => outcome,
        }
    });
    try_join_all(deletions).await.map(drop)
}

fn created(results: &[MultiWriteResult]) -> Vec<String> {
    let path = |result: &MultiWriteResult| match result {
        MultiWriteResult::Create { path, .. } => Some(path.clone()),
        _ => None,
    };
    results.iter().filter_map(path).collect()
}
