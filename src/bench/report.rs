//! The report: JSON for machines, a Markdown table for the README and the terminal, a plot.
//!
//! Owns the names in the files. Must not measure. Written after each round, so that an interrupted run leaves the last
//! whole one.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use super::{
    machine::Machine,
    plan::{Subject, Workload},
    plot,
    result::ReportRow,
    targets::{Ratio, Target, ratios, targets},
};

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: Machine,
    rows: Vec<ReportRow>,
    ratios: Vec<Ratio>,
    targets: Vec<Target>,
}

impl Report {
    pub(super) fn new(machine: Machine, rows: Vec<ReportRow>) -> Self {
        let (ratios, targets) = (ratios(&rows), targets(&rows));
        Self { machine, rows, ratios, targets }
    }

    /// Writes `report.json`, `report.md` and `report.svg` into a folder.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let files = [
            ("report.json", serde_json::to_string_pretty(self)?),
            ("report.md", self.table()),
            ("report.svg", plot::render(&self.rows)),
        ];
        for (name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// The table in Markdown, with where it comes from.
    pub(super) fn table(&self) -> String {
        let subjects =
            Subject::ALL.into_iter().filter(|subject| self.rows.iter().any(|row| row.subject == *subject));
        let subjects: Vec<Subject> = subjects.collect();
        let mut text = format!("{}\n\nOrders per second (99th percentile in ms):\n\n", self.origin());
        let mut line = |cells: Vec<String>| {
            // Invariant: writing to a string cannot fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let mut head = ["workload", "clients", "processes"].map(str::to_owned).to_vec();
        head.extend(subjects.iter().map(|subject| subject.as_str().to_owned()));
        head.extend(["beside pgbench", "CPU ms per order, beside pgbench"].map(str::to_owned));
        let columns = head.len();
        line(head);
        line((0..columns).map(|at| if at == 0 { "---".to_owned() } else { "---:".to_owned() }).collect());
        for group in self.groups() {
            let of = |subject: Subject| {
                self.rows.iter().find(|row| row.subject == subject && Group::of(row) == group)
            };
            let mut cells = vec![group.label(), group.clients.to_string(), group.processes.to_string()];
            cells.extend(subjects.iter().map(|subject| of(*subject).map_or_else(String::new, cell)));
            let pair = of(Subject::Holdfast).zip(of(Subject::Pgbench));
            let ratio = |(own, other): (&ReportRow, &ReportRow)| {
                format!("{:.1} x", own.orders_per_second / other.orders_per_second)
            };
            let effort = |(own, other): (&ReportRow, &ReportRow)| {
                format!("{:.2} / {:.2}", own.processor_ms(), other.processor_ms())
            };
            cells.push(pair.map_or_else(String::new, ratio));
            cells.push(pair.map_or_else(String::new, effort));
            line(cells);
        }
        text
    }

    /// Which targets are met.
    pub(super) fn verdict(&self) -> String {
        let mut text = String::new();
        for target in &self.targets {
            let measured =
                target.measured.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.1}"));
            let state = match (target.met, target.missed_by_percent) {
                (Some(true), _) => "met".to_owned(),
                (Some(false), by) => format!("MISSED by {:.0} %", by.unwrap_or_default()),
                (None, _) => String::new(),
            };
            let _ = writeln!(text, "  {:<62} {:>12} {measured:>14}  {state}", target.name, target.wanted);
        }
        text
    }

    fn origin(&self) -> String {
        let machine = &self.machine;
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        let rounds = self.rows.iter().map(|row| row.rounds).max().unwrap_or_default();
        format!(
            "{}: {} cores ({}), {} GiB, Linux {}, PostgreSQL {} on {}, ZooKeeper {}, commit {}; everything \
             on this machine; medians of {rounds} rounds.",
            text(&machine.date),
            machine.cores.unwrap_or_default(),
            text(&machine.processor),
            machine.memory_gib.unwrap_or_default(),
            text(&machine.kernel),
            text(&machine.postgres),
            text(&machine.disk),
            text(&machine.zookeeper),
            text(&machine.commit),
        )
    }

    fn groups(&self) -> BTreeSet<Group> {
        self.rows.iter().map(Group::of).collect()
    }
}

