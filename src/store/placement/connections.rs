//! Connections that do nothing but place orders.
//!
//! A connection of the ordinary pool is asked whether it lives each time it goes back, and the pool hands them out in
//! turn, so that every batch meets another server process with cold caches. Here the one used last is used next, without a
//! question: whoever meets a dead one learns that its outcome is unknown, which placing an order has to cope with anyway.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::store::Error;

/// Idle connections, as many as were ever in use at a time.
#[derive(Debug)]
pub(in crate::store) struct PlacementConnections {
    options: PgConnectOptions,
    connect_timeout: Duration,
    idle: Mutex<Vec<PgConnection>>,
}

impl PlacementConnections {
    pub(in crate::store) fn new(options: PgConnectOptions, connect_timeout: Duration) -> Self {
        // The statement is the same each time and its plan does not depend on the arrays: PostgreSQL would plan it anew for
        // each small batch, which takes longer than to carry it out.
        let options = options.options([("plan_cache_mode", "force_generic_plan"), ("jit", "off")]);
        Self { options, connect_timeout, idle: Mutex::new(Vec::new()) }
    }

    pub(super) async fn take(&self) -> Result<PgConnection, Error> {
        let idle = self.lock().pop();
        match idle {
            Some(conn) => Ok(conn),
            None => timeout(self.connect_timeout, PgConnection::connect_with(&self.options))
                .await
                .map_err(|_| Error::Unavailable("no connection within the time-out".into()))?
                .map_err(Error::from),
        }
    }

    /// Keeps a connection whose last statement was answered.
    pub(super) fn put_back(&self, conn: PgConnection) {
        self.lock().push(conn);
    }

    /// Closes those that are idle.
    pub(in crate::store) async fn close(&self) {
        let idle = std::mem::take(&mut *self.lock());
        for conn in idle {
            // The server notices by itself, too.
            let _ = conn.close().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
