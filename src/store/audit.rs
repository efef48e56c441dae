//! The audit of events, as SQL: between a change and the effect that it has elsewhere nothing is lost and nothing doubled.
//!
//! Each check looks at what was made or changed in a range of time and sorts it: what is [`BROKEN`] is described, the rest is
//! counted by what has become of it. Each is one statement, so under load too it sees one state of the database. What is of
//! events alone goes by the day, which is a partition, so it does not grow with what is kept. Reads only.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{Conn, Error, Store, Tx};

/// What a check calls that which must not be.
pub const BROKEN: &str = "broken";

/// What is on its way: it waits, or has just left.
pub const IN_FLIGHT: &str = "in flight: ";

/// The check whose violations are what [`super::dead_letters::lost`] sends again.
pub const LOST: &str = "A3";

/// How long one statement may take. It goes through millions of rows, and nobody waits for what it locks.
const STATEMENT_TIMEOUT_MS: &str = "600000";

/// How much memory one step of a statement may take in the server; beyond that it goes on on disk.
const WORK_MEM: &str = "64MB";

/// Names every parameter, so that a check uses those that it needs.
const PARAMETERS: &str = "WITH parameters AS (
    SELECT $1::timestamptz AS since, $2::timestamptz AS until, $3::double precision AS grace, $4::text[] AS consumers,
           $5::text[] AS types, $6::boolean AS ships_at_once)";

/// Something that must hold of the events of a time.
#[derive(Debug)]
pub struct Check {
    /// Short name, e.g. `A1`.
    pub id: &'static str,
    /// What must hold.
    pub title: &'static str,
    /// Whether it is looked at day by day. If not, it is about orders, whose events may be of several days.
    pub by_day: bool,
    /// Gives two text columns: what became of it, and where that is [`BROKEN`] or [`IN_FLIGHT`] its description.
    sql: &'static str,
}

/// What the checks look at.
#[derive(Debug, Clone)]
pub struct Scope {
    /// From this time on.
    pub since: DateTime<Utc>,
    /// Before this time.
    pub until: DateTime<Utc>,
    /// For how long an event that was sent may be on its way.
    pub grace: Duration,
    /// Each consumer with one type of events that it has to handle.
    pub required: Vec<(&'static str, &'static str)>,
    /// Whether a captured order ships by itself.
    pub ships_at_once: bool,
}

/// What became of some of what a check has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What became of it.
    pub state: String,
    /// Of how many.
    pub count: i64,
    /// The first of them, described.
    pub rows: Vec<String>,
}

/// All of them.
pub const CHECKS: &[Check] = &[
    Check {
        id: "A1",
        title: "every change of an order has its event, waiting or sent: 1 to version without a gap, each once",
        by_day: false,
        // An hour, because the clocks of processes differ.
        sql: include_str!("audit/versions.sql"),
    },
    Check {
        id: "A2",
        title: "every event that was sent has its own place in the feed, and waits no more",
        by_day: false,
        sql: include_str!("audit/feed.sql"),
    },
    Check {
        id: LOST,
        title: "every event that was sent was handled by each of its consumers, is a dead letter, or is on its way",
        by_day: true,
        sql: concat!(
            include_str!("audit/consumers.sql"),
            "SELECT state, CASE WHEN state IN ('handled', 'dead letters') THEN NULL
                 ELSE format('event %s (%s) of %s, sent at %s: not handled by %s', event_id, type, subject, sent_at, consumer) END
             FROM settled"
        ),
    },
    Check {
        id: "A4",
        title: "nothing was handled that is not an event",
        by_day: true,
        sql: "SELECT CASE WHEN e.event_id IS NULL THEN 'broken' ELSE 'handled' END,
                  CASE WHEN e.event_id IS NULL THEN format('%s handled %s at %s: no such event', i.consumer, i.event_id,
                                                           i.received_at) END
              FROM (SELECT * FROM inbox WHERE event_id >= event_id_from($1) AND event_id < event_id_from($2)
                    -- An id that is of no day until now.
                    UNION ALL SELECT * FROM inbox
                    WHERE event_id >= event_id_from(clock_timestamp() + interval '1 h') AND event_id >= event_id_from($2)
                      AND received_at >= $1 AND received_at < $2) i
              LEFT JOIN (SELECT event_id FROM outbox
                         UNION ALL SELECT event_id FROM outbox_sent
                         WHERE event_id >= event_id_from($1) AND event_id < event_id_from($2)) e ON e.event_id = i.event_id",
    },
    Check {
        id: "A5",
        title: "what a consumer has handled has its effect",
        by_day: true,
        sql: include_str!("audit/effects.sql"),
    },
    Check {
        id: "A6",
        title: "what became of an order, its payments, refunds and shipments was told once, and nothing else was",
        by_day: false,
        sql: include_str!("audit/facts.sql"),
    },
    Check {
        id: "A7",
        title: "a shipment took its units out of the stock once, and nothing else did",
        by_day: false,
        sql: "SELECT CASE WHEN s.units IS DISTINCT FROM m.units THEN 'broken' ELSE 'shipments' END,
                  CASE WHEN s.units IS DISTINCT FROM m.units
                       THEN format('shipment %s holds %s of %s at %s, the ledger says %s', coalesce(s.reference, m.reference),
                                   coalesce(s.units, 0), coalesce(s.sku, m.sku), coalesce(s.location_id, m.location_id),
                                   coalesce(m.units, 0)) END
              FROM (SELECT 'shp_' || replace(s.id::text, '-', '') AS reference, r.sku, s.location_id,
                           sum(l.quantity) AS units
                    FROM shipment s JOIN shipment_line l ON l.shipment_id = s.id AND l.is_covering
                    JOIN reservation r ON r.order_id = s.order_id AND r.id = l.reservation_id
                    WHERE s.shipped_at >= $1 AND s.shipped_at < $2 GROUP BY 1, 2, 3) s
              FULL JOIN (SELECT reference, sku, location_id, -sum(delta_on_hand) AS units
                         FROM stock_movement WHERE type = 'ship' AND created_at >= $1 AND created_at < $2
                         GROUP BY 1, 2, 3) m
                USING (reference, sku, location_id)",
    },
];

