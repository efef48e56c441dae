//! Who is there: the processes that share the work of the relay, known by ZooKeeper or by PostgreSQL.
//!
//! It only helps to share fairly. What a process may do, it may do by its leases in PostgreSQL; so a list that is late, wrong
//! or missing costs balance or time, and never an event.

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;

mod postgres;
mod zookeeper;

pub use postgres::PostgresDirectory;
pub use zookeeper::{ZooKeeperDirectory, ZooKeeperDirectoryOptions};

/// Where processes find each other.
#[async_trait]
pub trait MemberDirectory: Send + Sync + fmt::Debug {
    /// Enters this process under a name of its own. It is not listed any more `timeout` after its last sign of life, or once it
    /// has left.
    async fn join(&self, name: &str, timeout: Duration) -> Box<dyn Members>;
}

/// The processes that are there, seen by one of them.
#[async_trait]
pub trait Members: Send + fmt::Debug {
    /// Their names, with its own; `None` while they are not known.
    async fn list(&mut self) -> Option<BTreeSet<String>>;

    /// Waits until the list may be another. Some never say; whoever waits looks now and then all the same.
    async fn changed(&mut self);

    /// Leaves.
    async fn leave(self: Box<Self>);
}
