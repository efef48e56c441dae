//! What the figures are held against: ratios between rows, and what was promised. Pure.
//!
//! A ratio compares rows of the same run only. A target whose rows were not measured is neither met nor missed.

use serde::Serialize;

use super::{
    plan::{Subject, Workload},
    result::ReportRow,
};

/// A subject beside another, under the same load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Ratio {
    /// What was sent.
    pub workload: Workload,
    /// How many sent it.
    pub clients: u16,
    /// Holdfast with its ordinary settings, beside this one.
    pub beside: Subject,
    /// Holdfast's orders per second divided by the other's: more is better.
    pub orders_per_second: f64,
    /// Holdfast's 99th percentile divided by the other's: less is better.
    pub p99: f64,
}

/// Something promised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Target {
    /// What.
    pub name: String,
    /// The bound.
    pub wanted: String,
    /// What was measured, in the unit of the bound.
    pub measured: Option<f64>,
    /// Whether it holds; empty if it was not measured.
    pub met: Option<bool>,
    /// By how much it is missed, in percent of the bound.
    pub missed_by_percent: Option<f64>,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn new(name: impl Into<String>, bound: Bound, unit: &str, measured: Option<f64>) -> Self {
        let (sign, value) = match bound {
            Bound::AtLeast(value) => (">=", value),
            Bound::AtMost(value) => ("<=", value),
        };
        let met = measured.map(|measured| match bound {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        });
        let missed =
            measured.filter(|_| met == Some(false)).map(|measured| (measured / value - 1.0).abs() * 100.0);
        Self {
            name: name.into(),
            wanted: format!("{sign} {value}{unit}"),
            measured,
            met,
            missed_by_percent: missed,
        }
    }
}

/// The rows by what they are.
struct Rows<'a>(&'a [ReportRow]);

impl Rows<'_> {
    fn find(&self, workload: Workload, clients: u16, processes: u16, subject: Subject) -> Option<&ReportRow> {
        self.0.iter().find(|row| {
            (row.workload, row.clients, row.processes, row.subject) == (workload, clients, processes, subject)
        })
    }

    /// Holdfast in one process beside another subject.
    fn ratio(&self, workload: Workload, clients: u16, beside: Subject) -> Option<Ratio> {
        let own = self.find(workload, clients, 1, Subject::Holdfast)?;
        let other = self.find(workload, clients, 1, beside)?;
        Some(Ratio {
            workload,
            clients,
            beside,
            orders_per_second: own.orders_per_second / other.orders_per_second,
            p99: own.p99_ms / other.p99_ms,
        })
    }

    /// How much of the orders per second of an empty database is left, in percent.
    fn growth(&self, of: Workload) -> Option<f64> {
        let rate = |is_empty: bool| {
            let fits = |row: &&ReportRow| row.of == Some(of) && (row.orders_before == Some(0)) == is_empty;
            self.0.iter().find(fits).map(|row| row.orders_per_second)
        };
        Some(rate(false)? / rate(true)? * 100.0)
    }
}

/// Holdfast beside every other subject, wherever both were measured.
pub(super) fn ratios(rows: &[ReportRow]) -> Vec<Ratio> {
    let rows = Rows(rows);
    let mut ratios = Vec::new();
    for workload in [Workload::Hot, Workload::Spread, Workload::Retail] {
        for clients in [1, 16, 64] {
            let others = Subject::ALL.into_iter().filter(|subject| *subject != Subject::Holdfast);
            ratios.extend(others.filter_map(|beside| rows.ratio(workload, clients, beside)));
        }
    }
    ratios
}