/// The database's time, and from when on events are kept.
pub async fn find_times(conn: &mut Conn) -> Result<(DateTime<Utc>, DateTime<Utc>), Error> {
    Ok(sqlx::query_as("SELECT now(), kept_since FROM event_feed").fetch_one(conn).await?)
}

/// How many events wait for the broker, of those made in this time.
pub async fn count_waiting(
    conn: &mut Conn,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<i64, Error> {
    let count = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE created_at >= $1 AND created_at < $2");
    Ok(count.bind(since).bind(until).fetch_one(conn).await?)
}

/// Begins a transaction whose statements may take long.
pub async fn begin(store: &Store, name: &'static str) -> Result<Tx, Error> {
    let mut tx = store.begin_report(name).await?;
    for (name, value) in [("statement_timeout", STATEMENT_TIMEOUT_MS), ("work_mem", WORK_MEM)] {
        sqlx::query("SELECT set_config($1, $2, true)").bind(name).bind(value).execute(&mut *tx).await?;
    }
    Ok(tx)
}

/// Runs one check. Describes at most `described` of each state.
pub async fn check(
    store: &Store,
    check: &Check,
    scope: &Scope,
    described: usize,
) -> Result<Vec<Found>, Error> {
    let mut tx = begin(store, "audit").await?;
    sqlx::query("SET TRANSACTION READ ONLY").execute(&mut *tx).await?;
    let (consumers, types): (Vec<&str>, Vec<&str>) = scope.required.iter().copied().unzip();
    let sql = format!(
        "{PARAMETERS}
         SELECT state, count(*), coalesce(array_agg(detail) FILTER (WHERE detail IS NOT NULL AND place <= $7), '{{}}')
         FROM (SELECT state, detail, row_number() OVER (PARTITION BY state) AS place
               FROM ({}) AS looked_at (state, detail)) AS sorted
         GROUP BY state ORDER BY state",
        check.sql
    );
    let found: Vec<(String, i64, Vec<String>)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(scope.since)
        .bind(scope.until)
        .bind(scope.grace.as_secs_f64())
        .bind(consumers)
        .bind(types)
        .bind(scope.ships_at_once)
        .bind(i64::try_from(described).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
    tx.rollback().await?;
    Ok(found.into_iter().map(|(state, count, rows)| Found { state, count, rows }).collect())
}

/// Adds up what was found on several days.
pub fn add_up(found: impl IntoIterator<Item = Found>, described: usize) -> Vec<Found> {
    let mut sums = BTreeMap::<String, (i64, Vec<String>)>::new();
    for Found { state, count, rows } in found {
        let sum = sums.entry(state).or_default();
        sum.0 += count;
        sum.1.extend(rows);
        sum.1.truncate(described);
    }
    sums.into_iter().map(|(state, (count, rows))| Found { state, count, rows }).collect()
}
