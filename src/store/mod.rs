//! PostgreSQL: the only SQL of the project, and the only place where state lives.
//!
//! One file for each table family; functions take the connection of a transaction that a use case has begun. Names:
//! `find_` gives an option, `lock_` takes the row lock, `insert_`, `mark_` is a guarded change, `delete_`.
//!
//! Rules that make it correct. Transactions run at READ COMMITTED and lock rows before they decide. The order of locks
//! is the same everywhere, so that nothing can deadlock: inbox, then order or import, then payment, each of several by id, then
//! levels in key order, then counts of open orders in key order, then unique keys (idempotency key, client reference) by insertion;
//! a webhook endpoint, then its deliveries. No network call is made inside a transaction.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Connection as _, PgPool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::telemetry::spans::{self, Span};

pub mod api_keys;
pub mod audit;
pub mod candidates;
pub mod dead_letters;
mod error;
pub mod events;
pub mod idempotency;
pub mod inbox;
pub mod invariants;
pub mod inventory;
pub mod locations;
pub mod movements;
mod newest_first;
pub mod open_orders;
pub mod order_batch;
pub mod orders;
pub mod outbox;
pub mod payment_lookups;
pub mod payments;
pub mod placement;
mod pool_metrics;
pub mod provider_events;
pub mod purchase_limits;
pub mod quarantine;
pub mod refunds;
pub mod relay_lease;
pub mod relay_members;
pub mod reservations;
pub mod retention;
pub mod shipments;
pub mod stock_imports;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhook_fan_out;
pub mod webhook_log;
pub mod webhook_secrets;

use placement::PlacementConnections;
use pool_metrics::PoolMetrics;

pub use error::{Error, expect_rows};
/// A database connection, inside a transaction or not.
pub use sqlx::PgConnection as Conn;

/// How to reach PostgreSQL.
#[derive(Clone)]
pub struct StoreOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: String,
    /// Size of the pool.
    pub max_connections: u32,
    /// How long to wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// A statement that runs longer is ended by the server.
    pub statement_timeout: Duration,
    /// A lock that is waited for longer ends the statement.
    pub lock_timeout: Duration,
    /// A transaction in which nothing happens for longer is ended by the server, so that a paused process cannot keep
    /// its row locks.
    pub idle_in_transaction_timeout: Duration,
}

/// What an answer may take beyond the statement that it answers.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);

/// A table may grow from nothing to millions of rows before PostgreSQL's statistics know, the outbox back as well, and a plan that
/// is made for an empty table reads all of a large one, again and again. So each transaction that changes something finds its rows
/// by their keys, always, and its statements are planned once; lists, reports and what is done now and then leave the choice to
/// PostgreSQL.
const BY_KEY_OPTIONS: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    // It would read all that an index names before it takes the first rows of them.
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    placements: Arc<PlacementConnections>,
    by_key: PgPool,
    pool_metrics: PoolMetrics,
    by_key_metrics: PoolMetrics,
    patience: Duration,
}

