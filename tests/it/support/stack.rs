//! The servers that the tests share: PostgreSQL, ZooKeeper and RabbitMQ, started once for the whole run.
//!
//! Nobody stops, pauses or breaks them: a test that wants to starts its own. Each test keeps apart from the others by a
//! database, a prefix and a path of its own. A server that is not installed fails the tests with what to install.

use std::sync::OnceLock;

use devstack::{Stack, StackOptions};

/// The servers. The first caller waits until they answer.
pub(crate) fn shared() -> &'static Stack {
    static SHARED: OnceLock<Stack> = OnceLock::new();
    SHARED.get_or_init(|| start(StackOptions::default()))
}

/// Servers of one's own.
pub(crate) fn start(options: StackOptions) -> Stack {
    // ZooKeeper collects empty parents all the time, not once a minute: whoever acquires a lock must cope.
    let zookeeper_jvm_flags = vec!["-Dznode.container.checkIntervalMs=500".into()];
    Stack::start(StackOptions { zookeeper_jvm_flags, ..options })
        .unwrap_or_else(|error| panic!("the servers of the tests cannot be started: {error:#}"))
}
