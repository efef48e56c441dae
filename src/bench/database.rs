//! The databases that are measured: one that is migrated and stocked once, and a fresh copy of it for each measurement.
//!
//! Owns their names, which all carry the run's own prefix, and their end: [`Server::drop_all`] leaves none. Never touches
//! the database of the configuration.

use std::{
    collections::BTreeSet,
    ops::AddAssign,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, ensure};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    postgres::PgConnectOptions,
};
use url::Url;
use uuid::Uuid;

use super::processes::{Environment, Launcher};
use crate::{
    app::hash_secret,
    config::Config,
    domain::{access::Scope, ids::ApiKeyId},
    store::{
        api_keys,
        invariants::{self, INVARIANTS, Invariant},
    },
};

/// On hand of each SKU: the most that a level may have, so that no workload runs out.
const ON_HAND: i64 = 1_000_000_000;

/// What the expiry worker and the relay do in time.
const BY_WORKERS: [&str; 2] = ["I10", "I11"];

/// The server, with a database from which all others are copied.
#[derive(Debug)]
pub(super) struct Server {
    url: Url,
    prefix: String,
    next: AtomicU32,
    location: String,
    /// The API key that every copy knows.
    pub(super) secret: String,
    /// Its id.
    pub(super) api_key: Uuid,
}

/// One database.
#[derive(Debug, Clone)]
pub(super) struct Database {
    name: String,
    /// What its own sessions are called.
    session: String,
    /// Where it is, with the password.
    pub(super) url: Url,
    /// Where the stock lies.
    pub(super) location: String,
    pub(super) api_key: Uuid,
}

impl Server {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let url = Url::parse(config.database.url.reveal()).context("database.url is not a URL")?;
        let run = Uuid::now_v7().simple().to_string();
        Ok(Self {
            url,
            prefix: format!("holdfast_bench_{}", &run[20..]),
            next: AtomicU32::new(0),
            location: config.order.default_location.clone(),
            secret: format!("hf_bench_{run}"),
            api_key: ApiKeyId::new().uuid(),
        })
    }

    /// Makes the database that the others are copied from.
    pub(super) async fn prepare(&self, launcher: &Launcher, skus: &BTreeSet<String>) -> anyhow::Result<()> {
        let template = self.named(format!("{}_template", self.prefix));
        self.administrate(&format!("CREATE DATABASE {}", template.name)).await?;
        launcher.run("migrate", &["migrate"], &template.environment()).await?;
        let mut conn = template.connect().await?;
        let key = api_keys::NewApiKey {
            id: self.api_key.into(),
            client_id: self.api_key.into(),
            name: "bench",
            scopes: [Scope::OrdersWrite, Scope::PaymentsWrite].into_iter().collect(),
            hash: &hash_secret(&self.secret),
        };
        api_keys::insert(&mut conn, &key).await?;
        let skus: Vec<&String> = skus.iter().collect();
        sqlx::query(
            "WITH level AS (INSERT INTO inventory_level (sku, location_id, on_hand)
                            SELECT sku, $2, $3 FROM UNNEST($1::text[]) AS sku RETURNING *)
             INSERT INTO stock_movement (sku, location_id, type, delta_on_hand, on_hand_after, actor, reason)
             SELECT sku, location_id, 'receive', on_hand, on_hand, 'holdfast bench', 'to be sold' FROM level",
        )
        .bind(skus)
        .bind(&self.location)
        .bind(ON_HAND)
        .execute(&mut conn)
        .await?;
        // Not the tables that are empty: of one that was never looked at PostgreSQL plans as if it had some pages, of an empty one
        // as if it stayed empty, which no shop's are.
        conn.execute("VACUUM ANALYZE inventory_level, location, stock_movement").await?;
        conn.close().await?;
        Ok(())
    }

    /// A fresh copy. The checkpoint keeps the writes of what was measured before out of what is measured next.
    pub(super) async fn create(&self) -> anyhow::Result<Database> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let database = self.named(format!("{}_{number}", self.prefix));
        self.administrate(&format!("CREATE DATABASE {} TEMPLATE {}_template", database.name, self.prefix))
            .await?;
        self.administrate("CHECKPOINT").await?;
        Ok(database)
    }

    pub(super) async fn drop(&self, database: Database) -> anyhow::Result<()> {
        self.administrate(&format!("DROP DATABASE {} WITH (FORCE)", database.name)).await
    }

    /// Drops every database of this run. Ends the run's other sessions first: one that was interrupted while it made a
    /// database would make it afterwards.
    pub(super) async fn drop_all(&self) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        let sessions = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                        WHERE application_name = $1 AND pid <> pg_backend_pid()";
        sqlx::query(sessions).bind(&self.prefix).execute(&mut conn).await?;
        let names: Vec<String> =
            sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1)")
                .bind(&self.prefix)
                .fetch_all(&mut conn)
                .await?;
        for name in names {
            conn.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
        }
        Ok(())
    }

    /// A connection to the configured database, from which the others are made.
    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let host = self.url.host_str().unwrap_or("localhost");
        connect(&self.url, &self.prefix)
            .await
            .with_context(|| format!("PostgreSQL at {host} cannot be used. Start it, or set database.url"))
    }

    /// Where the server listens, if that is this machine.
    pub(super) fn local_port(&self) -> Option<u16> {
        let is_local = matches!(self.url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        is_local.then(|| self.url.port().unwrap_or(5432))
    }

    fn named(&self, name: String) -> Database {
        let mut url = self.url.clone();
        url.set_path(&name);
        Database {
            name,
            session: self.prefix.clone(),
            url,
            location: self.location.clone(),
            api_key: self.api_key,
        }
    }

    async fn administrate(&self, statement: &str) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        let done = conn.execute(AssertSqlSafe(statement.to_owned())).await;
        done.with_context(|| format!("{statement}: the user of database.url must be allowed to"))?;
        conn.close().await?;
        Ok(())
    }
}

