//! What many orders cost: the same load on a database that holds millions of them, and beside it on an empty one.
//!
//! The rows are written set-wise by SQL, as old orders whose time has run out, so that every invariant holds for them.

use std::path::Path;

use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{
    Progress,
    database::{Database, Sent},
    measure::Measuring,
    plan::{Row, Subject, Workload},
    result::{Measurement, ReportRow},
};

/// How often each is measured at most.
const ROUNDS: u32 = 3;
/// How many times as long as other rows. A checkpoint comes right before, after which the first write to a page of an index
/// costs a whole page of log: in a short window there is little else, while a server makes a checkpoint in five minutes.
const LENGTH: u32 = 5;
/// Orders of one transaction of the filling.
const BATCH: u64 = 100_000;
/// What an order takes, with its indexes and the log of writing it.
const BYTES_PER_ORDER: u64 = 3200;

/// How many steps the progress counts.
pub(super) fn steps(rounds: u32) -> u64 {
    1 + 4 * u64::from(rounds.min(ROUNDS))
}

impl Measuring {
    /// Fills a database with so many orders, and measures both in turn, at most three times.
    pub(super) async fn growth(
        &mut self,
        orders: u64,
        rounds: u32,
        progress: &Progress,
    ) -> anyhow::Result<Vec<ReportRow>> {
        self.length *= LENGTH;
        self.require_room(orders).await?;
        let grown = self.server.create().await?;
        fill(&grown, orders, progress).await?;
        progress.done(&format!("{orders} orders written"));
        let mut sent = Sent { accepted: orders, refused: 0 };
        let mut rows = Vec::new();
        for workload in [Workload::Hot, Workload::Spread] {
            let row = Row { workload, clients: 64, processes: 1, subject: Subject::Holdfast };
            let (mut on_empty, mut on_grown): (Vec<Measurement>, Vec<Measurement>) = (Vec::new(), Vec::new());
            for _ in 0..rounds.min(ROUNDS) {
                let measured = self.row(row).await?;
                progress.measured(&format!("growth: {row} on an empty database"), &measured);
                on_empty.push(measured);
                grown.connect().await?.execute("CHECKPOINT").await?;
                let (measured, more) = self.holdfast(row, &grown).await?;
                progress.measured(&format!("growth: {row} on {orders} orders"), &measured);
                sent += more;
                on_grown.push(measured);
            }
            rows.extend(ReportRow::new(row, &on_empty).map(|row| row.of_growth(0)));
            rows.extend(ReportRow::new(row, &on_grown).map(|row| row.of_growth(orders)));
        }
        grown.check(sent, false).await?;
        self.server.drop(grown).await?;
        Ok(rows)
    }

    /// Fails where the server's disk has too little room, as far as that can be seen from here.
    async fn require_room(&self, orders: u64) -> anyhow::Result<()> {
        let mut conn = self.server.connect().await?;
        let folder: String =
            sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(&mut conn).await?;
        let disk = rustix::fs::statvfs(Path::new(&folder));
        if let (Some(_), Ok(disk)) = (self.server.local_port(), disk) {
            let (free, wanted) = (disk.f_bavail * disk.f_frsize, orders * BYTES_PER_ORDER);
            ensure!(
                free >= wanted,
                "{orders} orders need about {} GB, and {folder} has room for {} GB: choose another --growth",
                wanted / 1_000_000_000,
                free / 1_000_000_000
            );
        }
        Ok(())
    }
}

async fn fill(database: &Database, orders: u64, progress: &Progress) -> anyhow::Result<()> {
    let mut conn = database.connect().await?;
    // Foreign keys need no check here, which takes most of the time; only a superuser may say so.
    let _ = conn.execute("SET session_replication_role = replica").await;
    let mut written = 0;
    while written < orders {
        let next = orders.min(written + BATCH);
        fill_batch(&mut conn, database, (written, next, orders))
            .await
            .context("the database cannot be filled")?;
        written = next;
        progress.say(&format!("growth: {written} of {orders} orders written"));
    }
    conn.execute("VACUUM ANALYZE").await?;
    conn.execute("CHECKPOINT").await?;
    conn.close().await?;
    Ok(())
}

/// Writes the orders from `from` to `to` of `all`.
async fn fill_batch(
    conn: &mut PgConnection,
    database: &Database,
    (from, to, all): (u64, u64, u64),
) -> anyhow::Result<()> {
    let written = sqlx::query(include_str!("sql/old_orders.sql"))
        .bind(i64::try_from(from)?)
        .bind(i64::try_from(to)?)
        .bind(i64::try_from(all)?)
        .bind(&database.location)
        .bind(database.api_key)
        .execute(conn)
        .await?;
    ensure!(
        written.rows_affected() == to - from,
        "{} of {} orders written",
        written.rows_affected(),
        to - from
    );
    Ok(())
}
