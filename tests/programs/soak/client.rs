//! The clients: what they send, how often, and what they were told. Their memory is held against the database in the end.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    observer::Board,
    system::{APIS, System},
};

/// How long a client tries to be answered.
const PATIENCE: Duration = Duration::from_secs(30);

/// Problems after which a request has surely not taken effect, and may be sent again.
const NOTHING_HAPPENED: [&str; 8] = [
    "overloaded",
    "events_delayed",
    "lock_unavailable",
    "database_unavailable",
    "not_ready",
    "too_many_connections",
    "idempotency_key_in_use",
    "rate_limited",
];

/// A request under its key.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) key: String,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Json(Value),
    Csv(String),
}

/// What a client knows in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It took effect: status and body.
    Done(u16, String),
    /// It was refused, each time that it was sent.
    Refused(u16, String),
    /// It may have taken effect.
    Unknown,
}

/// A request with what became of it.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) request: Request,
    pub(super) outcome: Outcome,
    /// How often it was sent without a word about what became of it.
    pub(super) unknown: u32,
}

/// See the module.
pub(super) struct Clients {
    pub(super) system: Arc<System>,
    pub(super) board: Arc<Board>,
    pub(super) history: Mutex<Vec<Operation>>,
    /// What two answers to one key say differently.
    pub(super) contradictions: Mutex<Vec<String>>,
    pub(super) requests: AtomicU64,
}

impl Clients {
    pub(super) fn new(system: Arc<System>, board: Arc<Board>) -> Self {
        let (history, contradictions) = (Mutex::default(), Mutex::default());
        Self { system, board, history, contradictions, requests: AtomicU64::new(0) }
    }

    /// Sends a request so many times at once, each until its answer counts, and remembers what became of it.
    pub(super) async fn send(&self, request: Request, copies: usize) -> Outcome {
        let copies = (0..copies).map(|copy| self.send_one(&request, copy, PATIENCE));
        let answers = join_all(copies).await;
        let unknown = answers.iter().map(|(_, unknown)| unknown).sum();
        let mut done: Vec<&Outcome> = answers
            .iter()
            .map(|(outcome, _)| outcome)
            .filter(|outcome| matches!(outcome, Outcome::Done(..)))
            .collect();
        done.dedup();
        if done.len() > 1 {
            let text = format!("{} under {} was answered differently: {done:?}", request.path, request.key);
            self.contradictions.lock().unwrap().push(text);
        }
        // A refusal that may pass is not kept under the key: one that was refused says nothing about another that was not heard.
        let refused = answers
            .iter()
            .map(|(outcome, _)| outcome)
            .find(|outcome| matches!(outcome, Outcome::Refused(..)));
        let outcome = match (done.first(), refused) {
            (Some(done), _) => (*done).clone(),
            (None, Some(refused)) if unknown == 0 => refused.clone(),
            _ => Outcome::Unknown,
        };
        self.history.lock().unwrap().push(Operation { request, outcome: outcome.clone(), unknown });
        outcome
    }

    /// Sends a request until its answer counts. Gives also how often it was not heard of.
    pub(super) async fn send_one(
        &self,
        request: &Request,
        copy: usize,
        patience: Duration,
    ) -> (Outcome, u32) {
        let deadline = Instant::now() + patience;
        let mut api = (copy + request.key.len()) % APIS.len();
        let (mut unknown, mut tries) = (0, 0);
        loop {
            match self.ask(APIS[api], request).await {
                Some(Outcome::Unknown) => unknown += 1,
                Some(outcome) => return (outcome, unknown),
                None => {}
            }
            if Instant::now() >= deadline {
                return (Outcome::Unknown, unknown);
            }
            api = (api + 1) % APIS.len();
            tries += 1;
            sleep(Duration::from_millis(rand::random_range(100..300) * tries.min(8))).await;
        }
    }

    /// Asks once. `None`: nothing happened, ask again.
    pub(super) async fn ask(&self, api: &str, request: &Request) -> Option<Outcome> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let system = &self.system;
        let post = system.http.post(format!("{}{}", system.url(api), request.path));
        let post = post.bearer_auth(&system.key).header("Idempotency-Key", &request.key);
        let post = match &request.body {
            Body::Json(body) => post.json(body),
            Body::Csv(body) => post.header("Content-Type", "text/csv").body(body.clone()),
        };
        let response = match post.send().await {
            Ok(response) => response,
            // It has not left.
            Err(error) if error.is_connect() => return None,
            Err(_) => return Some(Outcome::Unknown),
        };
        let status = response.status();
        let Ok(body) = response.text().await else { return Some(Outcome::Unknown) };
        if status.is_success() {
            self.board.works(api);
            return Some(Outcome::Done(status.as_u16(), body));
        }
        let problem: Value = serde_json::from_str(&body).unwrap_or_default();
        let code = problem["code"].as_str().unwrap_or_default();
        if NOTHING_HAPPENED.contains(&code) {
            return None;
        }
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            return Some(Outcome::Unknown);
        }
        self.board.works(api);
        Some(Outcome::Refused(status.as_u16(), code.to_owned()))
    }

    /// What an API says of something, if it says anything.
    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        let api = APIS[rand::random_range(0..APIS.len())];
        let get =
            self.system.http.get(format!("{}{path}", self.system.url(api))).bearer_auth(&self.system.key);
        let response = get.send().await.ok().filter(|response| response.status().is_success())?;
        response.json().await.ok()
    }
}
