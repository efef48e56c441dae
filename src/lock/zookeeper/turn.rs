//! Waiting: when a claim's nodes are the first of their queues, and whether they still are there.
//!
//! Reads only, except that [`Entry::obtain`] makes the entry enter, and leave again when one of its nodes vanished. A
//! waiter watches the one node before its own, so a release wakes one process. Watches are one-shot: the client sets those
//! again after a reconnection.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, future::try_join_all, stream::FuturesUnordered};
use tokio::time;
use zookeeper_client::{Error, MultiReadResult, OneshotWatcher};

use super::{
    entry::{Entry, RETRY},
    path,
    session::{Fault, Session},
};

/// The children of a queue, and what fires when they change.
#[derive(Debug)]
pub(super) struct View {
    pub(super) children: Vec<String>,
    pub(super) watch: Option<OneshotWatcher>,
}

/// Every node of an entry is the first of its queue.
#[derive(Debug)]
pub(super) struct Turn {
    /// The fencing token's sequence.
    pub(super) czxid: i64,
    /// The queue of each key, when this was seen.
    pub(super) views: Vec<View>,
}

/// Reads a queue and watches it. The request is sent by the call.
pub(super) fn view<'a>(
    session: &'a Session,
    queue: &str,
) -> impl Future<Output = Result<View, Fault>> + Send + use<'a> {
    let request = session.client().get_and_watch_children(queue);
    let answer = session.call(request);
    async move {
        let (children, _, watch) = answer.await?;
        Ok(View { children, watch: Some(watch) })
    }
}

impl Entry<'_> {
    /// Enters the queues and waits until each node is the first of its queue; `None` if somebody is ahead and `patient` is
    /// not set.
    pub(super) async fn obtain(&mut self, patient: bool, watched: bool) -> Result<Option<Turn>, Fault> {
        loop {
            self.session.connected().await?;
            let outcome = match self.enter().await {
                Ok(()) => self.turn(patient, watched).await,
                Err(fault) => Err(fault),
            };
            match outcome {
                Ok(turn) if self.session.is_connected() => return Ok(turn),
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

    /// What [`Entry::look`] tells, with a watch on each queue. As many requests as keys, all on their way at once.
    async fn look_and_watch(&self, node: &str) -> Result<(Vec<View>, Option<i64>), Fault> {
        let client = self.session.client();
        let stat = self.session.call(client.check_stat(node));
        let views = try_join_all(self.queues.iter().map(|queue| view(&self.session, queue)));
        let (stat, views) = futures_util::future::try_join(stat, views).await?;
        Ok((views, stat.map(|stat| stat.czxid)))
    }

    /// Waits until each node is the first of its queue.
    async fn turn(&self, patient: bool, watched: bool) -> Result<Option<Turn>, Fault> {
        let Some(first) = self.paths().first() else { return Err(Fault::NoNode) };
        let (views, czxid) = if watched {
            self.look_and_watch(first).await?
        } else {
            let (lists, czxid) = self.look(Some(first)).await?;
            (lists.into_iter().map(|children| View { children, watch: None }).collect(), czxid)
        };
        let mut turn = Turn { czxid: czxid.ok_or(Fault::NoNode)?, views: Vec::with_capacity(views.len()) };
        for (index, (mut seen, node)) in views.into_iter().zip(self.paths()).enumerate() {
            let queue = &self.queues[index];
            let name = &node[queue.len() + 1..];
            loop {
                if !seen.children.iter().any(|child| child == name) {
                    return Err(Fault::NoNode);
                }
                let Some(ahead) = path::predecessor(&seen.children, name) else { break };
                if !patient {
                    return Ok(None);
                }
                self.blueprint.waiting_for.store(index + 1, Ordering::Relaxed);
                self.wait_for(&format!("{queue}/{ahead}")).await?;
                seen = if watched {
                    view(&self.session, queue).await?
                } else {
                    let children = self.session.call(self.session.client().list_children(queue)).await?;
                    View { children, watch: None }
                };
            }
            turn.views.push(seen);
        }
        Ok(Some(turn))
    }

    /// Waits until `node` is gone. May return early.
    async fn wait_for(&self, node: &str) -> Result<(), Fault> {
        let reconnected = self.session.reconnected();
        match self.session.call(self.session.client().get_and_watch_data(node)).await {
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