impl Database {
    /// The settings of a process that is to use it.
    pub(super) fn environment(&self) -> Environment {
        vec![("HOLDFAST__DATABASE__URL", self.url.to_string())]
    }

    pub(super) async fn connect(&self) -> anyhow::Result<PgConnection> {
        connect(&self.url, &self.session).await
    }

    /// How many orders it holds.
    pub(super) async fn count_orders(&self) -> anyhow::Result<u64> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut self.connect().await?).await?;
        Ok(u64::try_from(count)?)
    }

    /// Fails unless every invariant of the system holds, but for those that take workers where none ran; every unit that is
    /// counted as sold is an order's; and the orders that were answered 201 are there, each once.
    pub(super) async fn check(&self, sent: Sent, workers_ran: bool) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        // Sorts of millions of rows.
        conn.execute("SET work_mem = '256MB'").await?;
        let kept = |invariant: &&Invariant| workers_ran || !BY_WORKERS.contains(&invariant.id);
        for invariant in INVARIANTS.iter().filter(kept) {
            if let Some(broken) = invariants::check(&mut conn, invariant).await? {
                let (id, title, rows) = (broken.id, broken.title, broken.rows.join("\n"));
                anyhow::bail!("{id} is broken {} times: {title}\n{rows}", broken.count);
            }
        }
        let (counted, reserved): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT coalesce(sum(reserved + committed), 0)::bigint FROM inventory_level),
                    (SELECT coalesce(sum(quantity), 0)::bigint FROM reservation WHERE status IN ('held', 'committed'))",
        )
        .fetch_one(&mut conn)
        .await?;
        ensure!(counted == reserved, "{counted} units are counted as sold, orders hold {reserved}");
        let orders = self.count_orders().await?;
        // A 503 may be of an order that was placed: its client was told that the outcome is unknown.
        ensure!(
            (sent.accepted..=sent.accepted + sent.refused).contains(&orders),
            "{} orders were accepted and {} answered 503, {orders} are there",
            sent.accepted,
            sent.refused
        );
        Ok(())
    }
}

/// How the orders that a database was sent were answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    /// By 201.
    pub(super) accepted: u64,
    /// By 503.
    pub(super) refused: u64,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        self.accepted += more.accepted;
        self.refused += more.refused;
    }
}

/// Statements that take long are no news here.
async fn connect(url: &Url, session: &str) -> anyhow::Result<PgConnection> {
    let options = PgConnectOptions::from_url(url)?.application_name(session);
    Ok(options.disable_statement_logging().connect().await?)
}
