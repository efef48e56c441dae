//! Waiting: when a claim's nodes are the first of their queues, and whether they still are there.
//!
//! Reads only, except that [`Entry::obtain`] makes the entry enter, and leave again when one of its nodes vanished. A
//! waiter watches the one node before its own, so a release wakes one process. Watches are one-shot: the client sets those
//! again after a reconnection.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time;
use zookeeper_client::{Error, MultiReadResult, OneshotWatcher};

use super::{
    entry::{Entry, Nodes, RETRY},
    path,
    session::{Fault, Session},
};

impl Entry<'_> {
    /// Enters the queues and waits until each node is the first of its queue. Returns the fencing token's sequence; `None`
    /// if somebody is ahead and `patient` is not set.
    pub(super) async fn obtain(&mut self, patient: bool) -> Result<Option<i64>, Fault> {
        loop {
            self.session.connected().await?;
            let outcome = match self.enter().await {
                Ok(()) => self.turn(patient).await,
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(czxid) if self.session.is_connected() => return Ok(czxid),
                // Became suspect meanwhile: look again when it is not.
                Ok(_) => {}
                Err(Fault::Unanswered(_)) => time::sleep(RETRY).await,
                Err(Fault::NoNode) => {
                    tracing::warn!(keys = ?self.blueprint.keys, "a waiting lock node was deleted by somebody else");
                    self.leave().await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The children of each queue, none of a queue that does not exist; and the czxid of `node`. One request.
    pub(super) async fn look(&self, node: Option<&str>) -> Result<(Vec<Vec<String>>, Option<i64>), Fault> {
        let mut reader = self.session.client().new_multi_reader();
        self.queues.iter().try_for_each(|queue| reader.add_get_children(queue))?;
        if let Some(node) = node {
            reader.add_get_data(node)?;
        }
        let (mut lists, mut czxid) = (Vec::with_capacity(self.queues.len()), None);
        for result in self.session.call(reader.commit()).await? {
            match result {
                MultiReadResult::Children { children } => lists.push(children),
                MultiReadResult::Data { stat, .. } => czxid = Some(stat.czxid),
                MultiReadResult::Error { err: Error::NoNode } => lists.push(Vec::new()),
                MultiReadResult::Error { err } => return Err(err.into()),
                other => return Err(Fault::Unanswered(format!("unexpected answer {other:?}"))),
            }
        }
        Ok((lists, czxid))
    }

    /// Waits until each node is the first of its queue. Returns their czxid.
    async fn turn(&mut self, patient: bool) -> Result<Option<i64>, Fault> {
        let Nodes::Present(nodes) = &self.nodes else { return Err(Fault::NoNode) };
        let (lists, czxid) = self.look(nodes.first().map(String::as_str)).await?;
        let czxid = czxid.ok_or(Fault::NoNode)?;
        for (index, mut children) in lists.into_iter().enumerate().take(nodes.len()) {
            let queue = &self.queues[index];
            let name = &nodes[index][queue.len() + 1..];
            loop {
                if !children.iter().any(|child| child == name) {
                    return Err(Fault::NoNode);
                }
                let Some(ahead) = path::predecessor(&children, name) else { break };
                if !patient {
                    return Ok(None);
                }
                self.blueprint.waiting_for.store(index + 1, Ordering::Relaxed);
                gone_or_so(&self.session, &format!("{queue}/{ahead}")).await?;
                children = self.session.call(self.session.client().list_children(queue)).await?;
            }
        }
        Ok(Some(czxid))
    }

    /// Returns when a node is gone that was there, or the session has ended: whatever it protected may be another's.
    pub(super) async fn broken(&self) {
        let mut watches: FuturesUnordered<_> = self.paths().iter().map(|node| self.gone(node)).collect();
        watches.next().await;
    }

    async fn gone(&self, node: &str) {
        loop {
            let reconnected = self.session.reconnected();
            match self.session.call(self.session.client().check_and_watch_stat(node)).await {
                Ok((None, _)) | Err(Fault::Ended) => return,
                Ok((Some(_), watcher)) => {
                    tokio::select! {
                        _ = watcher.changed() => {}
                        () = reconnected => {}
                    }
                }
                Err(_) => time::sleep(RETRY).await,
            }
            if self.session.connected().await.is_err() {
                return;
            }
        }
    }
}

/// Waits until `node` is gone. May return early.
async fn gone_or_so(session: &Session, node: &str) -> Result<(), Fault> {
    let reconnected = session.reconnected();
    match session.call(session.client().get_and_watch_data(node)).await {
        Err(Fault::NoNode) => Ok(()),
        Err(fault) => Err(fault),
        Ok((_, _, watcher)) => {
            tokio::select! {
                _ = watcher.changed() => {}
                // The client sets its watches again, but to look costs little and to miss one costs the deadline.
                () = reconnected => {}
            }
            Ok(())
        }
    }
}

/// The children of a queue, and what fires when they change.
#[derive(Debug)]
pub(super) struct View {
    pub(super) children: Vec<String>,
    pub(super) watch: Option<OneshotWatcher>,
}

impl View {
    /// Reads a queue and watches it. The request is sent by the call.
    pub(super) fn read<'a>(
        session: &'a Session,
        queue: &str,
    ) -> impl Future<Output = Result<Self, Fault>> + Send + use<'a> {
        let answer = session.call(session.client().get_and_watch_children(queue));
        async move {
            let (children, _, watch) = answer.await?;
            Ok(Self { children, watch: Some(watch) })
        }
    }

    /// Tries until there is an answer.
    pub(super) async fn read_again(session: &Session, queue: &str) -> Result<Self, Fault> {
        loop {
            session.connected().await?;
            match Self::read(session, queue).await {
                Err(Fault::Unanswered(_)) => time::sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    /// The name of the node next before `own`; `None` if `own` is the first.
    pub(super) fn ahead_of(&self, own: &str) -> Result<Option<&str>, Fault> {
        if !self.children.iter().any(|child| child == own) {
            return Err(Fault::NoNode);
        }
        Ok(path::predecessor(&self.children, own))
    }

    /// Whether somebody stands behind the first.
    pub(super) fn is_contended(&self) -> bool {
        path::first(&self.children).is_some_and(|(_, waiting)| waiting > 0)
    }
}

/// Waits until the node `own` of `queue` is the first. `waiting` is called when it has to wait.
pub(super) async fn first(
    session: &Session,
    queue: &str,
    own: &str,
    mut seen: View,
    waiting: impl Fn() + Send,
) -> Result<View, Fault> {
    loop {
        let outcome = match seen.ahead_of(own)? {
            None if session.is_connected() => return Ok(seen),
            // Became suspect meanwhile: look again when it is not.
            None => Ok(()),
            Some(ahead) => {
                waiting();
                gone_or_so(session, &format!("{queue}/{ahead}")).await
            }
        };
        match outcome {
            Ok(()) | Err(Fault::Unanswered(_)) => seen = View::read_again(session, queue).await?,
            Err(fault) => return Err(fault),
        }
    }
}
