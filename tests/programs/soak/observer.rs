//! What is seen of the system from its database, and when something last worked.
//!
//! The soak puts triggers of its own into its private database. They count what cannot be told afterwards: how often an event
//! came to a consumer that had handled it, and each change of a level in the order of the commits. The schema's own guard
//! against a token that goes back is taken away: what the program does by itself is to be seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::system::System;

/// Sequences do not go back with a transaction, so they count also what is rolled back. A row that is there already reaches a
/// trigger before its conflict is found.
const TRIGGERS: &str = "
    CREATE SEQUENCE soak_duplicates;
    CREATE SEQUENCE soak_payment;
    CREATE SEQUENCE soak_fulfilment;
    CREATE FUNCTION soak_inbox() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM inbox WHERE consumer = NEW.consumer AND event_id = NEW.event_id) THEN
            PERFORM nextval('soak_duplicates');
        ELSIF NEW.consumer IN ('payment', 'fulfilment') THEN
            PERFORM nextval('soak_' || NEW.consumer);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER soak BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION soak_inbox();
    CREATE TABLE soak_level (id bigint GENERATED ALWAYS AS IDENTITY, sku text COLLATE \"C\", location_id text COLLATE \"C\",
        fence_epoch integer, fence bigint, on_hand bigint, reserved bigint, committed bigint);
    CREATE FUNCTION soak_level() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO soak_level (sku, location_id, fence_epoch, fence, on_hand, reserved, committed)
        VALUES (NEW.sku, NEW.location_id, NEW.fence_epoch, NEW.fence, NEW.on_hand, NEW.reserved, NEW.committed);
        RETURN NULL;
    END $$;
    CREATE TRIGGER soak AFTER UPDATE ON inventory_level FOR EACH ROW EXECUTE FUNCTION soak_level();
    DROP TRIGGER inventory_level_fence_grows ON inventory_level";

/// A level's row is locked from its change until the commit: the numbers of its changes are in the order of their commits.
const STALE_WRITES: &str = "
    SELECT count(*) FROM (
        SELECT (fence_epoch, fence) < (lag(fence_epoch) OVER changes, lag(fence) OVER changes) AS went_back,
               reserved > lag(reserved) OVER changes AND fence = 0 AS without_token
        FROM soak_level WINDOW changes AS (PARTITION BY sku, location_id ORDER BY id)) AS steps
    WHERE went_back OR without_token";

/// The ways through the system, each by a number that grows whenever it works.
const PATHS: &str = "
    SELECT (SELECT position FROM event_feed), (SELECT last_value FROM soak_payment), (SELECT last_value FROM soak_fulfilment),
           (SELECT count(*) FROM orders WHERE status = 'expired'),
           (SELECT count(*) FROM stock_import WHERE completed_at IS NOT NULL)";

/// What is known of now.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// When each way through the system last worked.
    worked_at: Mutex<BTreeMap<String, Instant>>,
    /// From the end of each fault to when what it had hit worked.
    pub(super) recoveries: Mutex<Vec<Duration>>,
    /// How many faults of each kind there were.
    pub(super) faults: Mutex<BTreeMap<&'static str, u64>>,
    /// What is down on purpose.
    pub(super) down: Mutex<BTreeSet<String>>,
    /// Nobody is to be started again any more.
    pub(super) is_over: AtomicBool,
}

impl Board {
    pub(super) fn works(&self, path: &str) {
        self.worked_at.lock().unwrap().insert(path.to_owned(), Instant::now());
    }

    pub(super) fn worked_since(&self, path: &str, since: Instant) -> Option<Duration> {
        let worked_at = *self.worked_at.lock().unwrap().get(path)?;
        worked_at.checked_duration_since(since)
    }
}

pub(super) async fn install(system: &System) {
    sqlx::raw_sql(TRIGGERS).execute(&system.database).await.unwrap();
}

/// How many deliveries came for events that had been handled.
pub(super) async fn duplicates(system: &System) -> i64 {
    system.count("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM soak_duplicates").await
}

/// How many writes went through under an older token than the one before, or promised stock without one.
pub(super) async fn stale_writes(system: &System) -> i64 {
    system.count(STALE_WRITES).await
}

/// Notes what works, until it is aborted.
pub(super) async fn watch(system: Arc<System>, board: Arc<Board>) {
    let mut before = [0; 5];
    loop {
        sleep(Duration::from_millis(100)).await;
        let row: Result<(i64, i64, i64, i64, i64), _> =
            sqlx::query_as(PATHS).fetch_one(&system.database).await;
        let Ok(row) = row else { continue };
        let now = [row.0, row.1, row.2, row.3, row.4];
        for (path, (now, before)) in
            ["relay", "payment", "fulfilment", "expiry", "import"].iter().zip(now.iter().zip(before))
        {
            if *now > before {
                board.works(path);
            }
        }
        before = now;
    }
}