/// The rows that stand in one line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    workload: Workload,
    of: Option<Workload>,
    orders_before: Option<u64>,
    clients: u16,
    processes: u16,
}

impl Group {
    const fn of(row: &ReportRow) -> Self {
        Self {
            workload: row.workload,
            of: row.of,
            orders_before: row.orders_before,
            clients: row.clients,
            processes: row.processes,
        }
    }

    fn label(&self) -> String {
        let Some((of, before)) = self.of.zip(self.orders_before) else {
            return self.workload.as_str().to_owned();
        };
        let database =
            if before == 0 { "empty".to_owned() } else { format!("{} orders in the", thousands(before)) };
        format!("{}, {database} database", of.as_str())
    }
}

fn cell(row: &ReportRow) -> String {
    let p99 = if row.p99_ms < 10.0 { format!("{:.1}", row.p99_ms) } else { format!("{:.0}", row.p99_ms) };
    let refused = if row.refused_503 > 0 { format!(", {} refused", row.refused_503) } else { String::new() };
    format!("{} ({p99}{refused})", whole(row.orders_per_second))
}

/// Without a fraction, with separators.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    digits.parse().map_or(digits, thousands)
}

fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let separated = digits.char_indices().flat_map(|(at, digit)| {
        let comma = at > 0 && (digits.len() - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    });
    separated.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::result::tests::row, *};

    fn report() -> Report {
        let rows = vec![
            row(Workload::Hot, 64, 1, Subject::Pgbench, (1_000.0, 320)),
            row(Workload::Hot, 64, 1, Subject::Holdfast, (15_500.4, 8)),
            row(Workload::Hot, 64, 4, Subject::Holdfast, (9_000.0, 12)),
            row(Workload::Hot, 64, 1, Subject::Holdfast, (14_000.0, 9)).of_growth(5_000_000),
        ];
        Report::new(Machine::default(), rows)
    }

    #[test]
    fn the_table_has_a_line_for_each_load_and_a_column_for_each_subject() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(
            lines[0],
            "| workload | clients | processes | holdfast | pgbench | beside pgbench | CPU ms per order, beside pgbench |"
        );
        assert_eq!(lines[2], "| hot | 64 | 1 | 15,500 (8.0) | 1,000 (320) | 15.5 x | 0.00 / 0.00 |");
        assert_eq!(lines[3], "| hot | 64 | 4 | 9,000 (12) |  |  |  |");
        assert_eq!(lines[4], "| hot, 5,000,000 orders in the database | 64 | 1 | 14,000 (9.0) |  |  |  |");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn the_verdict_says_what_is_missed() {
        let verdict = report().verdict();
        let line = |name: &str| verdict.lines().find(|line| line.contains(name)).unwrap();
        assert!(line("orders/s beside pgbench").ends_with("met"), "{verdict}");
        assert!(line("growth: hot").contains("not measured"), "{verdict}");
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).unwrap();
        let row = &json["rows"][1];
        assert_eq!((&row["workload"], &row["subject"]), (&"hot".into(), &"holdfast".into()));
        for field in [
            "clients",
            "processes",
            "orders_per_second",
            "p50_ms",
            "p90_ms",
            "p99_ms",
            "rss_mib",
            "rounds",
            "cpu",
        ] {
            assert!(row.get(field).is_some(), "{field}");
        }
        assert_eq!(json["rows"][3]["orders_before"], 5_000_000);
        assert!(json["targets"][0]["met"].as_bool().unwrap());
        assert_eq!(json["ratios"][0]["beside"], "pgbench");
    }
}