impl Store {
    /// Connects, and fails if the server does not answer within the acquire time-out.
    pub async fn connect(options: &StoreOptions) -> Result<Self, Error> {
        let connect: PgConnectOptions =
            options.url.parse().map_err(|error| Error::Unavailable(format!("database.url: {error}")))?;
        let connect = connect.application_name("holdfast").options([
            ("statement_timeout", options.statement_timeout.as_millis().to_string()),
            ("lock_timeout", options.lock_timeout.as_millis().to_string()),
            (
                "idle_in_transaction_session_timeout",
                options.idle_in_transaction_timeout.as_millis().to_string(),
            ),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // A dead connection shows itself at the first statement and the caller tries again; asking each time costs a
            // round trip for every transaction.
            .test_before_acquire(false);
        let by_key = pool.clone().connect_lazy_with(connect.clone().options(BY_KEY_OPTIONS));
        let pool = pool.connect_with(connect.clone()).await?;
        let placements = Arc::new(PlacementConnections::new(connect, options.acquire_timeout));
        let pool_metrics = PoolMetrics::of("general", &pool);
        let by_key_metrics = PoolMetrics::of("by_key", &by_key);
        let patience = options.statement_timeout + ANSWER_MARGIN;
        Ok(Self { pool, placements, by_key, pool_metrics, by_key_metrics, patience })
    }

    /// Applies the migrations that are missing.
    pub async fn migrate(&self) -> Result<(), Error> {
        sqlx::migrate!().run(&self.pool).await.map_err(|error| Error::Migration(error.to_string()))
    }

    /// Fails unless the database has exactly the migrations that this binary was built with, or newer ones.
    pub async fn check_migrations(&self) -> Result<(), Error> {
        let applied = sqlx::query_scalar::<_, i64>("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(&self.pool)
            .await;
        let applied = match applied {
            Ok(versions) => versions,
            Err(error) if error::is_undefined_table(&error) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let missing = sqlx::migrate!().iter().any(|migration| !applied.contains(&migration.version));
        if missing {
            return Err(Error::Migration("the database lacks migrations: run `holdfast migrate`".into()));
        }
        Ok(())
    }

    /// How long a statement can take to be answered. After that the server, or the way to it, is silent: there is no sense in
    /// waiting on.
    pub const fn patience(&self) -> Duration {
        self.patience
    }

    /// Begins a transaction that finds its rows by their keys. `name` shows up in errors and in PostgreSQL's log.
    pub async fn begin(&self, name: &'static str) -> Result<Tx, Error> {
        begin_on(&self.by_key, &self.by_key_metrics, name, "BEGIN").await
    }

    /// Begins a transaction that reads whole tables, or parts of them that PostgreSQL is to choose the way through.
    pub async fn begin_report(&self, name: &'static str) -> Result<Tx, Error> {
        begin_on(&self.pool, &self.pool_metrics, name, "BEGIN").await
    }

    /// Begins a transaction that changes many orders at once: see [`order_batch`]. It waits a second at most for a row that
    /// somebody keeps: whoever is in the batch with that row should not have to wait for it.
    pub async fn begin_batch(&self, name: &'static str) -> Result<Tx, Error> {
        let statement = "BEGIN; SET LOCAL lock_timeout = '1s'";
        begin_on(&self.by_key, &self.by_key_metrics, name, statement).await
    }

    /// A connection for lists and other reads that need no transaction.
    ///
    /// Waiting for one takes 4 KB of state. Boxed, only those pay for it who ask: an order that is placed does not, and its
    /// handler and each layer around it would carry those 4 KB.
    pub async fn conn(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, Error> {
        let wait = self.pool_metrics.begin();
        Ok(wait.end(Box::pin(self.pool.acquire()).await)?)
    }

    /// A connection for statements by key that need no transaction, again and again.
    pub async fn conn_by_key(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, Error> {
        let wait = self.by_key_metrics.begin();
        Ok(wait.end(Box::pin(self.by_key.acquire()).await)?)
    }

    /// One round trip.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes every connection, awaited.
    pub async fn close(&self) {
        self.placements.close().await;
        self.by_key.close().await;
        self.pool.close().await;
    }
}

/// Begins a transaction on a connection of this pool, by this statement.
async fn begin_on(
    pool: &PgPool,
    metrics: &PoolMetrics,
    name: &'static str,
    statement: &'static str,
) -> Result<Tx, Error> {
    let span = spans::transaction(name);
    let wait = metrics.begin();
    let inner = wait.end(Box::pin(pool.begin_with(statement)).await)?;
    Ok(Tx { inner, name, span })
}

/// A transaction. Dropping it rolls back.
#[derive(Debug)]
pub struct Tx {
    inner: sqlx::Transaction<'static, Postgres>,
    name: &'static str,
    span: Span,
}

impl Tx {
    /// Commits. Where the answer does not come, the outcome is unknown: [`Error::CommitUnknown`].
    pub async fn commit(self) -> Result<(), Error> {
        let Self { inner, name, span } = self;
        // Ends with it.
        let _span = span;
        inner.commit().await.map_err(|error| Error::from_commit(name, error))
    }

    /// Rolls back, awaited, so that its locks are free when this returns.
    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.inner.rollback().await?)
    }

    /// Has the server plan each statement of this transaction when it comes. A table that fills and empties may be empty when
    /// a plan is made to be kept, and such a plan reads it from end to end again and again once it is full.
    pub async fn plan_each_statement(&mut self) -> Result<(), Error> {
        sqlx::query("SET LOCAL plan_cache_mode = force_custom_plan").execute(&mut *self.inner).await?;
        Ok(())
    }

    /// Begins a part that can be undone by itself: a savepoint.
    pub async fn begin_part(&mut self) -> Result<Part<'_>, Error> {
        Ok(Part { inner: self.inner.begin().await? })
    }
}

/// A part of a transaction. Dropping it undoes what it did, and frees the row locks that it took.
#[derive(Debug)]
pub struct Part<'a> {
    inner: sqlx::Transaction<'a, Postgres>,
}

impl Part<'_> {
    /// Keeps what it did, for the transaction to commit.
    pub async fn keep(self) -> Result<(), Error> {
        Ok(self.inner.commit().await?)
    }

    /// Undoes what it did, awaited.
    pub async fn undo(self) -> Result<(), Error> {
        Ok(self.inner.rollback().await?)
    }
}

impl Deref for Part<'_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.inner
    }
}

impl DerefMut for Part<'_> {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.inner
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.inner
    }
}
