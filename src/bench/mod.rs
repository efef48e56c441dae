//! `holdfast bench`: how fast this is, beside bare PostgreSQL on the same machine at the same time.
//!
//! It measures what ships: this same program as real processes, driven over HTTP, on fresh databases in the configured
//! server. Each measurement ends with the proof that nothing was lost, oversold or counted twice; a figure whose proof
//! fails is an error, not a figure. Leaves no process and no database behind.
//!
//! Reading order: [`plan`] (what), `measure` (how), `load` and `wire` (who sends), `pgbench` (the reference), `targets`
//! (what was promised).

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::bail;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::config::Config;

mod database;
mod growth;
mod load;
mod machine;
mod measure;
mod orders;
mod pgbench;
mod pipeline;
pub mod plan;
mod plot;
mod processes;
mod report;
mod result;
mod statistics;
mod targets;
mod usage;
mod wire;

use database::Server;
use machine::Machine;
use measure::Measuring;
pub use orders::{Basket, buyable};
use plan::{Row, RowFilter};
use processes::Launcher;
use report::{Report, whole};
use result::{Measurement, ReportRow};
use usage::{Watched, listener};

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// How long the load runs before it is measured.
    pub warm_up: Duration,
    /// How long each measurement is.
    pub length: Duration,
    /// How often each row is measured.
    pub rounds: u32,
    /// Which rows; all if empty.
    pub only: Vec<RowFilter>,
    /// How many orders the grown database holds; 0 leaves it out.
    pub growth: u64,
    /// Where the report goes.
    pub folder: PathBuf,
    /// The baskets of the retail workload.
    pub baskets: Vec<Basket>,
    /// The configuration file that the processes get, if there is one.
    pub config_file: Option<PathBuf>,
}

/// Measures, writes the report and prints it.
///
/// # Errors
/// A server cannot be used, a process fails, an order is refused, or an invariant is broken.
pub async fn run(config: &Config, options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let rows = plan::rows(&options.only);
    if rows.is_empty() && options.growth == 0 {
        bail!("no row is called that: see `holdfast bench --help`");
    }
    let has_reference = rows.iter().any(|row| !row.subject.is_holdfast());
    let server = Server::new(config)?;
    let mut measuring = Measuring {
        watched: Watched {
            postgres: server.local_port().and_then(listener),
            zookeeper: port(&config.lock.zookeeper.servers).and_then(listener),
            ..Watched::default()
        },
        server,
        launcher: Launcher::new(options.config_file.clone(), options.folder.join("logs"))?,
        baskets: options.baskets.clone(),
        warm_up: options.warm_up,
        length: options.length,
        folder: options.folder.clone(),
        pgbench: if has_reference { Some(pgbench::find()?) } else { None },
    };
    let outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
        outcome = measuring.all(config, rows, &options) => outcome,
    };
    let dropped = measuring.server.drop_all().await;
    outcome.and(dropped)
}

impl Measuring {
    async fn all(&mut self, config: &Config, mut rows: Vec<Row>, options: &Options) -> anyhow::Result<()> {
        let mut conn = self.server.connect().await?;
        let machine = Machine::look(&mut conn, &config.lock.zookeeper.servers).await?;
        drop(conn);
        self.server.prepare(&self.launcher, &orders::skus(&self.baskets)).await?;
        let steps = rows.len() as u64 * u64::from(options.rounds);
        let progress =
            Progress::new(steps + if options.growth > 0 { growth::steps(options.rounds) } else { 0 });
        let mut measured: BTreeMap<Row, Vec<Measurement>> = BTreeMap::new();
        for _ in 0..options.rounds {
            for row in &rows {
                let measurement =
                    self.row(*row).await.map_err(|error| error.context(format!("{row} failed")))?;
                progress.measured(&row.to_string(), &measurement);
                measured.entry(*row).or_default().push(measurement);
            }
            Report::new(machine.clone(), report_rows(&measured)).write(&options.folder)?;
            // What grows slower in the course of a round is early in the next.
            rows.reverse();
        }
        let mut rows = report_rows(&measured);
        if options.growth > 0 {
            rows.extend(self.growth(options.growth, options.rounds, &progress).await?);
        }
        progress.finish();
        let report = Report::new(machine, rows);
        report.write(&options.folder)?;
        println!("\n{}\n{}", report.table(), report.verdict());
        println!("  report.json, report.md and report.svg are in {}", options.folder.display());
        Ok(())
    }
}

fn report_rows(measured: &BTreeMap<Row, Vec<Measurement>>) -> Vec<ReportRow> {
    measured.iter().filter_map(|(row, rounds)| ReportRow::new(*row, rounds)).collect()
}

/// The port of the first server of a list, if that is on this machine.
fn port(servers: &str) -> Option<u16> {
    let (host, port) = servers.split([',', '/']).next()?.trim().rsplit_once(':')?;
    let is_local = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    port.parse().ok().filter(|_| is_local)
}

/// A progress bar with the time that is left, and a line for each figure.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        if let Ok(style) =
            ProgressStyle::with_template("[{bar:40}] {pos}/{len} {elapsed} passed, {eta} left {msg}")
        {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar }
    }

    fn measured(&self, what: &str, measured: &Measurement) {
        let (rate, p99) = (whole(measured.orders_per_second), measured.p99_ms);
        let refused =
            if measured.refused > 0 { format!(", {} refused", measured.refused) } else { String::new() };
        self.done(&format!("{what:<32} {rate:>8} orders/s, p99 {p99:.1} ms{refused}"));
    }

    fn done(&self, line: &str) {
        self.bar.inc(1);
        if self.bar.is_hidden() {
            eprintln!("{}/{} {line}", self.bar.position(), self.bar.length().unwrap_or_default());
        } else {
            self.bar.println(line);
        }
    }

    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn only_a_server_of_this_machine_has_a_port() {
        assert_eq!(port("127.0.0.1:2181,127.0.0.1:2182/root"), Some(2181));
        assert_eq!(port("localhost:2181/root"), Some(2181));
        assert_eq!(port("zookeeper:2181"), None);
        assert_eq!(port("localhost"), None);
    }
}
