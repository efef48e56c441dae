//! What is told of a soak: a line every ten seconds, and the report in the end.

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    Options,
    client::{Clients, Outcome},
    judge::Verdict,
    observer::Board,
    system::{System, folder},
};

/// The figures of a soak.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Requests under a key of their own: they took effect; were refused, and left nothing; or were sent at least once without
    /// a word of what became of them, so that their clients had to ask again.
    operations_ok: usize,
    operations_failed: usize,
    operations_unknown: usize,
    faults: BTreeMap<&'static str, u64>,
    stale_writes_refused: i64,
    stale_writes_accepted: i64,
    duplicates_delivered: i64,
    doubled_effects: usize,
    lost: usize,
    violations: usize,
    recovery_p50_ms: u128,
    recovery_p99_ms: u128,
    seed: u64,
    minutes: f64,
    started_at: DateTime<Utc>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        seed: u64,
        started_at: DateTime<Utc>,
        clients: &Clients,
        board: &Board,
        verdict: &Verdict,
    ) -> Self {
        let (ok, failed, unknown) = count(clients);
        let mut recoveries = board.recoveries.lock().unwrap().clone();
        recoveries.sort();
        // The nearest rank.
        let percentile = |percent: usize| {
            let rank = (recoveries.len() * percent).div_ceil(100).max(1);
            recoveries.get(rank - 1).map_or(0, Duration::as_millis)
        };
        Self {
            operations_ok: ok,
            operations_failed: failed,
            operations_unknown: unknown,
            faults: board.faults.lock().unwrap().clone(),
            stale_writes_refused: verdict.stale_writes_refused,
            stale_writes_accepted: verdict.stale_writes_accepted,
            duplicates_delivered: verdict.duplicates_delivered,
            doubled_effects: verdict.doubled.len(),
            lost: verdict.lost.len(),
            violations: verdict.violations.len(),
            recovery_p50_ms: percentile(50),
            recovery_p99_ms: percentile(99),
            seed,
            minutes: options.minutes,
            started_at,
        }
    }
}

/// How many operations took effect, were refused, and were unknown at some time.
fn count(clients: &Clients) -> (usize, usize, usize) {
    let (mut ok, mut failed, mut unknown) = (0, 0, 0);
    for operation in clients.history.lock().unwrap().iter() {
        match operation.outcome {
            _ if operation.unknown > 0 => unknown += 1,
            Outcome::Done(..) => ok += 1,
            Outcome::Refused(..) => failed += 1,
            Outcome::Unknown => unknown += 1,
        }
    }
    (ok, failed, unknown)
}

pub(super) async fn tell_progress(clients: Arc<Clients>, board: Arc<Board>, began: Instant) {
    loop {
        sleep(Duration::from_secs(10)).await;
        let (ok, failed, unknown) = count(&clients);
        let faults: u64 = board.faults.lock().unwrap().values().sum();
        println!(
            "{:7.1} s  {} requests: {ok} ok, {failed} refused, {unknown} unknown at first; {faults} faults",
            began.elapsed().as_secs_f64(),
            clients.requests.load(Ordering::Relaxed)
        );
    }
}

/// Writes the report, and what it is about where something is wrong.
pub(super) fn write(system: &System, report: &Report, verdict: &Verdict) -> ExitCode {
    let folder = folder();
    fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string_pretty(report).unwrap();
    fs::write(folder.join("report.json"), format!("{text}\n")).unwrap();
    println!("{text}");
    let stale = report.stale_writes_accepted;
    let complaints: Vec<&String> =
        verdict.lost.iter().chain(&verdict.doubled).chain(&verdict.violations).collect();
    if complaints.is_empty() && stale == 0 {
        println!("soak: nothing was lost, doubled or left half done");
        return ExitCode::SUCCESS;
    }
    let logs = folder.join("logs");
    let _ = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs).unwrap();
    for entry in fs::read_dir(system.stack.dir().join("logs")).unwrap().flatten() {
        let _ = fs::copy(entry.path(), logs.join(entry.file_name()));
    }
    let all: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    fs::write(folder.join("complaints.txt"), all.join("\n")).unwrap();
    for complaint in complaints.iter().take(40) {
        println!("  {complaint}");
    }
    println!("soak: {} complaints and {stale} stale writes; see {}", complaints.len(), folder.display());
    ExitCode::FAILURE
}
