//! Three ZooKeeper servers that a test may kill, or cut off from each other.
//!
//! One ensemble serves the whole run, because starting one costs seconds and three JVMs: one test at a time has it, and
//! finds it whole. Each server reaches each other's quorum port, where a leader and its followers speak, through a
//! proxy of this process; elections go past the proxies.

use std::{net::SocketAddr, thread, time::Duration};

use devstack::{Stack, StackOptions};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Mutex, MutexGuard, OnceCell},
    task::block_in_place,
};

use super::{
    PATIENCE, eventually, stack,
    system::free_port,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper_admin::mode,
};

/// `tickTime` of the servers.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How long a server that hears nothing from its leader goes on answering: `(syncLimit + 1) * tickTime`.
pub(crate) const STALE: Duration = Duration::from_secs(6);

/// How long a follower may look for a leader that does not listen yet. To hang up on it would mean another election.
const ELECTED: Duration = Duration::from_secs(5);

/// See the module. Servers are numbered from 0.
pub(crate) struct Ensemble {
    stack: Stack,
    /// `[server][peer]`; none on the diagonal.
    links: Vec<Vec<Option<TcpProxy>>>,
    /// Of the proxies: they outlive the test that started them.
    _runtime: Runtime,
}

impl Ensemble {
    /// The ensemble, whole: three servers that run and hear each other.
    pub(crate) async fn whole() -> MutexGuard<'static, Self> {
        static SHARED: OnceCell<Mutex<Ensemble>> = OnceCell::const_new();
        let shared = SHARED.get_or_init(|| async { Mutex::new(Self::start().await) }).await;
        let ensemble = shared.lock().await;
        ensemble.mend().await;
        ensemble
    }

    async fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listening = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let (mut links, mut quorum) = (Vec::new(), [listening; 3]);
        for (server, seen) in quorum.iter_mut().enumerate() {
            let mut row = Vec::new();
            for (peer, address) in seen.iter_mut().enumerate() {
                let target = address.to_string();
                let link = async move { TcpProxy::start_patient(&target, ELECTED).await };
                row.push(if peer == server { None } else { Some(runtime.spawn(link).await.unwrap()) });
                if let Some(Some(link)) = row.last() {
                    *address = link.address().parse().unwrap();
                }
            }
            links.push(row);
        }
        let options = StackOptions {
            zookeeper_nodes: 3,
            zookeeper_quorum: Some(quorum),
            postgres: false,
            rabbitmq_nodes: 0,
            ..StackOptions::default()
        };
        let stack = block_in_place(|| stack::start(options));
        Self { stack, links, _runtime: runtime }
    }

    /// Starts what does not run, lets everything through, and waits until all serve.
    async fn mend(&self) {
        self.links.iter().flatten().flatten().for_each(|link| link.allow(Traffic::All));
        self.restart(&[0, 1, 2].map(|server| (server, self.stack.pid(&name(server)))));
        let serves = async || {
            let modes = [self.mode(0).await, self.mode(1).await, self.mode(2).await];
            modes.iter().all(|mode| !mode.is_empty())
        };
        eventually("the ensemble is whole", PATIENCE, serves).await;
    }

    fn restart(&self, servers: &[(usize, Option<u32>)]) {
        block_in_place(|| {
            thread::scope(|scope| {
                for (server, _) in servers.iter().filter(|(_, pid)| pid.is_none()) {
                    scope.spawn(|| self.stack.restart(&name(*server)).unwrap());
                }
            });
        });
    }

    /// Starts these again, all at once, and waits until they serve.
    pub(crate) fn start_again(&self, servers: &[usize]) {
        self.restart(&servers.iter().map(|server| (*server, None)).collect::<Vec<_>>());
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, server: usize) {
        block_in_place(|| self.stack.kill(&name(server))).unwrap();
    }

    /// All of them, as a client is told.
    pub(crate) fn servers(&self) -> &str {
        self.stack.addresses().zookeeper_servers.as_deref().unwrap()
    }

    /// Where clients reach this one.
    pub(crate) fn server(&self, server: usize) -> &str {
        &self.stack.addresses().servers[&name(server)]
    }

    pub(crate) async fn mode(&self, server: usize) -> String {
        mode(self.server(server)).await
    }

    /// Waits for a leader.
    pub(crate) async fn leader(&self) -> usize {
        loop {
            for server in 0..3 {
                if self.mode(server).await == "leader" {
                    return server;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// From now on this follower hears nothing from its peers, and they nothing from it. Clients still reach it.
    pub(crate) fn cut_off(&self, follower: usize) {
        let from = self.links[follower].iter();
        let to = self.links.iter().map(|row| &row[follower]);
        from.chain(to).flatten().for_each(|link| link.allow(Traffic::None));
    }
}

fn name(server: usize) -> String {
    format!("zookeeper-{}", server + 1)
}
