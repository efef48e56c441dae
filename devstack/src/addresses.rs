//! Where the servers of one stack listen, and the environment made from it.
//!
//! Owns the names of the environment variables. Must not start or look for anything. Invariant: an address stays the
//! same for the life of its stack; a restart does not change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The addresses of one stack. A field is empty when that server is not part of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The folder of the stack.
    pub dir: String,
    /// `postgres://holdfast:holdfast@127.0.0.1:PORT/holdfast`; the role is a superuser.
    pub postgres_url: Option<String>,
    /// All nodes: `127.0.0.1:PORT,127.0.0.1:PORT`.
    pub zookeeper_servers: Option<String>,
    /// One URL per RabbitMQ node, in the order of their names.
    pub amqp_urls: Vec<String>,
    /// One URL per RabbitMQ node when the management plugin was asked for.
    pub management_urls: Vec<String>,
    /// `127.0.0.1:PORT` of each server by its name.
    pub servers: BTreeMap<String, String>,
}

impl Addresses {
    /// The environment that points the service and its tests at this stack.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |key: &str, value: &str| pairs.push((key.to_owned(), value.to_owned()));
        if let Some(url) = &self.postgres_url {
            add("DATABASE_URL", url);
            add("HOLDFAST__DATABASE__URL", url);
        }
        if let Some(servers) = &self.zookeeper_servers {
            add("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", servers);
            add("HOLDFAST__LOCK__ZOOKEEPER__ALLOW_OPEN_ACL", "true");
        }
        if !self.amqp_urls.is_empty() {
            add("HOLDFAST__BUS__RABBITMQ__URL", &self.amqp_urls.join(","));
        }
        pairs
    }
}
