//! What is said of metrics is so: `docs/operations.md` lists each, the alerts and the dashboard are made of listed ones, and each
//! alert leads to a part of that page.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

/// What the page lists beside our own: what a library tells of the process.
const OF_OTHERS: [&str; 1] = ["process_"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The metrics that `docs/operations.md` lists.
pub(crate) fn listed() -> BTreeSet<String> {
    let page = read("docs/operations.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(|cell| cell.split('{').next().unwrap().to_owned()).collect()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("holdfast_"));
    let base = |word: &str| {
        let end = ["_bucket", "_sum", "_count"].iter().find(|end| word.ends_with(*end));
        end.map_or(word, |end| &word[..word.len() - end.len()]).to_owned()
    };
    words.map(base).collect()
}

/// The names that stand in the source as texts of their own.
fn of_source() -> BTreeSet<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let literals = text.split('"');
            let is_name = |text: &&str| {
                text.starts_with("holdfast_") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            };
            // A column of the benchmark, and ids that the provider keeps with a payment.
            let is_other = |name: &str| name == "holdfast_none" || name.ends_with("_id");
            found.extend(literals.filter(is_name).filter(|name| !is_other(name)).map(str::to_owned));
        }
    }
    found
}

fn assert_listed(what: &str, text: &str) -> BTreeSet<String> {
    let used = names(text);
    let unknown: Vec<_> = used.difference(&listed()).cloned().collect();
    assert!(unknown.is_empty(), "{what} names metrics that docs/operations.md does not list: {unknown:?}");
    used
}

#[test]
fn the_page_lists_every_metric_and_no_other() {
    let (listed, source) = (listed(), of_source());
    let missing: Vec<_> = source.difference(&listed).collect();
    assert!(missing.is_empty(), "not in docs/operations.md: {missing:?}");
    let none: Vec<_> = listed
        .difference(&source)
        .filter(|name| !OF_OTHERS.iter().any(|other| name.starts_with(other)))
        .collect();
    assert!(none.is_empty(), "the program has no such metrics: {none:?}");
}

#[test]
fn each_alert_is_made_of_metrics_and_leads_to_what_is_to_be_done() {
    let (rules, page) = (read("ops/alerts.yml"), read("docs/operations.md"));
    assert_listed("ops/alerts.yml", &rules);
    let anchors: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        let anchor = rule.split("runbook: docs/operations.md#").nth(1).and_then(|rest| rest.lines().next());
        let anchor = anchor.unwrap_or_else(|| panic!("{name} leads nowhere"));
        assert!(anchors.contains(anchor), "{name}: docs/operations.md has no part {anchor}");
        let part = page.split("\n### ").find(|part| {
            part.lines().next().is_some_and(|heading| heading.to_lowercase().replace(' ', "-") == anchor)
        });
        assert!(
            part.is_some_and(|part| part.contains(&format!("`{name}`"))),
            "{anchor} does not name {name}"
        );
        alerts += 1;
    }
    assert!(alerts >= 15, "{alerts}");
}

#[test]
fn each_worker_of_the_containers_is_scraped() {
    let compose = read("docker-compose.yml");
    let services = compose.split("\nservices:\n").nth(1).unwrap();
    let is_worker = |name: &&str| name.starts_with("worker-");
    let started: BTreeSet<&str> = services
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
        .filter(is_worker)
        .collect();
    let scrape = read("ops/prometheus.yml");
    let scraped: BTreeSet<&str> =
        scrape.lines().filter_map(|line| line.trim().strip_prefix("- ")).filter(is_worker).collect();
    assert!(started.len() >= 7, "{started:?}");
    assert_eq!(started, scraped);
}

#[test]
fn the_dashboard_is_whole_and_made_of_metrics() {
    let text = read("ops/grafana/dashboards/holdfast.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(dashboard["uid"], "holdfast");
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut places, mut used) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        let (x, y, w, h) = (at("x"), at("y"), at("w"), at("h"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is beside the grid");
        let overlaps =
            |&(x2, y2, w2, h2): &(u64, u64, u64, u64)| x < x2 + w2 && x2 < x + w && y < y2 + h2 && y2 < y + h;
        assert!(!places.iter().any(overlaps), "{title} lies over another");
        places.push((x, y, w, h));
        if panel["type"] == "row" {
            continue;
        }
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "prometheus", "{title}");
            let expr = target["expr"].as_str().unwrap();
            let names = assert_listed(title, expr);
            assert!(!names.is_empty() || expr.contains("process_"), "{title}: {expr}");
            used.extend(names);
        }
    }
    // Whoever looks finds everything but what only tells the most that may be.
    let unseen: Vec<_> =
        listed().difference(&used).filter(|name| name.starts_with("holdfast_")).cloned().collect();
    assert_eq!(unseen, ["holdfast_database_connections_max"]);
    let provisioned = read("ops/grafana/provisioning/datasources/prometheus.yml");
    assert!(provisioned.contains("uid: prometheus\n"));
    assert!(read("docker-compose.yml").contains("./ops/grafana/dashboards:/etc/holdfast/dashboards:ro"));
    assert!(
        read("ops/grafana/provisioning/dashboards/holdfast.yml").contains("path: /etc/holdfast/dashboards")
    );
}
