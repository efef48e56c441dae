//! A test's own view of the database, and the locks with which it holds a process at a chosen point.
//!
//! A process that waits for a row of ours has its SKU's lock and no answer yet; one that waits at the [`Gate`] has sent
//! COMMIT and does not know whether it took effect. Both are points where a crash or a pause is the worst.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Postgres, SqlSafeStr, Transaction};

use super::{
    eventually,
    system::{PATIENCE, System},
};

/// While it lives, no transaction commits that adds a row to its table.
pub(crate) struct Gate {
    lock: PgConnection,
}

const GATE: i64 = 4711;

impl System {
    /// A number, once the database answers.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        loop {
            match sqlx::query_scalar(sql).fetch_one(&self.database).await {
                Ok(count) => return count,
                // It was killed, or starts.
                Err(error) => assert!(is_away(&error), "{sql}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a count is at least this high.
    pub(crate) async fn wait_for_count(&self, sql: &'static str, least: i64) {
        let reached = || async { self.count(sql).await >= least };
        eventually(&format!("at least {least} from {sql}"), PATIENCE, reached).await;
    }

    /// Waits until this many orders were placed.
    pub(crate) async fn wait_for_orders(&self, least: i64) {
        self.wait_for_count("SELECT count(*) FROM orders", least).await;
    }

    /// Waits until every event was published.
    pub(crate) async fn wait_for_empty_outbox(&self) {
        let empty = || async { self.count("SELECT count(*) FROM outbox").await == 0 };
        eventually("the outbox is empty", PATIENCE, empty).await;
    }

    /// That no event was confirmed before an earlier one of its order or level.
    pub(crate) async fn assert_in_order(&self) {
        let overtaken = "SELECT count(*) FROM (
                             SELECT position, lag(position) OVER (PARTITION BY aggregate_id ORDER BY sequence) AS before
                             FROM outbox_sent) e WHERE before > position";
        assert_eq!(self.count(overtaken).await, 0);
    }

    /// Executes a statement.
    pub(crate) async fn execute(&self, sql: impl SqlSafeStr) {
        sqlx::raw_sql(sql).execute(&self.database).await.unwrap();
    }

    /// Takes the row lock of a SKU's level, for as long as the transaction lives.
    pub(crate) async fn hold_level(&self, sku: &str) -> Transaction<'static, Postgres> {
        let mut tx = self.database.begin().await.unwrap();
        let level = sqlx::query("SELECT 1 FROM inventory_level WHERE sku = $1 FOR UPDATE").bind(sku);
        level.fetch_one(&mut *tx).await.unwrap();
        tx
    }

    /// Waits until this many transactions of our processes wait for a lock in the database.
    pub(crate) async fn wait_for_waiters(&self, count: i64) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'holdfast' AND wait_event_type = 'Lock'";
        self.wait_for_count(waiting, count).await;
    }

    /// Waits until somebody waits at the gate, having sent COMMIT.
    pub(crate) async fn wait_at_gate(&self) {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE application_name = 'holdfast' AND wait_event = 'advisory'";
        self.wait_for_count(waiting, 1).await;
    }

    /// Closes the commit of whoever marks an event as handled by this consumer.
    pub(crate) async fn close_inbox_gate(&self, consumer: &str) -> Gate {
        self.execute(AssertSqlSafe(format!(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW WHEN (NEW.consumer = '{consumer}') EXECUTE FUNCTION wait_at_gate()"
        )))
        .await;
        self.close_gate().await
    }

    /// Closes the commit of whoever places an order.
    pub(crate) async fn close_order_gate(&self) -> Gate {
        self.execute(
            "CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION wait_at_gate()",
        )
        .await;
        self.close_gate().await
    }

    /// Once for each system.
    async fn close_gate(&self) -> Gate {
        let mut lock = self.database.acquire().await.unwrap().detach();
        sqlx::query("SELECT pg_advisory_lock($1)").bind(GATE).execute(&mut lock).await.unwrap();
        Gate { lock }
    }
}

impl Gate {
    /// Lets everybody through.
    pub(crate) async fn open(mut self) {
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(GATE).execute(&mut self.lock).await.unwrap();
    }
}

fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::Protocol(_) => true,
        // The server is going down, or starting.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}
