//! API processes beside a database of their own, which take their locks from ZooKeeper servers that others share.
//!
//! Owns how such a process is configured, under what path its locks live, and single requests to it: where
//! [`System::place`] asks until an answer counts, these tests also want to know what was refused, and when.

use std::{collections::BTreeMap, ops::Deref, sync::Mutex, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    eventually,
    shop::Answer,
    system::{PATIENCE, Servers, System},
    zookeeper::{Locks, Observer},
};

const SERVERS: &str = "HOLDFAST__LOCK__ZOOKEEPER__SERVERS";
const SESSION: &str = "HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS";
const DATABASE: &str = "HOLDFAST__DATABASE__URL";

/// See the module.
pub(crate) struct LockSystem {
    system: System,
    pub(crate) locks: Locks,
    pub(crate) observer: Observer,
    /// Where each API listens.
    urls: Mutex<BTreeMap<String, String>>,
}

/// How one API process differs from the others.
#[derive(Debug, Default)]
pub(crate) struct Differences<'a> {
    /// It reaches ZooKeeper here.
    pub(crate) zookeeper: Option<&'a str>,
    /// It reaches PostgreSQL here.
    pub(crate) postgres: Option<&'a str>,
    pub(crate) session_ms: Option<u64>,
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

impl Deref for LockSystem {
    type Target = System;

    fn deref(&self) -> &System {
        &self.system
    }
}

impl LockSystem {
    /// Starts the database, with this much of each SKU on hand. A session lasts for as long as the shortest allowed, and
    /// nothing gives up waiting before the test does, unless `settings` say otherwise.
    pub(crate) async fn start(servers: &str, settings: &[(&str, &str)], stock: &[(&str, i64)]) -> Self {
        let locks = Locks::new(servers);
        let common = [
            ("HOLDFAST__LOCK__BACKEND", "zookeeper"),
            ("HOLDFAST__LOCK__ACQUIRE_TIMEOUT_MS", "60000"),
            ("HOLDFAST__LOCK__ZOOKEEPER__ROOT", &locks.root),
            ("HOLDFAST__LOCK__ZOOKEEPER__ALLOW_OPEN_ACL", "true"),
            ("HOLDFAST__DATABASE__LOCK_TIMEOUT_MS", "60000"),
            ("HOLDFAST__DATABASE__STATEMENT_TIMEOUT_MS", "60000"),
            (SERVERS, servers),
            (SESSION, "1000"),
        ];
        let system = System::start(Servers::Neither, &[&common, settings].concat()).await;
        system.record_history().await;
        let lines = stock.iter().map(|(sku, on_hand)| format!("{sku},{on_hand}\n"));
        system.import_stock(&format!("sku,on_hand\n{}", lines.collect::<String>())).await;
        let observer = locks.observer().await;
        Self { system, locks, observer, urls: Mutex::default() }
    }

    /// Starts an API process and waits until it answers.
    pub(crate) async fn api(&self, name: &str) {
        self.api_with(name, &Differences::default()).await;
    }

    pub(crate) async fn api_with(&self, name: &str, differences: &Differences<'_>) {
        let session = differences.session_ms.map(|ms| ms.to_string());
        let mut settings = vec![("HOLDFAST__HTTP__BIND", "127.0.0.1:0")];
        settings.extend(differences.zookeeper.map(|servers| (SERVERS, servers)));
        settings.extend(session.as_deref().map(|ms| (SESSION, ms)));
        settings.extend(differences.postgres.map(|url| (DATABASE, url)));
        settings.extend(differences.settings);
        let before = self.log(name).len();
        self.spawn(name, &["api"], &settings);
        let address = || {
            let log = self.log(name);
            let (_, rest) = log[before..].split_once("listening address=")?;
            Some(rest.split_whitespace().next()?.to_owned())
        };
        eventually(&format!("{name} listens"), PATIENCE, || async { address().is_some() }).await;
        let url = format!("http://{}", address().unwrap());
        self.urls.lock().unwrap().insert(name.to_owned(), url);
    }

    /// Sends an order once. `None` when there was no answer that counts.
    pub(crate) async fn try_order(
        &self,
        api: &str,
        reference: &str,
        lines: &[(&str, i64)],
    ) -> Option<Answer> {
        let url = format!("{}/v1/orders", self.urls.lock().unwrap()[api]);
        let line =
            |&(sku, quantity): &(&str, i64)| json!({ "sku": sku, "quantity": quantity, "unit_amount": 500 });
        let lines: Vec<Value> = lines.iter().map(line).collect();
        let body = json!({ "client_reference": reference, "currency": "USD", "lines": lines });
        let request = self.http.post(url).bearer_auth(&self.key).header("Idempotency-Key", reference);
        let response = request.json(&body).send().await.ok()?;
        let status = response.status();
        let body: Value = response.json().await.ok()?;
        let counts = !status.is_server_error() && body["retryable"] != true;
        counts.then_some(Answer { status, body })
    }

    /// Sends an order until an answer counts.
    pub(crate) async fn order(&self, api: &str, reference: &str, lines: &[(&str, i64)]) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.try_order(api, reference, lines).await {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer that counts to {reference}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Places an order that must succeed. Gives how long that took.
    pub(crate) async fn sell(&self, api: &str, reference: &str, lines: &[(&str, i64)]) -> Duration {
        let began = Instant::now();
        let answer = self.order(api, reference, lines).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{reference}: {}", answer.body);
        began.elapsed()
    }

    /// What a program has printed, once it has ended well.
    pub(crate) async fn finish_program(&self, name: &str) -> String {
        self.system.finish(name, PATIENCE).await.expect_success(name)
    }

    /// Ends the test: that this many orders exist, that every invariant holds, and what the history says.
    pub(crate) async fn finish(&self, orders: usize) {
        self.assert_history().await;
        self.assert_clean().await;
        assert_eq!(self.count("SELECT count(*) FROM orders").await, i64::try_from(orders).unwrap());
    }
}
