//! ZooKeeper for tests: a server, lock managers on it, and a look at the nodes from outside.

use std::{collections::BTreeMap, fs, time::Duration};

use devstack::{Stack, StackOptions};
use holdfast::lock::{CacheOptions, ZooKeeperLock, ZooKeeperOptions};
use uuid::Uuid;
use zookeeper_client::Client;

use super::{eventually, stack};

/// The server that every test shares that does not stop it.
pub(crate) fn shared() -> &'static str {
    servers(stack::shared())
}

/// A server of one's own.
pub(crate) fn start() -> Stack {
    stack::start(StackOptions { postgres: false, rabbitmq_nodes: 0, ..StackOptions::default() })
}

pub(crate) fn servers(stack: &Stack) -> &str {
    stack.addresses().zookeeper_servers.as_deref().unwrap()
}

/// Pauses the server, and waits until each of its threads has stopped: the signal alone returns earlier.
pub(crate) async fn pause(stack: &Stack) {
    stack.pause("zookeeper").unwrap();
    let threads = format!("/proc/{}/task", stack.pid("zookeeper").unwrap());
    let stopped = || async {
        let stats = fs::read_dir(&threads)
            .unwrap()
            .map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        // The state follows the name, which ends with the last parenthesis.
        stats.flatten().all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
    };
    eventually("the server has stopped", Duration::from_secs(2), stopped).await;
}

/// Locks of one test, apart from those of all others.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    pub(crate) servers: String,
    pub(crate) root: String,
    pub(crate) cache: Option<CacheOptions>,
}

impl Locks {
    /// Locks that are deleted when they are released.
    pub(crate) fn new(servers: &str) -> Self {
        let root = format!("/test-{}/locks", Uuid::now_v7().simple());
        Self { servers: servers.to_owned(), root, cache: None }
    }

    /// Locks that are kept when they are released, as in production.
    pub(crate) fn cached(servers: &str) -> Self {
        Self { cache: Some(CacheOptions::default()), ..Self::new(servers) }
    }

    pub(crate) fn options(&self) -> ZooKeeperOptions {
        ZooKeeperOptions {
            servers: self.servers.clone(),
            root: self.root.clone(),
            session_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(1),
            auth: None,
            allow_open_acl: true,
            epoch: 1,
            holder: "test".into(),
            cache: self.cache.clone(),
        }
    }

    pub(crate) async fn manager(&self) -> ZooKeeperLock {
        ZooKeeperLock::connect(self.options()).await.unwrap()
    }

    /// One that reaches the server by another address.
    pub(crate) async fn manager_through(&self, address: String) -> ZooKeeperLock {
        ZooKeeperLock::connect(ZooKeeperOptions { servers: address, ..self.options() }).await.unwrap()
    }

    pub(crate) async fn observer(&self) -> Observer {
        Observer { client: Client::connect(&self.servers).await.unwrap(), root: self.root.clone() }
    }
}

/// Sees the nodes as an operator does.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) client: Client,
    root: String,
}

impl Observer {
    /// The path of every lock node.
    pub(crate) async fn nodes(&self) -> Vec<String> {
        let mut level = vec![self.root.clone()];
        for _ in 0..3 {
            let mut next = Vec::new();
            for parent in &level {
                // A parent may be collected meanwhile.
                let children = self.client.list_children(parent).await.unwrap_or_default();
                next.extend(children.into_iter().map(|child| format!("{parent}/{child}")));
            }
            level = next;
        }
        level
    }

    /// The sessions whose nodes wait for a key, from the first of the queue to the last.
    pub(crate) async fn sessions_at(&self, key: &str) -> Vec<i64> {
        let mut nodes = self.nodes().await;
        nodes.retain(|node| node.contains(&format!("/{key}/")));
        nodes.sort_by_key(|node| node.rsplit('-').next().map(str::to_owned));
        let mut sessions = Vec::new();
        for node in nodes {
            sessions.extend(self.client.check_stat(&node).await.unwrap().map(|stat| stat.ephemeral_owner));
        }
        sessions
    }

    /// How many nodes each queue has.
    pub(crate) async fn queues(&self) -> BTreeMap<String, usize> {
        let mut queues = BTreeMap::new();
        for node in self.nodes().await {
            let (queue, _) = node.rsplit_once('/').unwrap();
            *queues.entry(queue.to_owned()).or_default() += 1;
        }
        queues
    }

    pub(crate) async fn wait_for_nodes(&self, count: usize, within: Duration) {
        eventually(&format!("{count} lock nodes"), within, || async { self.nodes().await.len() == count })
            .await;
    }
}
