//! An endpoint of a merchant: takes webhooks, answers as it is told, and verifies what it got by the words of Standard Webhooks.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use tokio::{net::TcpListener, time::sleep};

use super::{PATIENCE, eventually};

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) header: Option<(&'static str, String)>,
    pub(crate) body: String,
    pub(crate) delay: Duration,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, header: None, body: format!("said {status}"), delay: Duration::ZERO }
    }
}

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// How many of its signatures are by this secret.
    pub(crate) fn signatures_by(&self, secret: &str) -> usize {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signed =
            format!("{}.{}.{}", self.header("webhook-id"), self.header("webhook-timestamp"), self.text);
        let verifies = |signature: &&str| {
            let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(&signed);
            mac.verify_slice(&signature).is_ok()
        };
        self.header("webhook-signature").split(' ').filter(verifies).count()
    }
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    /// The first answers, in their order; then `always`.
    first: Mutex<Vec<Reply>>,
    always: Mutex<Option<Reply>>,
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

impl Receiver {
    /// One that answers 204.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1").await
    }

    /// The same at this address.
    pub(crate) async fn start_at(address: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared }
    }

    /// Answers like this from now on.
    pub(crate) fn answer(&self, reply: Reply) {
        *self.shared.always.lock().unwrap() = Some(reply);
    }

    /// Answers like these first.
    pub(crate) fn answer_first(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.first.lock().unwrap().extend(replies);
    }

    /// What came so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The types of what came so far.
    pub(crate) fn types(&self) -> Vec<String> {
        self.received().iter().map(|one| one.body["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until so much has come.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} webhooks have come");
        eventually(&what, PATIENCE, async || self.received().len() >= count).await;
        self.received()
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, HeaderMap, String) {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap();
    shared.received.lock().unwrap().push(Received { headers, text, body });
    let first = {
        let mut first = shared.first.lock().unwrap();
        if first.is_empty() { None } else { Some(first.remove(0)) }
    };
    let always = shared.always.lock().unwrap().clone();
    let reply = first.or(always).unwrap_or_else(|| Reply { body: String::new(), ..Reply::status(204) });
    sleep(reply.delay).await;
    let header = reply.header.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    (StatusCode::from_u16(reply.status).unwrap(), header.into_iter().collect(), reply.body)
}

/// A port that nobody may connect to.
pub(crate) struct Canary {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Canary {
    /// Listens at these addresses, on one port.
    pub(crate) async fn start(addresses: &[&str]) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let first = TcpListener::bind((addresses[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        for address in &addresses[1..] {
            listeners.push(TcpListener::bind((*address, port)).await.unwrap());
        }
        for listener in listeners {
            let connections = Arc::clone(&connections);
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    connections.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