/// Every target, with what was measured.
pub(super) fn targets(rows: &[ReportRow]) -> Vec<Target> {
    use Bound::{AtLeast, AtMost};
    let all = Rows(rows);
    let faster = |workload: Workload, clients: u16, beside: Subject, least: f64| {
        let name = format!("{}, {clients} clients: orders/s beside {}", workload.as_str(), beside.as_str());
        let measured = all.ratio(workload, clients, beside).map(|ratio| ratio.orders_per_second);
        Target::new(name, AtLeast(least), " x", measured)
    };
    let hot_p99 = all.ratio(Workload::Hot, 64, Subject::Pgbench).map(|ratio| 1.0 / ratio.p99);
    let hot = |processes| Some(all.find(Workload::Hot, 64, processes, Subject::Holdfast)?.orders_per_second);
    let spread_out = hot(4).zip(hot(1)).map(|(four, one)| four / one * 100.0);
    let waits = all.find(Workload::Fairness, 64, 2, Subject::Holdfast).map(|row| row.p99_ms);
    let pipeline = all.find(Workload::Pipeline, 64, 1, Subject::Holdfast).map(|row| row.orders_per_second);
    let memory =
        rows.iter().filter(|row| row.subject.is_holdfast()).filter_map(|row| row.rss_mib).reduce(f64::max);
    vec![
        faster(Workload::Hot, 64, Subject::Pgbench, 15.0),
        Target::new("hot, 64 clients: p99 of pgbench beside holdfast's", AtLeast(15.0), " x", hot_p99),
        faster(Workload::Hot, 16, Subject::Pgbench, 4.0),
        faster(Workload::Spread, 64, Subject::Pgbench, 2.0),
        faster(Workload::Retail, 64, Subject::Pgbench, 1.5),
        faster(Workload::Retail, 64, Subject::PerOrder, 5.0),
        faster(Workload::Hot, 1, Subject::Pgbench, 1.0),
        faster(Workload::Spread, 1, Subject::Pgbench, 1.0),
        Target::new("hot, 64 clients: orders/s of 4 processes beside 1", AtLeast(50.0), " %", spread_out),
        Target::new("fairness: p99 of a client on another process", AtMost(100.0), " ms", waits),
        Target::new("pipeline, 64 clients: orders/s", AtLeast(800.0), "", pipeline),
        Target::new("growth: hot orders/s that are left", AtLeast(85.0), " %", all.growth(Workload::Hot)),
        Target::new(
            "growth: spread orders/s that are left",
            AtLeast(85.0),
            " %",
            all.growth(Workload::Spread),
        ),
        Target::new("memory of an API process", AtMost(100.0), " MiB", memory),
    ]
}

#[cfg(test)]
mod tests {
    use super::{super::result::tests::row, *};

    #[test]
    fn targets_are_met_missed_or_not_measured() {
        let rows = [
            row(Workload::Hot, 64, 1, Subject::Holdfast, (15_000.0, 10)),
            row(Workload::Hot, 64, 4, Subject::Holdfast, (6_000.0, 10)),
            row(Workload::Hot, 64, 1, Subject::Pgbench, (1_000.0, 300)),
            row(Workload::Fairness, 64, 2, Subject::Holdfast, (9.0, 150)),
            row(Workload::Spread, 64, 1, Subject::Holdfast, (900.0, 5)).of_growth(1_000_000),
            row(Workload::Spread, 64, 1, Subject::Holdfast, (1_000.0, 5)).of_growth(0),
        ];
        let targets = targets(&rows);
        let target = |name: &str| targets.iter().find(|target| target.name.contains(name)).unwrap();
        let faster = target("hot, 64 clients: orders/s beside pgbench");
        assert_eq!((faster.measured, faster.met, faster.missed_by_percent), (Some(15.0), Some(true), None));
        assert_eq!(
            (target("p99 of pgbench").measured, target("p99 of pgbench").met),
            (Some(30.0), Some(true))
        );
        let processes = target("4 processes");
        assert_eq!((processes.met, processes.missed_by_percent.map(f64::round)), (Some(false), Some(20.0)));
        let fairness = target("fairness");
        assert_eq!((fairness.met, fairness.missed_by_percent.map(f64::round)), (Some(false), Some(50.0)));
        assert_eq!(target("growth: spread").measured, Some(90.0));
        assert_eq!((target("growth: hot").measured, target("growth: hot").met), (None, None));
        assert_eq!(target("retail, 64 clients: orders/s beside per_order").met, None);
    }

    #[test]
    fn growth_rows_are_no_rows_of_their_workload() {
        let rows = [
            row(Workload::Hot, 64, 1, Subject::Holdfast, (10.0, 1)).of_growth(5),
            row(Workload::Hot, 64, 1, Subject::Pgbench, (10.0, 1)),
        ];
        assert_eq!(ratios(&rows), []);
    }

    #[test]
    fn a_ratio_puts_holdfast_first() {
        let rows = [
            row(Workload::Retail, 16, 1, Subject::Holdfast, (300.0, 20)),
            row(Workload::Retail, 16, 1, Subject::PgbenchLean, (100.0, 80)),
        ];
        let ratio = Ratio {
            workload: Workload::Retail,
            clients: 16,
            beside: Subject::PgbenchLean,
            orders_per_second: 3.0,
            p99: 0.25,
        };
        assert_eq!(ratios(&rows), [ratio]);
    }
}
