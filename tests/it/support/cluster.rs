//! A cluster of three RabbitMQ nodes.
//!
//! One cluster serves the whole run, because starting one costs half a minute and three Erlang machines: any number of tests
//! that leave it alone have it together, and one that breaks it has it alone, and finds it whole.

use std::{thread, time::Duration};

use devstack::Stack;
use holdfast::bus::RabbitMqOptions;
use serde_json::Value;
use tokio::{
    sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard},
    task::block_in_place,
};

use super::{PATIENCE, broker, eventually, stack};

/// The nodes, as their stack names them.
pub(crate) const NODES: [&str; 3] = ["rabbitmq-1", "rabbitmq-2", "rabbitmq-3"];

/// See the module.
pub(crate) struct Cluster {
    stack: Stack,
}

async fn cluster() -> &'static RwLock<Cluster> {
    static SHARED: OnceCell<RwLock<Cluster>> = OnceCell::const_new();
    SHARED.get_or_init(|| async { RwLock::new(Cluster { stack: block_in_place(start) }) }).await
}

fn start() -> Stack {
    let options = devstack::StackOptions {
        postgres: false,
        zookeeper_nodes: 0,
        rabbitmq_nodes: 3,
        ..devstack::StackOptions::default()
    };
    stack::start(options)
}

impl Cluster {
    /// The cluster, for a test that leaves it alone.
    pub(crate) async fn shared() -> RwLockReadGuard<'static, Self> {
        cluster().await.read().await
    }

    /// The cluster, whole, for a test that breaks it.
    pub(crate) async fn alone() -> RwLockWriteGuard<'static, Self> {
        let cluster = cluster().await.write().await;
        cluster.mend().await;
        cluster
    }

    /// Starts what does not run, and waits until all are together.
    async fn mend(&self) {
        let dead = NODES.into_iter().filter(|node| self.stack.pid(node).is_none());
        self.start_again(&dead.collect::<Vec<_>>());
        // A test that failed half-way leaves its node cut off.
        for node in NODES {
            self.join(node);
        }
        for node in NODES {
            let whole = async || self.running_nodes(node).is_ok_and(|running| running == 3);
            eventually("the cluster is whole", PATIENCE * 2, whole).await;
        }
    }

    fn running_nodes(&self, asked: &str) -> anyhow::Result<usize> {
        let text = self.control(asked, &["cluster_status", "--formatter", "json"])?;
        let status: Value = serde_json::from_str(&text)?;
        Ok(status["running_nodes"].as_array().map_or(0, Vec::len))
    }

    fn control(&self, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        block_in_place(|| self.stack.rabbitmqctl(node, arguments))
    }

    /// Options for a bus that tries these nodes in this order, under a prefix of its own.
    pub(crate) fn options(&self, nodes: &[&str]) -> RabbitMqOptions {
        let addresses = self.stack.addresses();
        let url = |node: &&str| format!("amqp://holdfast:holdfast@{}/%2f", addresses.servers[*node]);
        let urls = nodes.iter().map(url).collect();
        RabbitMqOptions { urls, ..broker::options(&self.stack) }
    }

    /// The node where the leader of this queue is.
    pub(crate) fn leader(&self, asked: &str, queue: &str) -> String {
        let text = self.control(asked, &["list_queues", "name", "leader", "--formatter", "json"]).unwrap();
        let queues: Vec<Value> = serde_json::from_str(&text).unwrap();
        let found = queues.iter().find(|one| one["name"] == queue);
        let leader = found.unwrap_or_else(|| panic!("{queue} is not in {text}"))["leader"].as_str().unwrap();
        leader.split('@').next().unwrap().to_owned()
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, node: &str) {
        block_in_place(|| self.stack.kill(node)).unwrap();
    }

    /// Starts these, all at once, and waits until they answer.
    pub(crate) fn start_again(&self, nodes: &[&str]) {
        block_in_place(|| {
            thread::scope(|scope| {
                for node in nodes {
                    scope.spawn(|| self.stack.restart(node).unwrap());
                }
            });
        });
    }

    /// From now on this node and its peers hear nothing of each other, and cannot connect to each other. Clients reach all.
    pub(crate) fn cut_off(&self, node: &str) {
        // A wrong password for the peers, on this side: it refuses them, and they refuse it.
        let each =
            "[begin erlang:set_cookie(Peer, apart), erlang:disconnect_node(Peer) end || Peer <- [PEERS]].";
        self.evaluate(node, each);
    }

    /// Undoes [`Cluster::cut_off`].
    pub(crate) fn join(&self, node: &str) {
        self.evaluate(node, "[erlang:set_cookie(Peer, erlang:get_cookie()) || Peer <- [PEERS]].");
    }

    fn evaluate(&self, node: &str, expression: &str) {
        let peers = NODES.into_iter().filter(|peer| *peer != node).map(|peer| format!("'{peer}@localhost'"));
        let expression = expression.replace("PEERS", &peers.collect::<Vec<_>>().join(", "));
        self.control(node, &["eval", &expression]).unwrap();
    }

    /// Whether the node speaks AMQP with whoever comes.
    pub(crate) async fn answers(&self, node: &str) -> bool {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = &self.stack.addresses().servers[node];
        let asked = async {
            let mut stream = tokio::net::TcpStream::connect(address).await?;
            stream.write_all(b"AMQP\0\0\x09\x01").await?;
            stream.read_u8().await
        };
        matches!(tokio::time::timeout(Duration::from_secs(2), asked).await, Ok(Ok(1)))
    }
}
