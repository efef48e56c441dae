//! The plot: bars of orders per second and of the 99th percentile at 64 clients, as SVG. Pure.

use std::fmt::Write as _;

use super::{
    plan::{Subject, Workload},
    report::whole,
    result::ReportRow,
    statistics::float,
};

const WIDTH: f64 = 960.0;
const PANEL: f64 = 300.0;
/// Of a panel, above and below the bars.
const ABOVE: f64 = 60.0;
const BELOW: f64 = 30.0;
const LEFT: f64 = 70.0;
/// Lines across a panel.
const GRID: u32 = 4;

const fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Holdfast => "#1b6ca8",
        Subject::HoldfastNone => "#6fb1dc",
        Subject::PerOrder => "#b9b9b9",
        Subject::Pgbench => "#d9822b",
        Subject::PgbenchLean => "#f0bd84",
    }
}

struct Group {
    label: &'static str,
    bars: Vec<(Subject, f64)>,
}

/// Renders the rows of 64 clients and one process.
pub(super) fn render(rows: &[ReportRow]) -> String {
    let groups = |value: fn(&ReportRow) -> f64| -> Vec<Group> {
        let workloads = [Workload::Hot, Workload::Spread, Workload::Retail];
        let group = |workload: Workload| {
            let find = |subject: Subject| {
                let fits = |row: &&ReportRow| {
                    (row.workload, row.clients, row.processes, row.subject) == (workload, 64, 1, subject)
                };
                rows.iter().find(fits).map(|row| (subject, value(row)))
            };
            Group { label: workload.as_str(), bars: Subject::ALL.into_iter().filter_map(find).collect() }
        };
        workloads.map(group).into_iter().filter(|group| !group.bars.is_empty()).collect()
    };
    let height = 2.0 * PANEL + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#333\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    legend(&mut svg);
    panel(
        &mut svg,
        30.0,
        "Orders per second, 64 clients: more is better",
        &groups(|row| row.orders_per_second),
    );
    panel(
        &mut svg,
        30.0 + PANEL,
        "99th percentile in ms, 64 clients: less is better",
        &groups(|row| row.p99_ms),
    );
    svg.push_str("</svg>\n");
    svg
}

// Below, writing to a string cannot fail.

fn legend(svg: &mut String) {
    for (at, subject) in (0_u32..).zip(Subject::ALL) {
        let x = LEFT + f64::from(at) * 140.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"14\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"24\">{}</text>",
            colour(subject),
            x + 18.0,
            subject.as_str()
        );
    }
}

fn panel(svg: &mut String, top: f64, title: &str, groups: &[Group]) {
    let values = groups.iter().flat_map(|group| &group.bars).map(|(_, value)| *value);
    let most = round_up(values.fold(0.0, f64::max));
    let (bottom, room) = (top + PANEL - BELOW, PANEL - ABOVE - BELOW);
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-size=\"15\" font-weight=\"bold\">{title}</text>",
        top + 30.0
    );
    for step in 0..=GRID {
        let part = f64::from(step) / f64::from(GRID);
        let y = bottom - part * room;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - 20.0,
            LEFT - 8.0,
            y + 4.0,
            whole(most * part)
        );
    }
    let group_width = (WIDTH - LEFT - 20.0) / float(groups.len().max(1) as u64);
    for (at, group) in (0_u32..).zip(groups) {
        let left = LEFT + f64::from(at) * group_width;
        let bar_width = (group_width * 0.8 / float(group.bars.len() as u64)).min(52.0);
        let margin = (group_width - bar_width * float(group.bars.len() as u64)) / 2.0;
        for (place, (subject, value)) in (0_u32..).zip(&group.bars) {
            let (x, tall) = (left + margin + f64::from(place) * bar_width, value / most * room);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\">{}</text>",
                bottom - tall,
                bar_width - 4.0,
                colour(*subject),
                x + bar_width / 2.0 - 2.0,
                bottom - tall - 4.0,
                if *value < 10.0 { format!("{value:.1}") } else { whole(*value) }
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"13\">{}</text>",
            left + group_width / 2.0,
            bottom + 20.0,
            group.label
        );
    }
}

/// The next of 1, 2, 4, 6, 8 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|bound| *bound >= value).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::{super::result::tests::row, *};

    #[test]
    fn the_axis_ends_at_a_round_number() {
        for (value, end) in
            [(0.0, 1.0), (870.0, 1000.0), (1_001.0, 2000.0), (19_500.0, 20_000.0), (41.0, 60.0)]
        {
            assert!((round_up(value) - end).abs() < f64::EPSILON, "{value}");
        }
    }

    #[test]
    fn every_row_of_64_clients_has_a_bar_in_both_panels() {
        let rows = [
            row(Workload::Hot, 64, 1, Subject::Holdfast, (12_345.0, 8)),
            row(Workload::Hot, 64, 1, Subject::Pgbench, (870.0, 332)),
            row(Workload::Retail, 16, 1, Subject::Holdfast, (777.0, 9)),
        ];
        let svg = render(&rows);
        for label in [">12,345<", ">8.0<", ">870<", ">332<"] {
            assert_eq!(svg.matches(label).count(), 1, "{label}");
        }
        assert!(!svg.contains(">777<"));
        assert!(render(&[]).ends_with("</svg>\n"));
    }
}
