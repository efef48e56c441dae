//! What only grows, and is kept for a time: days of events, and rows that have served their purpose.
//!
//! A day of events is a partition of `outbox_sent` and one of `inbox`, dropped together. Tables that every order writes have no
//! index by age, which every order would pay for: they are walked through, block by block.

use chrono::NaiveDate;

use super::{Conn, Error, Store};

/// How long a change of the partitions waits for those who read or write them. Everybody else waits behind it meanwhile, so
/// it gives up soon and comes again.
const LOCK_TIMEOUT: &str = "300ms";

/// How many days ahead of today have partitions.
const DAYS_AHEAD: i32 = 2;

/// How many blocks of a table are looked through at a time.
const BLOCKS: i64 = 1_000;

/// The days of events, from the oldest on, that are not there yet: up to two days ahead.
pub async fn list_missing_event_days(conn: &mut Conn) -> Result<Vec<NaiveDate>, Error> {
    let days = sqlx::query_scalar!(
        r#"SELECT d.day::date AS "day!"
           FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS day) today,
                generate_series((SELECT coalesce(max(e.day) + 1, today.day) FROM event_day e), today.day + $1::integer,
                                interval '1 day') AS d (day)
           ORDER BY 1"#,
        DAYS_AHEAD,
    )
    .fetch_all(conn)
    .await?;
    Ok(days)
}

/// The days of events that are older than this many days, from the oldest on.
pub async fn list_past_event_days(conn: &mut Conn, days: i32) -> Result<Vec<NaiveDate>, Error> {
    let days = sqlx::query_scalar!(
        r#"SELECT day AS "day!" FROM event_day WHERE day < (now() AT TIME ZONE 'UTC')::date - $1::integer ORDER BY 1"#,
        days,
    )
    .fetch_all(conn)
    .await?;
    Ok(days)
}

/// The day of the oldest event that is not published yet.
pub async fn find_oldest_pending_day(conn: &mut Conn) -> Result<Option<NaiveDate>, Error> {
    let day = sqlx::query_scalar!(
        r#"SELECT (created_at AT TIME ZONE 'UTC')::date AS "day!" FROM outbox ORDER BY id LIMIT 1"#
    );
    Ok(day.fetch_optional(conn).await?)
}

/// Makes the partitions of a day.
pub async fn make_event_day(store: &Store, day: NaiveDate) -> Result<(), Error> {
    let mut tx = store.begin("make_event_day").await?;
    set_lock_timeout(&mut tx).await?;
    sqlx::query!("SELECT make_event_day($1)", day).fetch_one(&mut *tx).await?;
    tx.commit().await
}

/// Drops the oldest day of events.
pub async fn drop_event_day(store: &Store, day: NaiveDate) -> Result<(), Error> {
    let mut tx = store.begin("drop_event_day").await?;
    set_lock_timeout(&mut tx).await?;
    sqlx::query!("SELECT drop_event_day($1)", day).fetch_one(&mut *tx).await?;
    tx.commit().await
}

async fn set_lock_timeout(conn: &mut Conn) -> Result<(), Error> {
    sqlx::query!("SELECT set_config('lock_timeout', $1, true)", LOCK_TIMEOUT).fetch_one(conn).await?;
    Ok(())
}

/// A table that is walked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgingTable {
    /// Keys count from their request on.
    IdempotencyKeys,
    /// Events of the payment providers that took effect, from when they came.
    ProviderEvents,
}

/// A place in a table that is walked through, from its first block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block(i64);

/// What a step of a walk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkStep {
    /// How many rows were deleted.
    pub deleted: u64,
    /// Where the walk goes on; `None` at the end of the table.
    pub next: Option<Block>,
}

impl Block {
    fn step(self, deleted: u64, blocks: i64) -> WalkStep {
        let next = self.0 + BLOCKS;
        WalkStep { deleted, next: (next < blocks).then_some(Self(next)) }
    }
}

/// Deletes the rows in the next blocks of a table that are older than this many days.
pub async fn delete_in_blocks(
    conn: &mut Conn,
    table: AgingTable,
    from: Block,
    days: i32,
) -> Result<WalkStep, Error> {
    match table {
        AgingTable::IdempotencyKeys => delete_idempotency_keys(conn, from, days).await,
        AgingTable::ProviderEvents => delete_provider_events(conn, from, days).await,
    }
}

/// Deletes the idempotency keys in the next blocks that are older than this many days.
async fn delete_idempotency_keys(conn: &mut Conn, from: Block, days: i32) -> Result<WalkStep, Error> {
    let row = sqlx::query!(
        r#"WITH gone AS (
               DELETE FROM idempotency_key
               WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
                 AND created_at < now() - make_interval(days => $3) RETURNING 1)
           SELECT count(*) AS "deleted!",
                  pg_relation_size('idempotency_key') / current_setting('block_size')::bigint AS "blocks!" FROM gone"#,
        from.0,
        from.0 + BLOCKS,
        days,
    )
    .fetch_one(conn)
    .await?;
    Ok(from.step(row.deleted.unsigned_abs(), row.blocks))
}

/// Deletes the providers' events in the next blocks that took effect and came more than this many days ago.
async fn delete_provider_events(conn: &mut Conn, from: Block, days: i32) -> Result<WalkStep, Error> {
    let row = sqlx::query!(
        r#"WITH gone AS (
               DELETE FROM provider_event
               WHERE ctid >= format('(%s,0)', $1::bigint)::tid AND ctid < format('(%s,0)', $2::bigint)::tid
                 AND processed_at IS NOT NULL AND received_at < now() - make_interval(days => $3) RETURNING 1)
           SELECT count(*) AS "deleted!",
                  pg_relation_size('provider_event') / current_setting('block_size')::bigint AS "blocks!" FROM gone"#,
        from.0,
        from.0 + BLOCKS,
        days,
    )
    .fetch_one(conn)
    .await?;
    Ok(from.step(row.deleted.unsigned_abs(), row.blocks))
}

/// Deletes one stock import with its rows that ended more than this many days ago. `false`: there is none.
pub async fn delete_stock_import(conn: &mut Conn, days: i32) -> Result<bool, Error> {
    let deleted = sqlx::query!(
        "WITH gone AS (
             DELETE FROM stock_import
             WHERE id = (SELECT id FROM stock_import WHERE completed_at < now() - make_interval(days => $1)
                         ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id),
         rows AS (DELETE FROM stock_import_row WHERE import_id IN (SELECT id FROM gone))
         SELECT id FROM gone",
        days,
    )
    .fetch_optional(conn)
    .await?;
    Ok(deleted.is_some())
}
