//! The soak: the whole system under load, while whatever there is of it is killed, paused and cut off; then an account of it.
//!
//! `cargo run --example soak -- [--minutes 10] [--seed N] [--rate 10] [--slow 1] [--zookeepers 1|3] [--brokers 1|3]`, on private servers.
//! Two APIs and two of each worker, the sandbox, PostgreSQL, ZooKeeper and RabbitMQ run as processes. Which fault comes when is
//! printed first, and the seed decides it; so does the seed what each client does, but not how the threads meet. In the end
//! everything is healed, and then nothing may be lost, done twice or left half done: by the invariants, by the audit, by the
//! provider's own record, and by what the clients were told. `target/soak/report.json` has the figures, and the exit code is 0
//! only if there is nothing to complain of; else the logs stay in `target/soak/logs`.
#![allow(clippy::unwrap_used, reason = "whatever fails here fails the soak")]

mod client;
mod judge;
mod load;
mod nemesis;
mod observer;
mod report;
mod schedule;
mod system;
#[path = "../../it/support/tcp_proxy.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod tcp_proxy;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;

use system::System;

/// What is done, and for how long.
#[derive(Debug, Clone, Parser)]
struct Options {
    /// For how many minutes there are faults.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Decides the faults and what the clients do. Without it: any.
    #[arg(long)]
    seed: Option<u64>,
    /// How many customers come each second.
    #[arg(long, default_value_t = 10)]
    rate: u32,
    /// By how much longer everything may take to work again, on a machine that does other things as well.
    #[arg(long, default_value_t = 1)]
    slow: u32,
    /// How many nodes ZooKeeper has, 1 or 3.
    #[arg(long, default_value_t = 1)]
    zookeepers: u8,
    /// How many nodes RabbitMQ has, 1 or 3.
    #[arg(long, default_value_t = 1)]
    brokers: u8,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    println!("soak: {} minutes, seed {seed}", options.minutes);
    let faults = schedule::draw(seed, length, &options);
    for fault in &faults {
        println!("  {fault}");
    }
    let started_at = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
    let system = Arc::new(System::start(&options).await);
    observer::install(&system).await;
    system.start_roles().await;

    let board = Arc::new(observer::Board::default());
    let watching = tokio::spawn(observer::watch(Arc::clone(&system), Arc::clone(&board)));
    let clients = Arc::new(client::Clients::new(Arc::clone(&system), Arc::clone(&board)));
    let load = load::Load::begin(Arc::clone(&clients), seed, options.rate);
    let began = Instant::now();
    let progress = tokio::spawn(report::tell_progress(Arc::clone(&clients), Arc::clone(&board), began));
    let trouble = nemesis::run(&system, &board, faults, began).await;
    let healed = Instant::now();
    println!("soak: all is healed after {:.0} s; the clients come to an end", began.elapsed().as_secs_f64());

    let mut verdict = judge::Verdict { violations: trouble, ..judge::Verdict::default() };
    judge::await_liveness(&clients, healed, options.slow, &mut verdict).await;
    load.end().await;
    nemesis::stop_supervising(&board);
    progress.abort();
    let since = started_at - chrono::TimeDelta::minutes(1);
    judge::settle(&system, since, options.slow, &mut verdict).await;
    judge::judge(&system, &clients, since, &mut verdict).await;
    watching.abort();
    let report = report::Report::new(&options, seed, started_at, &clients, &board, &verdict);
    report::write(&system, &report, &verdict)
}
