//! `holdfast bench`.

use std::{fs::File, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;

use super::replay::basket;
use crate::{
    bench::{self, buyable, plan::RowFilter},
    config::Config,
    lifecycle::shutdown_token,
};

/// What to measure.
#[derive(Debug, Args)]
pub(super) struct BenchOptions {
    /// How often each row is measured; the report holds the medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement is, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the load runs before it is measured, in seconds: until the locks of all SKUs are held.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up: u64,
    /// One round of two seconds each: to see that it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only these rows; `*` stands for any. Can be given several times.
    ///
    /// Workloads: hot, spread, retail, mixed, fairness, pipeline, `pipeline_retail`. Subjects: holdfast, `holdfast_none`,
    /// `per_order`, pgbench, `pgbench_lean`.
    #[arg(long, value_name = "WORKLOAD[:CLIENTS[:PROCESSES[:SUBJECT]]]")]
    only: Vec<RowFilter>,
    /// Measures hot and spread on a database that holds so many orders too: 5000000 take about 15 GB and some minutes.
    #[arg(long, default_value_t = 0, value_name = "ORDERS")]
    growth: u64,
    /// The baskets of the workload retail: an order file as `replay` takes it.
    #[arg(long, default_value = "samples/orders.csv", value_name = "FILE")]
    orders: PathBuf,
    /// Where report.json, report.md, report.svg and the logs of the processes go.
    #[arg(long, default_value = "target/bench", value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) async fn run(
    config: &Config,
    config_file: Option<PathBuf>,
    options: BenchOptions,
) -> anyhow::Result<()> {
    let file = File::open(&options.orders)
        .with_context(|| format!("cannot open {}: choose another by --orders", options.orders.display()))?;
    let baskets =
        basket::read(file).with_context(|| format!("{} cannot be used", options.orders.display()))?;
    let (rounds, seconds) = if options.quick { (1, 2) } else { (options.rounds, options.seconds) };
    let options = bench::Options {
        warm_up: Duration::from_secs(options.warm_up),
        length: Duration::from_secs(seconds),
        rounds,
        only: options.only,
        growth: options.growth,
        folder: options.out,
        baskets: buyable(baskets.into_iter().map(|basket| basket.lines)),
        config_file,
    };
    bench::run(config, options, shutdown_token()?).await
}
