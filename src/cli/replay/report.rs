//! What a replay came to, and whether it adds up: every order of the file is accounted for, exactly once.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::client::Outcome;
use crate::store::{
    self, Store,
    outbox::{self, OutboxStatus},
};

/// Counts of everything that happened.
#[derive(Debug, Default)]
pub(super) struct Report {
    orders: usize,
    placed: usize,
    /// Problem code to count.
    refused: BTreeMap<String, usize>,
    payments_started: usize,
    /// Problem code to count.
    payments_refused: BTreeMap<String, usize>,
    paid: usize,
    declined: usize,
    shipped: usize,
    expired: usize,
    canceled: usize,
    /// Orders that ended in a way that their payment does not explain.
    unexplained: Vec<String>,
    /// Orders that had not settled when patience ran out.
    pub(super) unsettled: Vec<String>,
    /// Everything, from the first request to the last event.
    pub(super) settled_after: Duration,
    placing_time: Duration,
    latencies: Vec<Duration>,
    events: Option<OutboxStatus>,
}

impl Report {
    /// Counts what was said when the orders were placed.
    pub(super) fn new(outcomes: &[Outcome], placing_time: Duration) -> Self {
        let mut report = Self { orders: outcomes.len(), placing_time, ..Self::default() };
        for outcome in outcomes {
            match &outcome.refused {
                None => report.placed += 1,
                Some(code) => *report.refused.entry(code.clone()).or_default() += 1,
            }
            match &outcome.payment {
                Some(Ok(_)) => report.payments_started += 1,
                Some(Err(code)) => *report.payments_refused.entry(code.clone()).or_default() += 1,
                None => {}
            }
            report.latencies.push(outcome.latency);
        }
        report.latencies.sort_unstable();
        report
    }

    /// Counts an order, if nothing will change it any more.
    pub(super) fn settle(&mut self, order: &Value) -> bool {
        let payments = order["payments"].as_array().map(Vec::as_slice).unwrap_or_default();
        let count = |status: &str| payments.iter().filter(|payment| payment["status"] == status).count();
        let undecided =
            payments.iter().any(|p| matches!(p["status"].as_str(), Some("processing" | "authorized")));
        let status = order["status"].as_str().unwrap_or_default();
        if undecided || !matches!(status, "fulfilled" | "expired" | "canceled") {
            return false;
        }
        let captured = count("captured");
        self.paid += usize::from(captured > 0);
        self.declined += usize::from(count("failed") > 0);
        match status {
            "fulfilled" => self.shipped += 1,
            "expired" => self.expired += 1,
            _ => self.canceled += 1,
        }
        let shipments = order["shipments"].as_array().map_or(0, Vec::len);
        let explained = if status == "fulfilled" { captured == 1 && shipments > 0 } else { captured == 0 };
        if !explained {
            self.unexplained.push(order["id"].to_string());
        }
        true
    }

    /// Waits until the outbox is empty, and counts the events. The database may be away meanwhile, like everything else.
    pub(super) async fn count_events(&mut self, store: &Store, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let status: Result<OutboxStatus, store::Error> =
                async { outbox::status(&mut *store.conn().await?).await }.await;
            match status {
                Ok(status) => {
                    let drained = status.pending == 0;
                    self.events = Some(status);
                    if drained || Instant::now() >= deadline {
                        return Ok(());
                    }
                }
                Err(error) if error.is_transient() && Instant::now() < deadline => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether every order is accounted for and nothing is left over.
    pub(super) fn adds_up(&self) -> bool {
        let refused: usize = self.refused.values().sum();
        self.placed + refused == self.orders
            && !self.refused.contains_key("no_answer")
            && !self.payments_refused.contains_key("no_answer")
            && self.shipped + self.expired + self.canceled == self.placed
            && self.paid == self.shipped
            && self.unexplained.is_empty()
            && self.unsettled.is_empty()
            && self.events.as_ref().is_some_and(|events| events.pending == 0 && events.dead == 0)
    }

    /// Prints the table.
    pub(super) fn print(&self) {
        let row = |name: &str, value: String| println!("  {name:<34} {value:>10}");
        println!();
        row("orders in the file", self.orders.to_string());
        row("placed", self.placed.to_string());
        for (code, count) in &self.refused {
            row(&format!("refused: {code}"), count.to_string());
        }
        row("payments started", self.payments_started.to_string());
        for (code, count) in &self.payments_refused {
            row(&format!("payments refused: {code}"), count.to_string());
        }
        row("paid", self.paid.to_string());
        row("declined", self.declined.to_string());
        row("shipped", self.shipped.to_string());
        row("expired, stock free again", self.expired.to_string());
        row("canceled", self.canceled.to_string());
        if let Some(events) = &self.events {
            row("events published", events.sent.to_string());
            row("events consumed", events.consumed.to_string());
            row("events waiting / dead letters", format!("{} / {}", events.pending, events.dead));
        }
        row("POST /v1/orders p50", format!("{:.1} ms", self.percentile(50)));
        row("POST /v1/orders p99", format!("{:.1} ms", self.percentile(99)));
        let per_second =
            f64::from(u32::try_from(self.orders).unwrap_or(u32::MAX)) / self.placing_time.as_secs_f64();
        row("orders/s (placed and payment asked)", format!("{per_second:.0}"));
        row("all settled after", format!("{:.1} s", self.settled_after.as_secs_f64()));
        for id in &self.unsettled {
            println!("  NOT SETTLED: order {id}");
        }
        for id in &self.unexplained {
            println!("  UNEXPLAINED: order {id} does not fit its payment");
        }
        println!("\n  {}", if self.adds_up() { "it adds up" } else { "IT DOES NOT ADD UP" });
    }

    /// Nearest rank, in milliseconds.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.latencies.len() * percent).div_ceil(100).max(1) - 1;
        self.latencies.get(rank).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}
