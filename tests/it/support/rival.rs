//! The test itself as another process that takes locks.
//!
//! The failure tests of the locks meet the product through its processes. Where one needs a lock without an order, it is
//! taken here and nowhere else.

use std::time::Duration;

use holdfast::lock::{LockError, LockGuard, LockManager as _, LockOwner, ZooKeeperLock, ZooKeeperOptions};
use tokio::time::Instant;

use super::zookeeper::Locks;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rival(ZooKeeperLock);

impl Rival {
    pub(crate) async fn connect(locks: &Locks) -> Self {
        Self(locks.manager().await)
    }

    /// With a session that lasts this long.
    pub(crate) async fn connect_for(locks: &Locks, session_timeout: Duration) -> Self {
        let options = ZooKeeperOptions { session_timeout, ..locks.options() };
        Self(ZooKeeperLock::connect(options).await.unwrap())
    }

    /// Takes all keys or none.
    pub(crate) async fn take(&self, keys: &[&str], within: Duration) -> Result<LockGuard, LockError> {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        self.0.acquire(&keys, LockOwner::new(), Instant::now() + within).await
    }

    /// Ends the session, and whatever it holds.
    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}
