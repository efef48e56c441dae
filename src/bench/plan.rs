//! What is measured: the rows of the report, in the order in which a round measures them.
//!
//! Pure. Invariant: rows that are compared with each other stand next to each other, so that a machine that grows slower
//! or faster meanwhile changes both.

use std::str::FromStr;

use serde::Serialize;

/// What the clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// One SKU, one unit of it.
    Hot,
    /// One unit of one of 1,000 SKUs, at random.
    Spread,
    /// Baskets of the order file, one after the other.
    Retail,
    /// As spread, beside one client that orders 60 lines at a time; what the others wait is reported.
    Mixed,
    /// One client on a second process, while the others flood one SKU on the first.
    Fairness,
    /// From the order to its shipment, with everything running: half hot, half spread.
    Pipeline,
    /// From the order to its shipment: baskets.
    PipelineRetail,
    /// Hot or spread on a database that holds many orders, and beside it on an empty one.
    Growth,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Bare PostgreSQL: every row that Holdfast writes, one order one transaction, sent by pgbench.
    Pgbench,
    /// Holdfast as its settings say.
    Holdfast,
    /// Holdfast without locks in ZooKeeper.
    HoldfastNone,
    /// Holdfast with one lock and one transaction for each order.
    PerOrder,
    /// pgbench without reservation and idempotency key.
    PgbenchLean,
}

macro_rules! names {
    ($kind:ident: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $kind {
            /// The name in the report.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl FromStr for $kind {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("{text:?} must be one of {}", [$($name),+].join(", "))),
                }
            }
        }
    };
}

names!(Workload: Hot = "hot", Spread = "spread", Retail = "retail", Mixed = "mixed", Fairness = "fairness", Pipeline = "pipeline",
    PipelineRetail = "pipeline_retail", Growth = "growth");
names!(Subject: Pgbench = "pgbench", Holdfast = "holdfast", HoldfastNone = "holdfast_none", PerOrder = "per_order",
    PgbenchLean = "pgbench_lean");

impl Subject {
    /// All of them, as the report orders them.
    pub const ALL: [Self; 5] =
        [Self::Holdfast, Self::HoldfastNone, Self::PerOrder, Self::Pgbench, Self::PgbenchLean];

    /// Whether it is Holdfast in one way or another.
    pub const fn is_holdfast(self) -> bool {
        matches!(self, Self::Holdfast | Self::HoldfastNone | Self::PerOrder)
    }
}

/// One row: what is measured at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Row {
    /// What is sent.
    pub workload: Workload,
    /// How many send it.
    pub clients: u16,
    /// To how many processes.
    pub processes: u16,
    /// Who is measured.
    pub subject: Subject,
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (workload, subject) = (self.workload.as_str(), self.subject.as_str());
        write!(f, "{workload}:{}:{}:{subject}", self.clients, self.processes)
    }
}

/// Rows of a kind: `workload[:clients[:processes[:subject]]]`, `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFilter {
    workload: Option<Workload>,
    clients: Option<u16>,
    processes: Option<u16>,
    subject: Option<Subject>,
}

impl FromStr for RowFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        fn part<T: FromStr<Err: ToString>>(text: Option<&str>) -> Result<Option<T>, String> {
            let wanted = text.filter(|text| *text != "*");
            wanted.map(|text| text.parse().map_err(|error: T::Err| error.to_string())).transpose()
        }
        let mut parts = text.split(':');
        let filter = Self {
            workload: part(parts.next())?,
            clients: part(parts.next())?,
            processes: part(parts.next())?,
            subject: part(parts.next())?,
        };
        if parts.next().is_some() {
            return Err("must be workload[:clients[:processes[:subject]]]".into());
        }
        Ok(filter)
    }
}

impl RowFilter {
    fn fits(&self, row: Row) -> bool {
        self.workload.is_none_or(|workload| workload == row.workload)
            && self.clients.is_none_or(|clients| clients == row.clients)
            && self.processes.is_none_or(|processes| processes == row.processes)
            && self.subject.is_none_or(|subject| subject == row.subject)
    }
}

/// The rows of one round that any of the filters wants; without a filter, all.
pub(super) fn rows(only: &[RowFilter]) -> Vec<Row> {
    let mut rows = Vec::new();
    for workload in [Workload::Hot, Workload::Spread, Workload::Retail] {
        for clients in [1, 16, 64] {
            let subjects = [
                (Subject::Pgbench, true),
                (Subject::Holdfast, true),
                (Subject::HoldfastNone, true),
                (Subject::PgbenchLean, workload != Workload::Retail),
                (Subject::PerOrder, clients == 64),
            ];
            let wanted = subjects.into_iter().filter(|(_, wanted)| *wanted);
            rows.extend(wanted.map(|(subject, _)| Row { workload, clients, processes: 1, subject }));
            if clients == 64 {
                let processes: &[u16] = match workload {
                    Workload::Hot => &[2, 4],
                    Workload::Spread => &[2],
                    _ => &[],
                };
                let subject = Subject::Holdfast;
                rows.extend(processes.iter().map(|&processes| Row { workload, clients, processes, subject }));
            }
        }
    }
    let holdfast =
        |workload, clients, processes| Row { workload, clients, processes, subject: Subject::Holdfast };
    rows.extend([
        holdfast(Workload::Mixed, 64, 1),
        holdfast(Workload::Fairness, 64, 2),
        holdfast(Workload::Pipeline, 16, 1),
        holdfast(Workload::Pipeline, 64, 1),
        holdfast(Workload::PipelineRetail, 16, 1),
    ]);
    rows.retain(|row| only.is_empty() || only.iter().any(|filter| filter.fits(*row)));
    rows
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_is_there_once() {
        let all = rows(&[]);
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all.len(), 27 + 6 + 3 + 3 + 5);
    }

    #[test]
    fn a_filter_takes_the_rows_that_it_names() {
        let only = |filters: &[&str]| -> Vec<String> {
            let filters: Vec<RowFilter> = filters.iter().map(|filter| filter.parse().unwrap()).collect();
            rows(&filters).iter().map(ToString::to_string).collect()
        };
        assert_eq!(only(&["hot:64:4"]), ["hot:64:4:holdfast"]);
        assert_eq!(
            only(&["hot:1:*:pgbench", "pipeline"]),
            ["hot:1:1:pgbench", "pipeline:16:1:holdfast", "pipeline:64:1:holdfast"]
        );
        assert_eq!(only(&["spread:*:*:per_order"]), ["spread:64:1:per_order"]);
        assert_eq!(only(&["hot:2"]), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_filter_says_what_is_allowed() {
        for (filter, named) in [("warm", "spread"), ("hot:x", "digit"), ("hot:1:1:holdfast:x", "clients[:")] {
            let error = filter.parse::<RowFilter>().expect_err(filter);
            assert!(error.contains(named), "{filter}: {error}");
        }
    }
}
