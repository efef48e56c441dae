//! The reference: bare PostgreSQL, driven by the server's own pgbench with the transaction of one order.
//!
//! The scripts in `sql/` write the same rows into the same schema, prepared, as BEGIN, one statement for each table, COMMIT,
//! without HTTP, keys and locks. Invariant: measured over the same window as everybody else, from pgbench's own
//! log of each transaction.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    database::Database,
    orders::{FIRST_SKU, SKUS, UNIT_AMOUNT},
    plan::{Row, Subject, Workload},
    result::Measurement,
    statistics::float,
    usage::{Watched, Window},
};

/// Where the packages of Debian and Ubuntu put it, for each version of the server.
const DEBIAN: &str = "/usr/lib/postgresql";

/// What pgbench measured of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Transaction {
    /// When it ended, in microseconds since 1970.
    ended: u64,
    /// How long it took, in microseconds.
    latency: u32,
}

/// Finds the program: in the path, or in the newest version's folder.
pub(super) fn find() -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    versions.sort();
    let mut places =
        env::split_paths(&path).chain(versions.into_iter().rev()).map(|folder| folder.join("pgbench"));
    places.find(|program| program.is_file()).with_context(|| {
        format!(
            "pgbench is neither in PATH nor under {DEBIAN}: install PostgreSQL's package, which brings it"
        )
    })
}

/// Measures one row on a fresh database.
pub(super) async fn measure(
    program: &Path,
    row: Row,
    database: &Database,
    folder: &Path,
    (warm_up, length): (Duration, Duration),
    mut watched: Watched,
) -> anyhow::Result<Measurement> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let script = folder.join("script.sql");
    fs::write(&script, script_of(row))?;
    let seconds = warm_up.as_secs() + length.as_secs();
    let window = Window::new(warm_up, length);
    let child = Command::new(program)
        .args(arguments(row, database, seconds))
        .arg(format!("--log-prefix={}", folder.join("log").display()))
        .arg("--file")
        .arg(&script)
        .arg(uri_without_password(database))
        .env("PGPASSWORD", password(database))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    watched.load.extend(child.id());
    let (output, cores) = tokio::join!(child.wait_with_output(), watched.over(window));
    let output = output?;
    ensure!(output.status.success(), "pgbench failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let mut log = String::new();
    for file in
        fs::read_dir(folder)?.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("log"))
    {
        log.push_str(&fs::read_to_string(file.path())?);
    }
    let transactions = parse(&log)?;
    let mut latencies = within(&transactions, warm_up, length);
    let _ = fs::remove_dir_all(folder);
    let rate = float(latencies.len() as u64) / length.as_secs_f64();
    let measured = Measurement::new(rate, &mut latencies, cores);
    measured.with_context(|| format!("pgbench finished {} transactions in {seconds} s", transactions.len()))
}

fn script_of(row: Row) -> &'static str {
    match (row.workload, row.subject) {
        (Workload::Retail, _) => include_str!("sql/nine_lines.sql"),
        (_, Subject::PgbenchLean) => include_str!("sql/one_line_lean.sql"),
        _ => include_str!("sql/one_line.sql"),
    }
}

fn arguments(row: Row, database: &Database, seconds: u64) -> Vec<String> {
    let lines = if row.workload == Workload::Retail { 9 } else { 1 };
    let last_sku = if row.workload == Workload::Hot { FIRST_SKU } else { FIRST_SKU + SKUS - 1 };
    let mut arguments: Vec<String> =
        ["--protocol=prepared", "--no-vacuum", "--log"].map(str::to_owned).into();
    arguments.push(format!("--client={}", row.clients));
    arguments.push(format!("--jobs={}", row.clients.min(2)));
    arguments.push(format!("--time={seconds}"));
    for (name, value) in [
        ("first_sku", FIRST_SKU.to_string()),
        ("last_sku", last_sku.to_string()),
        ("location", database.location.clone()),
        ("api_key", database.api_key.to_string()),
        ("fingerprint", format!("\\x{}", "5a".repeat(32))),
        ("document", document(lines).to_string()),
    ] {
        arguments.push(format!("--define={name}={value}"));
    }
    arguments
}

/// An order as the API answers it and as its event holds it, so that the rows are as large as Holdfast's.
fn document(lines: usize) -> Value {
    let id = "018f0000000070008000000000000000";
    let line = json!({
        "id": format!("line_{id}"), "sku": FIRST_SKU.to_string(), "location_id": "main", "quantity": 1,
        "unit_amount": UNIT_AMOUNT, "quantity_canceled": 0, "quantity_fulfilled": 0,
    });
    json!({
        "id": format!("ord_{id}"), "client_reference": null, "customer_id": null, "status": "pending_payment",
        "version": 1, "currency": "USD", "total_amount": UNIT_AMOUNT, "capture_method": "automatic", "metadata": {},
        "expires_at": "2026-01-01T00:15:00.000000Z", "canceled_at": null, "cancel_reason": null,
        "created_at": "2026-01-01T00:00:00.000000Z", "updated_at": "2026-01-01T00:00:00.000000Z",
        "lines": vec![line; lines],
    })
}

fn uri_without_password(database: &Database) -> String {
    let mut url = database.url.clone();
    // Fails for URLs that have no password anyway.
    let _ = url.set_password(None);
    url.into()
}

fn password(database: &Database) -> String {
    percent_decode_str(database.url.password().unwrap_or_default()).decode_utf8_lossy().into_owned()
}

/// Reads a log: client, number, latency, script, seconds, microseconds.
fn parse(log: &str) -> anyhow::Result<Vec<Transaction>> {
    let parsed = log.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let transaction = || {
            let latency = u32::try_from(number(2)?).ok()?;
            Some(Transaction { ended: number(4)? * 1_000_000 + number(5)?, latency })
        };
        transaction().with_context(|| format!("pgbench logged {line:?}"))
    });
    parsed.collect()
}

/// The latencies of the transactions that ended within the window, which begins `warm_up` after the first began.
fn within(transactions: &[Transaction], warm_up: Duration, length: Duration) -> Vec<u32> {
    let began =
        transactions.iter().map(|done| done.ended - u64::from(done.latency)).min().unwrap_or_default();
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let begin = began + micros(warm_up);
    let window = begin..begin + micros(length);
    transactions.iter().filter(|done| window.contains(&done.ended)).map(|done| done.latency).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_parsed_and_cut_to_the_window() {
        let log = "0 1 2000 0 100 1000\n1 1 500000 0 101 0\n0 2 700 0 101 2000\n0 3 800 0 103 1000\n";
        let transactions = parse(log).unwrap();
        assert_eq!(transactions[0], Transaction { ended: 100_001_000, latency: 2000 });
        // The first began at 99.999 s: the window is from 100.999 s to 102.999 s.
        let latencies = within(&transactions, Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(latencies, [500_000, 700]);
    }

    #[test]
    fn a_transaction_that_failed_is_an_error() {
        assert!(parse("0 1 failed 0 100 1000").is_err());
        assert!(within(&[], Duration::ZERO, Duration::ZERO).is_empty());
    }

    #[test]
    fn the_document_is_as_large_as_an_order() {
        let size = document(1).to_string().len();
        assert!((500..700).contains(&size), "{size}");
        assert!(document(9).to_string().len() > size + 8 * 100);
    }
}
