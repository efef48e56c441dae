//! Measuring one row once: a fresh database, the processes, the load, and afterwards the proof that nothing is wrong.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    database::{Database, Sent, Server},
    load::{self, Client},
    orders::{Basket, Orders},
    pgbench,
    plan::{Row, Subject, Workload},
    processes::{Api, Environment, Launcher, stop_all},
    result::{Measurement, rate},
    usage::{Watched, Window, peak_memory},
};

/// The lines of a large order.
const LARGE: u32 = 60;
/// One order of a paced client each.
const PACE: Duration = Duration::from_millis(100);
/// So that a paced client has enough of them for a 99th percentile.
const PACED_AT_LEAST: Duration = Duration::from_secs(10);

/// The settings of one lock and one transaction for each order: no lock is kept after its use, no transaction holds two orders.
const PER_ORDER: &[(&str, &str)] = &[
    ("HOLDFAST__LOCK__ZOOKEEPER__CACHE", "false"),
    ("HOLDFAST__RESERVATION__BATCH_ORDERS", "1"),
    ("HOLDFAST__RESERVATION__LANES", "16"),
];
/// The locks of measurements stay apart from all others on the same ZooKeeper.
const LOCK_ROOT: &str = "/holdfast-bench";

/// What every measurement needs.
#[derive(Debug)]
pub(super) struct Measuring {
    pub(super) server: Server,
    pub(super) launcher: Launcher,
    pub(super) baskets: Vec<Basket>,
    /// Before the time counts: connections are made, locks taken that are kept from then on.
    pub(super) warm_up: Duration,
    /// How long each is measured.
    pub(super) length: Duration,
    /// Without Holdfast's own processes.
    pub(super) watched: Watched,
    /// For what is thrown away.
    pub(super) folder: PathBuf,
    /// The program, where a row wants it.
    pub(super) pgbench: Option<PathBuf>,
}

impl Measuring {
    /// Measures a row on a database of its own.
    pub(super) async fn row(&self, row: Row) -> anyhow::Result<Measurement> {
        let database = self.server.create().await?;
        let measured = match (&self.pgbench, row.workload) {
            (Some(program), _) if !row.subject.is_holdfast() => {
                let (folder, watched) = (self.folder.join("pgbench"), self.watched.clone());
                pgbench::measure(program, row, &database, &folder, (self.warm_up, self.length), watched)
                    .await?
            }
            (_, Workload::Pipeline | Workload::PipelineRetail) => self.pipeline(row, &database).await?,
            _ => {
                let (measured, sent) = self.holdfast(row, &database).await?;
                database.check(sent, false).await?;
                measured
            }
        };
        self.server.drop(database).await?;
        Ok(measured)
    }

    /// Measures orders, and gives how all that were sent were answered.
    pub(super) async fn holdfast(
        &self,
        row: Row,
        database: &Database,
    ) -> anyhow::Result<(Measurement, Sent)> {
        let apis = self.launcher.start_apis(row.processes, &environment(row.subject, database)).await?;
        let length =
            if row.workload == Workload::Fairness { self.length.max(PACED_AT_LEAST) } else { self.length };
        let watched =
            Watched { holdfast: apis.iter().map(|api| api.process.pid).collect(), ..self.watched.clone() };
        let clients = self.clients(row, &apis);
        let mut sent = Sent::default();
        if let ([api], Some(client)) = (apis.as_slice(), clients.first()) {
            sent = load::send_each_once(api.address, &client.orders).await?;
        }
        let window = Window::new(self.warm_up, length);
        let (tally, cores) = tokio::join!(load::run(clients, window), watched.over(window));
        let mut tally = tally?;
        let memory = apis.iter().filter_map(|api| peak_memory(api.process.pid)).reduce(f64::max);
        stop_all(apis.into_iter().map(|api| api.process)).await?;
        let mut measured =
            Measurement::new(rate(tally.in_window, window.seconds()), &mut tally.latencies, cores)?;
        measured.refused = tally.refused;
        measured.peak_memory_mib = memory;
        sent += tally.sent;
        Ok((measured, sent))
    }

    /// Spread evenly over the processes. Of mixed, the last one orders much at a time and is not watched. Of fairness, all
    /// but one are on the first process, and that one, paced and watched, is on the second.
    fn clients(&self, row: Row, apis: &[Api]) -> Vec<Client> {
        let orders = Arc::new(Orders::new(row.workload, &self.baskets, &self.server.secret));
        let large = Arc::new(Orders::large(LARGE, &self.server.secret));
        let is_fairness = row.workload == Workload::Fairness;
        let client = |number: u16| {
            let is_alone = is_fairness && number == row.clients - 1;
            let is_large = row.workload == Workload::Mixed && number == row.clients - 1;
            let process =
                if is_fairness { usize::from(is_alone) } else { usize::from(number % row.processes) };
            Client {
                address: apis[process].address,
                orders: Arc::clone(if is_large { &large } else { &orders }),
                pace: is_alone.then_some(PACE),
                is_watched: is_alone || !(is_fairness || is_large),
            }
        };
        (0..row.clients).map(client).collect()
    }
}

/// The settings of a subject's processes.
pub(super) fn environment(subject: Subject, database: &Database) -> Environment {
    let mut environment = database.environment();
    let mut set = |name: &'static str, value: &str| environment.push((name, value.to_owned()));
    set("HOLDFAST__LOCK__ZOOKEEPER__ROOT", LOCK_ROOT);
    set("HOLDFAST__LOCK__BACKEND", if subject == Subject::HoldfastNone { "none" } else { "zookeeper" });
    // So high that it never refuses, and not off: what it costs is measured too.
    set("HOLDFAST__HTTP__RATE_LIMIT__REQUESTS_PER_SECOND", "1000000");
    set("HOLDFAST__HTTP__RATE_LIMIT__BURST", "1000000");
    if subject == Subject::PerOrder {
        for (name, value) in PER_ORDER {
            set(name, value);
        }
    }
    environment
}
