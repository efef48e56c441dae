//! `holdfast replay`: sends an order file through the HTTP API as a merchant's backend would, pays the orders, waits until
//! every one of them has settled, and says what became of them.
//!
//! A request that gets no usable answer is sent again with the same idempotency key, so a replay goes on through crashes
//! and restarts of everything it talks to, and running it twice places nothing twice.

use std::{fs::File, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::wiring;
use crate::config::Config;

pub(super) mod basket;
mod client;
mod report;

use basket::Basket;
use client::{Client, Outcome};
use report::Report;

/// How to replay.
#[derive(Debug, Args)]
pub(super) struct ReplayOptions {
    /// CSV with the columns `order_ref,customer_id,placed_at,sku,quantity,line_amount_cents`; lines of one order follow
    /// each other.
    file: PathBuf,
    /// Where the API is.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// API key.
    #[arg(long, env = "HOLDFAST_API_KEY", hide_env_values = true)]
    key: String,
    /// Orders on their way at a time.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,
    /// How long each order's stock is held for payment, in seconds.
    #[arg(long, default_value_t = 30)]
    ttl: i64,
    /// How to pay.
    #[arg(long, value_enum, default_value_t = Pay::Mix)]
    pay: Pay,
    /// How long to go on trying a request, and to wait until everything has settled, in seconds.
    #[arg(long, default_value_t = 300)]
    patience: u64,
}

/// How the orders are paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pay {
    /// A mix of the sandbox's tokens: most succeed, some are declined, slow, or answered by an error after the fact.
    Mix,
    /// A card that always works.
    Card,
    /// Not at all: the orders expire.
    None,
}

pub(super) async fn run(config: &Config, options: ReplayOptions) -> anyhow::Result<ExitCode> {
    let file =
        File::open(&options.file).with_context(|| format!("cannot open {}", options.file.display()))?;
    let baskets =
        basket::read(file).with_context(|| format!("{} was not replayed", options.file.display()))?;
    let store = wiring::migrated_store(config).await?;
    let patience = Duration::from_secs(options.patience);
    let client = Arc::new(Client::new(&options.url, &options.key, patience)?);
    client.check().await?;

    let placing = Progress::new("placing", baskets.len());
    let began = Instant::now();
    let outcomes: Vec<Outcome> = stream::iter(baskets)
        .map(|basket| {
            let client = Arc::clone(&client);
            let placing = &placing;
            async move {
                let outcome = place_and_pay(&client, &basket, options.ttl, options.pay).await;
                placing.step();
                outcome
            }
        })
        .buffer_unordered(usize::from(options.concurrency))
        .collect()
        .await;
    let placing_time = began.elapsed();
    placing.finish();

    let mut report = Report::new(&outcomes, placing_time);
    settle(&client, &outcomes, &mut report, usize::from(options.concurrency), patience).await;
    report.count_events(&store, patience).await?;
    report.settled_after = began.elapsed();
    report.print();
    Ok(if report.adds_up() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn place_and_pay(client: &Client, basket: &Basket, ttl: i64, pay: Pay) -> Outcome {
    let mut outcome = client.place(basket, ttl).await;
    let token = match pay {
        Pay::Mix => Some(basket.token()),
        Pay::Card => Some("pm_card_visa"),
        Pay::None => None,
    };
    if let (Some(id), Some(token)) = (&outcome.order_id, token) {
        outcome.payment = Some(client.pay(id, &basket.reference, token).await);
    }
    outcome
}

/// Reads each order until its status is one that nothing will change any more.
async fn settle(
    client: &Client,
    outcomes: &[Outcome],
    report: &mut Report,
    concurrency: usize,
    patience: Duration,
) {
    let mut open: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.order_id.as_deref()).collect();
    let settling = Progress::new("settling", open.len());
    let deadline = Instant::now() + patience;
    while !open.is_empty() && Instant::now() < deadline {
        let read: Vec<_> = stream::iter(open)
            .map(|id| async move { (id, client.read(id).await) })
            .buffer_unordered(concurrency)
            .collect()
            .await;
        open = Vec::new();
        for (id, order) in read {
            match order {
                Some(order) if report.settle(&order) => settling.step(),
                _ => open.push(id),
            }
        }
        if !open.is_empty() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    settling.finish();
    report.unsettled = open.into_iter().map(str::to_owned).collect();
}

/// A progress bar, or, where nobody watches a terminal, a line now and then.
struct Progress {
    bar: ProgressBar,
    what: &'static str,
}

impl Progress {
    fn new(what: &'static str, total: usize) -> Self {
        let bar = ProgressBar::new(total as u64);
        let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {per_sec} {elapsed}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_prefix(what);
        Self { bar, what }
    }

    fn step(&self) {
        self.bar.inc(1);
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        if self.bar.is_hidden() && (done.is_multiple_of(total.div_ceil(10).max(1)) || done == total) {
            eprintln!("{} {done}/{total}", self.what);
        }
    }

    fn finish(&self) {
        self.bar.finish();
    }
}
