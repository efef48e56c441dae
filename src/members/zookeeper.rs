//! Members in ZooKeeper: an ephemeral node for each, and a watch on all of them.
//!
//! A session of its own, apart from that of the locks: its time-out is the lease, so that the node of a process that was
//! killed goes when its leases do. While it is not connected nobody is known; it reconnects by itself, for ever.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, Error, SessionState};

use super::{MemberDirectory, Members};

/// The rest between attempts to connect, jittered.
const BACKOFF: Duration = Duration::from_secs(1);

/// What stands between a name and what tells its nodes apart: one of an earlier session may still be there.
const SEPARATOR: char = '~';

/// How to reach ZooKeeper, and where the nodes are.
#[derive(Clone)]
pub struct ZooKeeperDirectoryOptions {
    /// `host:port,host:port…`.
    pub servers: String,
    /// The node under which the members are.
    pub path: String,
    /// How long to wait for an answer, and for a connection.
    pub request_timeout: Duration,
    /// User and password of the `digest` scheme; `None` leaves the nodes open to anybody.
    pub auth: Option<(String, String)>,
}

impl fmt::Debug for ZooKeeperDirectoryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("ZooKeeperDirectoryOptions").field("path", &self.path).finish_non_exhaustive()
    }
}

/// See the module.
#[derive(Debug)]
pub struct ZooKeeperDirectory {
    options: Arc<ZooKeeperDirectoryOptions>,
}

impl ZooKeeperDirectory {
    /// Connects when somebody joins.
    pub fn new(options: ZooKeeperDirectoryOptions) -> Self {
        Self { options: Arc::new(options) }
    }
}

#[async_trait]
impl MemberDirectory for ZooKeeperDirectory {
    async fn join(&self, name: &str, timeout: Duration) -> Box<dyn Members> {
        let (seen, members) = watch::channel(None);
        let left = CancellationToken::new();
        let presence = Presence {
            options: Arc::clone(&self.options),
            name: name.to_owned(),
            timeout,
            seen,
            left: left.clone(),
        };
        Box::new(ZooKeeperMembers { members, left, task: tokio::spawn(presence.keep()) })
    }
}

#[derive(Debug)]
struct ZooKeeperMembers {
    members: watch::Receiver<Option<BTreeSet<String>>>,
    left: CancellationToken,
    task: JoinHandle<()>,
}

#[async_trait]
impl Members for ZooKeeperMembers {
    async fn list(&mut self) -> Option<BTreeSet<String>> {
        self.members.borrow_and_update().clone()
    }

    async fn changed(&mut self) {
        if self.members.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn leave(mut self: Box<Self>) {
        self.left.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the session of a relay panicked");
        }
    }
}

impl Drop for ZooKeeperMembers {
    fn drop(&mut self) {
        self.left.cancel();
    }
}

/// Keeps one process listed, and the list read.
struct Presence {
    options: Arc<ZooKeeperDirectoryOptions>,
    name: String,
    timeout: Duration,
    seen: watch::Sender<Option<BTreeSet<String>>>,
    left: CancellationToken,
}

impl Presence {
    async fn keep(self) {
        loop {
            let ended = tokio::select! {
                biased;
                () = self.left.cancelled() => return,
                ended = self.session() => ended,
            };
            self.seen.send_replace(None);
            let Err(error) = ended;
            tracing::warn!(error, "the relays are not known: no session with ZooKeeper");
            let rest = BACKOFF.mul_f64(rand::random_range(0.5..1.0));
            if self.left.run_until_cancelled(time::sleep(rest)).await.is_none() {
                return;
            }
        }
    }

    /// One session, until it ends. Its node goes with it.
    async fn session(&self) -> Result<std::convert::Infallible, String> {
        let (options, path) = (&self.options, self.options.path.as_str());
        let mut connector = Client::connector().with_session_timeout(self.timeout);
        if let Some((user, password)) = &options.auth {
            connector = connector.with_auth("digest", format!("{user}:{password}").as_bytes());
        }
        let client = self.answer(connector.connect(&options.servers)).await?;
        let acls = if options.auth.is_some() { Acls::creator_all() } else { Acls::anyone_all() };
        self.answer(client.mkdir(path, &CreateMode::Persistent.with_acls(acls))).await?;
        let node = format!("{path}/{}{SEPARATOR}{}", self.name, Uuid::now_v7().simple());
        let ephemeral = CreateMode::Ephemeral.with_acls(acls);
        self.answer(client.create(&node, self.name.as_bytes(), &ephemeral)).await?;
        let mut states = client.state_watcher();
        loop {
            let (nodes, watcher) = self.answer(client.list_and_watch_children(path)).await?;
            self.seen.send_replace(Some(names(&nodes)));
            let mut state = tokio::select! {
                _ = watcher.changed() => states.peek_state(),
                state = states.changed() => state,
            };
            while state != SessionState::SyncConnected {
                self.seen.send_replace(None);
                if state.is_terminated() {
                    return Err(state.to_string());
                }
                state = states.changed().await;
            }
        }
    }

    async fn answer<T, E: Into<Error>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, String> {
        let answer = time::timeout(self.options.request_timeout, request).await;
        answer
            .map_err(|_| format!("no answer from {} in time", self.options.servers))?
            .map_err(|error| error.into().to_string())
    }
}

fn names(nodes: &[String]) -> BTreeSet<String> {
    let name = |node: &String| node.split_once(SEPARATOR).map(|(name, _)| name.to_owned());
    nodes.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_nodes_of_two_sessions_is_one_member() {
        let nodes = ["b~1", "a~3", "b~2", "stray"].map(str::to_owned);
        assert_eq!(names(&nodes), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    }
}
