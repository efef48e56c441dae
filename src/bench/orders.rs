//! The requests of each workload, rendered before the clock runs.
//!
//! Invariants: hot and spread order one unit each; no order has a reference of the merchant, so that any of them can be
//! placed any number of times.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{plan::Workload, wire::Request};

/// The made-up SKUs: 1000001 and so on, as long as real ones. `sql/old_orders.sql` names them too.
pub(super) const FIRST_SKU: u32 = 1_000_001;
/// How many there are.
pub(super) const SKUS: u32 = 1000;

/// The price of each.
pub(super) const UNIT_AMOUNT: i64 = 499;

/// One order's lines.
pub type Basket = Vec<Value>;

/// Which request comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Random,
    InOrder,
}

/// The orders of one workload.
#[derive(Debug)]
pub(super) struct Orders {
    requests: Vec<Request>,
    choice: Choice,
    next: AtomicUsize,
}

impl Orders {
    /// Renders them.
    pub(super) fn new(workload: Workload, baskets: &[Basket], secret: &str) -> Self {
        let request = |lines: &[Value]| {
            let body = json!({ "currency": "USD", "lines": lines }).to_string();
            Request::post("/v1/orders", secret, &body)
        };
        let hot = || request(&[line(FIRST_SKU)]);
        let spread = || (0..SKUS).map(|at| request(&[line(FIRST_SKU + at)]));
        let (requests, choice): (Vec<Request>, _) = match workload {
            Workload::Hot | Workload::Fairness | Workload::Growth => (vec![hot()], Choice::InOrder),
            Workload::Spread | Workload::Mixed => (spread().collect(), Choice::Random),
            Workload::Pipeline => (spread().flat_map(|spread| [hot(), spread]).collect(), Choice::InOrder),
            Workload::Retail | Workload::PipelineRetail => {
                (baskets.iter().map(|basket| request(basket)).collect(), Choice::InOrder)
            }
        };
        Self { requests, choice, next: AtomicUsize::new(0) }
    }

    /// Orders of so many lines each, over the same SKUs as spread.
    pub(super) fn large(lines: u32, secret: &str) -> Self {
        let request = |first: u32| {
            let lines: Vec<Value> = (first..first + lines).map(|at| line(FIRST_SKU + at % SKUS)).collect();
            let body = json!({ "currency": "USD", "lines": lines }).to_string();
            Request::post("/v1/orders", secret, &body)
        };
        let requests = (0..SKUS).step_by(7).map(request).collect();
        Self { requests, choice: Choice::Random, next: AtomicUsize::new(0) }
    }

    /// Every order that there is.
    pub(super) fn all(&self) -> &[Request] {
        &self.requests
    }

    /// The next order.
    pub(super) fn next(&self) -> &Request {
        let place = match self.choice {
            Choice::Random => rand::rng().random_range(0..self.requests.len()),
            Choice::InOrder => self.next.fetch_add(1, Ordering::Relaxed) % self.requests.len(),
        };
        &self.requests[place]
    }
}

fn line(sku: u32) -> Value {
    json!({ "sku": sku.to_string(), "quantity": 1, "unit_amount": UNIT_AMOUNT })
}

/// Every SKU that any workload orders.
pub(super) fn skus(baskets: &[Basket]) -> BTreeSet<String> {
    let real = baskets.iter().flatten().filter_map(|line| line["sku"].as_str().map(str::to_owned));
    (0..SKUS).map(|at| (FIRST_SKU + at).to_string()).chain(real).collect()
}

/// The lines of the order file that can be bought: none with quantity 0, and no basket that costs nothing.
pub fn buyable(baskets: impl IntoIterator<Item = Basket>) -> Vec<Basket> {
    let number = |line: &Value, field: &str| line[field].as_i64().unwrap_or_default();
    let kept = baskets.into_iter().map(|mut lines| {
        lines.retain(|line| number(line, "quantity") > 0);
        lines
    });
    let costs = |line: &Value| number(line, "quantity") * number(line, "unit_amount") > 0;
    kept.filter(|lines| lines.iter().any(costs)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_bought_is_dropped() {
        let line = |quantity: i64, unit_amount: i64| json!({ "sku": "a", "quantity": quantity, "unit_amount": unit_amount });
        let baskets = [vec![line(0, 5), line(2, 5), line(1, 0)], vec![line(1, 0)], vec![line(0, 9)]];
        assert_eq!(buyable(baskets), [vec![line(2, 5), line(1, 0)]]);
    }

    #[test]
    fn baskets_come_one_after_the_other_and_again() {
        let baskets: Vec<Basket> = ["a", "b"].map(|sku| vec![json!({ "sku": sku, "quantity": 1 })]).into();
        let orders = Orders::new(Workload::Retail, &baskets, "");
        let sent: Vec<String> = (0..3).map(|_| format!("{:?}", orders.next())).collect();
        assert!(sent[0] == sent[2] && sent[0] != sent[1]);
    }

    #[test]
    fn the_pipeline_is_half_hot() {
        let orders = Orders::new(Workload::Pipeline, &[], "");
        let hot = format!("{:?}", Orders::new(Workload::Hot, &[], "").next());
        let sent = (0..100).filter(|_| format!("{:?}", orders.next()) == hot).count();
        // Every second one, and once in 1,000 the spread picks the hot SKU.
        assert!((50..=51).contains(&sent), "{sent}");
    }

    #[test]
    fn all_skus_are_stocked() {
        let all = skus(&[vec![json!({ "sku": "9" })]]);
        assert_eq!(all.len(), 1001);
        assert!(all.contains("1000001") && all.contains("1001000") && all.contains("9"));
    }
}
