//! `holdfast bench`: every figure comes with its proof, and nothing is left behind, also where it is interrupted.

use std::{fs, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::system::{Servers, System};

/// Few and short measurements.
const SHORT: [&str; 7] = ["bench", "--rounds", "1", "--seconds", "3", "--warm-up", "1"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_benchmark_reports_and_leaves_nothing_behind() {
    let system = System::start(Servers::ZooKeeper, &[]).await;
    let folder = system.stack.dir().join("bench").display().to_string();
    let what =
        ["--only", "retail:64:1:pgbench", "--only", "hot:64:2", "--only", "fairness", "--growth", "300"];
    system.spawn("bench", &[SHORT.as_slice(), &what, &["--out", &folder]].concat(), &[]);
    system.finish("bench", Duration::from_mins(3)).await.expect_success("bench");

    let report: Value = serde_json::from_slice(&fs::read(format!("{folder}/report.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let names: Vec<String> = rows
        .iter()
        .map(|row| {
            format!("{} {} {}", row["workload"], row["subject"], row["orders_before"]).replace('"', "")
        })
        .collect();
    let wanted = [
        "hot holdfast null",
        "retail pgbench null",
        "fairness holdfast null",
        "growth holdfast 0",
        "growth holdfast 300",
        "growth holdfast 0",
        "growth holdfast 300",
    ];
    assert_eq!(names, wanted);
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or_default();
        assert!(number("orders_per_second") > 0.0 && number("p50_ms") > 0.0, "{row}");
        assert!(number("p50_ms") <= number("p90_ms") && number("p90_ms") <= number("p99_ms"), "{row}");
        assert!(row["cpu"]["postgres"].is_f64(), "{row}");
        assert_eq!(
            row["rss_mib"].as_f64().is_some_and(|memory| memory > 1.0),
            row["subject"] == "holdfast",
            "{row}"
        );
    }
    // The kernel counts in steps of 10 ms, so that one short row may come to nothing.
    assert!(rows.iter().filter_map(|row| row["cpu"]["postgres"].as_f64()).sum::<f64>() > 0.0, "{report}");
    let table = fs::read_to_string(format!("{folder}/report.md")).unwrap();
    assert!(table.contains("| hot, 300 orders in the database | 64 | 1 |"), "{table}");
    assert!(fs::read_to_string(format!("{folder}/report.svg")).unwrap().contains("retail"));
    assert_nothing_left(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pipeline_is_measured_from_post_to_shipment() {
    let system = System::start(Servers::ZooKeeperAndRabbitMq, &[]).await;
    let folder = system.stack.dir().join("bench").display().to_string();
    let what = ["--rounds", "1", "--seconds", "1", "--only", "pipeline:16", "--out", &folder];
    system.spawn("bench", &[&["bench"], what.as_slice()].concat(), &[]);
    system.finish("bench", Duration::from_mins(3)).await.expect_success("bench");
    let report: Value = serde_json::from_slice(&fs::read(format!("{folder}/report.json")).unwrap()).unwrap();
    let row = &report["rows"][0];
    assert_eq!(row["workload"], "pipeline");
    assert!(row["orders_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{row}");
    assert_nothing_left(&system).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_benchmark_leaves_nothing_behind() {
    let system = System::start(Servers::Neither, &[]).await;
    let folder = system.stack.dir().join("bench").display().to_string();
    let what = ["--only", "hot:1:1:holdfast_none", "--seconds", "600", "--out", &folder];
    system.spawn("bench", &[&["bench"], what.as_slice()].concat(), &[]);
    let port = server_port(&system);
    super::support::eventually("the API runs", Duration::from_mins(1), || async {
        !processes_of(&port).is_empty() && system.count(DATABASES).await == 2
    })
    .await;
    // Itself alone; from a terminal its processes would be interrupted too.
    let pid = system.stack.pid("bench").and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(!system.wait_exit("bench", Duration::from_secs(10)).await);
    assert!(system.log("bench").contains("interrupted"), "{}", system.log("bench"));
    assert_nothing_left(&system).await;
}

const DATABASES: &str = "SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast_bench_%'";

async fn assert_nothing_left(system: &System) {
    assert_eq!(system.count(DATABASES).await, 0);
    assert_eq!(processes_of(&server_port(system)), Vec::<String>::new());
}

fn server_port(system: &System) -> String {
    system.stack.addresses().servers["postgres"].clone()
}

/// The processes whose environment names a database of the benchmark in this server.
fn processes_of(server: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().filter_map(|process| {
        let environment = fs::read(process.path().join("environ")).ok()?;
        let command = fs::read(process.path().join("cmdline")).ok()?;
        let text = String::from_utf8_lossy(&environment).into_owned();
        let is_ours = text.contains(&format!("{server}/holdfast_bench_"));
        is_ours.then(|| String::from_utf8_lossy(&command).replace('\0', " "))
    });
    processes.collect()
}
