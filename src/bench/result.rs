//! What was measured: one round of a row, and the row over all rounds. Pure.

use anyhow::Context as _;
use serde::Serialize;

use super::{
    plan::{Row, Subject, Workload},
    statistics::{float, median, percentile},
    usage::Cores,
};

/// One round of one row.
#[derive(Debug, Clone)]
pub(super) struct Measurement {
    pub(super) orders_per_second: f64,
    p50_ms: f64,
    p90_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) refused: u64,
    pub(super) peak_memory_mib: Option<f64>,
    cores: Cores,
}

impl Measurement {
    /// From the latencies in microseconds. Fails if there are none: nothing was measured.
    pub(super) fn new(orders_per_second: f64, latencies: &mut [u32], cores: Cores) -> anyhow::Result<Self> {
        let mut milliseconds = |percent| {
            let micros =
                percentile(latencies, percent).context("no order was accepted while it was measured")?;
            anyhow::Ok(f64::from(micros) / 1000.0)
        };
        let (p50_ms, p90_ms, p99_ms) = (milliseconds(50)?, milliseconds(90)?, milliseconds(99)?);
        Ok(Self { orders_per_second, p50_ms, p90_ms, p99_ms, refused: 0, peak_memory_mib: None, cores })
    }
}

/// One row of the report: medians over the rounds, but for what is named otherwise.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ReportRow {
    /// What was sent.
    pub workload: Workload,
    /// Of growth: which workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Workload>,
    /// Of growth: how many orders the database held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orders_before: Option<u64>,
    /// How many sent it.
    pub clients: u16,
    /// To how many processes.
    pub processes: u16,
    /// Who was measured.
    pub subject: Subject,
    /// Orders accepted in a second; of the pipeline, orders fulfilled.
    pub orders_per_second: f64,
    /// In the slowest round.
    pub orders_per_second_min: f64,
    /// In the fastest round.
    pub orders_per_second_max: f64,
    /// Half of the orders took no longer.
    pub p50_ms: f64,
    /// 90 % took no longer.
    pub p90_ms: f64,
    /// 99 % took no longer.
    pub p99_ms: f64,
    /// The most memory that one API process had, in any round.
    pub rss_mib: Option<f64>,
    /// How often it was measured.
    pub rounds: usize,
    /// Orders answered by 503, in all rounds.
    pub refused_503: u64,
    /// Processor cores in use.
    pub cpu: Cores,
}

impl ReportRow {
    /// Sums up the rounds of a row. `None` if there are none.
    pub(super) fn new(row: Row, rounds: &[Measurement]) -> Option<Self> {
        let of = |field: fn(&Measurement) -> f64| median(&rounds.iter().map(field).collect::<Vec<_>>());
        let known = |field: fn(&Measurement) -> Option<f64>| {
            median(&rounds.iter().filter_map(field).collect::<Vec<_>>())
        };
        let rates = rounds.iter().map(|round| round.orders_per_second);
        Some(Self {
            workload: row.workload,
            of: None,
            orders_before: None,
            clients: row.clients,
            processes: row.processes,
            subject: row.subject,
            orders_per_second: of(|round| round.orders_per_second)?,
            orders_per_second_min: rates.clone().fold(f64::INFINITY, f64::min),
            orders_per_second_max: rates.fold(0.0, f64::max),
            p50_ms: of(|round| round.p50_ms)?,
            p90_ms: of(|round| round.p90_ms)?,
            p99_ms: of(|round| round.p99_ms)?,
            rss_mib: rounds.iter().filter_map(|round| round.peak_memory_mib).reduce(f64::max),
            rounds: rounds.len(),
            refused_503: rounds.iter().map(|round| round.refused).sum(),
            cpu: Cores {
                holdfast: of(|round| round.cores.holdfast)?,
                postgres: known(|round| round.cores.postgres),
                zookeeper: known(|round| round.cores.zookeeper),
                load: of(|round| round.cores.load)?,
            },
        })
    }

    /// The same row as one of growth, measured on a database with so many orders.
    pub(super) fn of_growth(mut self, orders_before: u64) -> Self {
        self.of = Some(self.workload);
        self.workload = Workload::Growth;
        self.orders_before = Some(orders_before);
        self
    }

    /// Processor time of all servers for one order, in milliseconds; the load generator's is left out.
    pub(super) fn processor_ms(&self) -> f64 {
        let cores = self.cpu.holdfast + self.cpu.postgres.unwrap_or(0.0) + self.cpu.zookeeper.unwrap_or(0.0);
        cores * 1000.0 / self.orders_per_second
    }
}

/// The latencies that the database knows, in microseconds.
pub(super) fn micros(seconds: f64) -> u32 {
    // Saturates, and a negative one becomes 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturating is what is wanted"
    )]
    let micros = (seconds * 1_000_000.0) as u32;
    micros
}

/// How many in a second.
pub(super) fn rate(count: u64, seconds: f64) -> f64 {
    float(count) / seconds
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row that was measured once.
    pub(crate) fn row(
        workload: Workload,
        clients: u16,
        processes: u16,
        subject: Subject,
        (orders_per_second, p99): (f64, u32),
    ) -> ReportRow {
        let measured = Measurement::new(orders_per_second, &mut [p99 * 1000], Cores::default()).unwrap();
        ReportRow::new(Row { workload, clients, processes, subject }, &[measured]).unwrap()
    }

    #[test]
    fn a_row_is_the_median_of_its_rounds() {
        let round = |rate: f64, latency: u32, refused, memory| Measurement {
            refused,
            peak_memory_mib: memory,
            ..Measurement::new(rate, &mut [latency], Cores { holdfast: rate / 10.0, ..Cores::default() })
                .unwrap()
        };
        let rounds =
            [round(30.0, 5000, 1, Some(20.0)), round(10.0, 1000, 0, Some(30.0)), round(20.0, 9000, 2, None)];
        let row = Row { workload: Workload::Hot, clients: 1, processes: 1, subject: Subject::Holdfast };
        let row = ReportRow::new(row, &rounds).unwrap();
        assert_eq!(
            (row.orders_per_second, row.orders_per_second_min, row.orders_per_second_max),
            (20.0, 10.0, 30.0)
        );
        assert_eq!((row.p99_ms, row.rounds, row.refused_503, row.rss_mib), (5.0, 3, 3, Some(30.0)));
        assert_eq!((row.cpu.holdfast, row.cpu.postgres), (2.0, None));
        assert!((row.processor_ms() - 100.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_measurement_without_orders_is_an_error() {
        assert!(Measurement::new(0.0, &mut [], Cores::default()).is_err());
    }
}
