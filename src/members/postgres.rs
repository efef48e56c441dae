//! Members in a table of PostgreSQL, each there until the time that it last set: for deployments without ZooKeeper.

use std::{collections::BTreeSet, future::pending, time::Duration};

use async_trait::async_trait;

use super::{MemberDirectory, Members};
use crate::store::{self, Store, relay_members};

/// See the module.
#[derive(Debug)]
pub struct PostgresDirectory {
    store: Store,
}

impl PostgresDirectory {
    /// In this database.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl MemberDirectory for PostgresDirectory {
    /// With the first list: until then there is nothing that it could miss.
    async fn join(&self, name: &str, timeout: Duration) -> Box<dyn Members> {
        Box::new(PostgresMembers { store: self.store.clone(), name: name.to_owned(), timeout })
    }
}

#[derive(Debug)]
struct PostgresMembers {
    store: Store,
    name: String,
    timeout: Duration,
}

impl PostgresMembers {
    async fn read(&self) -> Result<BTreeSet<String>, store::Error> {
        let mut conn = self.store.conn().await?;
        relay_members::set(&mut conn, &self.name, self.timeout).await?;
        Ok(relay_members::list(&mut conn).await?.into_iter().collect())
    }
}

#[async_trait]
impl Members for PostgresMembers {
    /// A sign of life with each.
    async fn list(&mut self) -> Option<BTreeSet<String>> {
        self.read().await.inspect_err(|error| tracing::warn!(%error, "the relays are not known")).ok()
    }

    async fn changed(&mut self) {
        pending::<()>().await;
    }

    async fn leave(self: Box<Self>) {
        let left: Result<(), store::Error> =
            async { relay_members::delete(&mut *self.store.conn().await?, &self.name).await }.await;
        if let Err(error) = left {
            tracing::warn!(%error, "a relay could not say that it leaves: it is not listed for long");
        }
    }
}
