//! The load: customers who order, pay, change their minds, ask for their money, or go away, and a merchant who restocks.

use std::{sync::Arc, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{Body, Clients, Outcome, Request},
    system::{HOT, OTHERS},
};

/// How many customers may be there at a time; while there are so many, no other comes.
const CUSTOMERS: usize = 150;

/// How long the last customers may take.
const LAST: Duration = Duration::from_mins(1);

/// Running load.
pub(super) struct Load {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Load {
    pub(super) fn begin(clients: Arc<Clients>, seed: u64, rate: u32) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(customers(Arc::clone(&clients), seed, rate, stop.clone()));
        tasks.spawn(restock(clients, seed, stop.clone()));
        Self { stop, tasks }
    }

    /// Lets nobody else come, and waits for those who are there.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn customers(clients: Arc<Clients>, seed: u64, rate: u32, stop: CancellationToken) {
    let (room, mut there) = (Arc::new(Semaphore::new(CUSTOMERS)), JoinSet::new());
    let mut ticks = interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u64.. {
        if stop.run_until_cancelled(ticks.tick()).await.is_none() {
            break;
        }
        if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
            let clients = Arc::clone(&clients);
            there.spawn(async move {
                let _place = place;
                let random = StdRng::seed_from_u64(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                Customer { clients: &clients, random, name: format!("c{number}") }.shop().await;
            });
        }
        while there.try_join_next().is_some() {}
    }
    let _ = timeout(LAST, async { while there.join_next().await.is_some() {} }).await;
}

async fn restock(clients: Arc<Clients>, seed: u64, stop: CancellationToken) {
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0_u64.. {
        if stop.run_until_cancelled(sleep(Duration::from_secs(2))).await.is_none() {
            return;
        }
        let rows: Vec<String> =
            (0..HOT).map(|sku| format!("hot-{sku},{}", random.random_range(1..30))).collect();
        let request = Request {
            path: "/v1/inventory/imports?mode=delta".to_owned(),
            key: format!("import-{number}"),
            body: Body::Csv(format!("sku,delta\n{}\n", rows.join("\n"))),
        };
        let copies = random.random_range(1..=2);
        if let Outcome::Refused(status, code) = clients.send(request, copies).await {
            let text = format!("import-{number} was refused, {status} {code}: nothing is wrong with it");
            clients.contradictions.lock().unwrap().push(text);
        }
    }
}

struct Customer<'a> {
    clients: &'a Clients,
    random: StdRng,
    name: String,
}

impl Customer<'_> {
    async fn shop(mut self) {
        let wish = self.random.random_range(0..100);
        // Who does not pay gives the stock free soon.
        let seconds = if (62..68).contains(&wish) { self.random.random_range(5..15) } else { 60 };
        let Some(order) = self.place(seconds).await else { return };
        let (id, total) = (order["id"].as_str().unwrap().to_owned(), order["total_amount"].as_i64().unwrap());
        let token = match wish {
            55..62 => "pm_card_chargeDeclined",
            79..84 => "pm_sandbox_timeout_then_success",
            84..87 => "pm_sandbox_error_after_authorize",
            87..90 => "pm_sandbox_error_after_capture",
            90..92 => "pm_sandbox_slow",
            92..94 => "pm_sandbox_late_success_after_expiry",
            94..95 => "pm_sandbox_webhook_x3",
            _ => "pm_card_visa",
        };
        match wish {
            62..68 => {}
            68..73 => self.cancel(&id).await,
            73..79 => {
                self.pay(&id, token).await;
                sleep(Duration::from_millis(self.random.random_range(0..400))).await;
                self.cancel(&id).await;
            }
            95..100 => {
                if let Some(payment) = self.pay(&id, token).await {
                    self.refund(&payment, total).await;
                }
            }
            _ => drop(self.pay(&id, token).await),
        }
    }

    async fn place(&mut self, seconds: u64) -> Option<Value> {
        let mut skus: Vec<String> = (0..self.random.random_range(1..=3))
            .map(|_| {
                if self.random.random_bool(0.3) {
                    format!("hot-{}", self.random.random_range(0..HOT))
                } else {
                    format!("sku-{}", self.random.random_range(0..OTHERS))
                }
            })
            .collect();
        skus.sort();
        skus.dedup();
        let line = |sku: &String, random: &mut StdRng| json!({ "sku": sku, "quantity": random.random_range(1..=2), "unit_amount": 500 });
        let lines: Vec<Value> = skus.iter().map(|sku| line(sku, &mut self.random)).collect();
        let body = json!({ "client_reference": self.name, "currency": "USD", "lines": lines, "reservation_ttl_seconds": seconds });
        self.post("/v1/orders".to_owned(), "order", body).await
    }

    async fn pay(&mut self, order: &str, token: &str) -> Option<String> {
        let body = json!({ "method": "card", "payment_token": token });
        let payment = self.post(format!("/v1/orders/{order}/payments"), "payment", body).await?;
        payment["id"].as_str().map(str::to_owned)
    }

    async fn cancel(&mut self, order: &str) {
        self.post(format!("/v1/orders/{order}/cancel"), "cancel", json!({ "reason": "changed my mind" }))
            .await;
    }

    /// Asks for half of the money, and for more than the rest.
    async fn refund(&mut self, payment: &str, total: i64) {
        for _ in 0..40 {
            sleep(Duration::from_millis(500)).await;
            let payment = self.clients.get(&format!("/v1/payments/{payment}")).await.unwrap_or_default();
            match payment["status"].as_str() {
                Some("captured") => break,
                Some("failed" | "voided") => return,
                _ => {}
            }
        }
        for (name, amount) in [("refund-1", total / 2), ("refund-2", total / 2 + 1)] {
            self.post(format!("/v1/payments/{payment}/refunds"), name, json!({ "amount": amount })).await;
        }
    }

    /// Most send a request once. Gives what was made.
    async fn post(&mut self, path: String, what: &str, body: Value) -> Option<Value> {
        let copies = match self.random.random_range(0..10) {
            0..6 => 1,
            6..8 => 2,
            8 => 3,
            _ => 4,
        };
        let request = Request { path, key: format!("{}-{what}", self.name), body: Body::Json(body) };
        match self.clients.send(request, copies).await {
            Outcome::Done(_, body) => serde_json::from_str(&body).ok(),
            _ => None,
        }
    }
}
