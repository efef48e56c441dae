//! Where nothing is ever sent (server-side request forgery): each row ends with a canary that nobody has connected to.

use std::{
    collections::VecDeque,
    io,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::DateTime;
use holdfast::{
    domain::{webhook::AttemptError, webhook_url::UrlRules},
    provider::install_crypto_provider,
    webhook::{
        AddressGuard, Answered, Message, NameLookup, SigningSecret, Unanswered, WebhookOptions, WebhookSender,
    },
};
use serde_json::json;

use super::ENDPOINTS;
use crate::support::{
    app::{Setup, TestApp},
    receiver::{Canary, Receiver, Reply},
    setup::local_webhooks,
};

/// Names whose addresses are given here, each time the next of a list.
#[derive(Debug, Default)]
struct Names(Mutex<VecDeque<Vec<IpAddr>>>);

impl Names {
    fn of(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |addresses: &&[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect())))
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[async_trait]
impl NameLookup for Names {
    async fn look_up(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let next = self.0.lock().unwrap().pop_front();
        next.ok_or_else(|| io::Error::other("asked more often than is good"))
    }
}

/// As in production, at any port, and besides over HTTP in `networks`.
fn sender(networks: &str, names: &Arc<Names>) -> WebhookSender {
    install_crypto_provider();
    let options = WebhookOptions {
        urls: UrlRules { allow_insecure: !networks.is_empty(), ports: None },
        addresses: AddressGuard::new(networks).unwrap(),
        timeout: Duration::from_secs(2),
        idle_connections: 4,
    };
    let names: Arc<dyn NameLookup> = names.clone();
    WebhookSender::new(options, &names).unwrap()
}

async fn send(sender: &WebhookSender, url: &str) -> Result<Answered, Unanswered> {
    let secrets = [SigningSecret::generate()];
    let message =
        Message { url, id: "evt_1", time: DateTime::UNIX_EPOCH, body: "{\"type\":\"x\"}", secrets: &secrets };
    sender.send(&message).await
}

fn error(result: Result<Answered, Unanswered>) -> AttemptError {
    result.expect_err("it was sent").error
}

/// What a merchant may write for this machine, or for what only this machine reaches. `PORT` is the canary's.
const REFUSED: [&str; 22] = [
    "https://127.0.0.1:PORT/",
    "https://127.0.0.2:PORT/",
    "https://[::1]:PORT/",
    "https://[::ffff:127.0.0.1]:PORT/",
    "https://[::127.0.0.1]:PORT/",
    "https://[64:ff9b::127.0.0.1]:PORT/",
    "https://0:PORT/",
    "https://0.0.0.0:PORT/",
    "https://[::]:PORT/",
    "https://2130706433:PORT/",
    "https://0x7f000001:PORT/",
    "https://0177.0.0.1:PORT/",
    "https://127.1:PORT/",
    "https://localhost:PORT/",
    "https://LOCALHOST.:PORT/",
    "https://a.example@127.0.0.1:PORT/",
    "https://127.0.0.1:PORT@a.example/",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://192.168.0.1/",
    "https://[fc00::1]/",
    "http://127.0.0.1:PORT/",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_an_address_leads_inside() {
    let canary = Canary::start(&["127.0.0.1", "127.0.0.2"]).await;
    let names = Names::of(&[]);
    let sender = sender("", &names);
    let public = WebhookOptions {
        urls: UrlRules { allow_insecure: false, ports: None },
        addresses: AddressGuard::default(),
        ..local_webhooks()
    };
    let test = TestApp::start_with(Setup { webhook: public, ..Setup::default() }).await;
    for url in REFUSED {
        let url = url.replace("PORT", &canary.port.to_string());
        let problem =
            test.api.post(ENDPOINTS, &json!({ "url": url })).await.problem(422, "webhook_url_refused");
        assert_eq!(problem["errors"][0]["pointer"], "/url", "{url}");
        assert_eq!(error(send(&sender, &url).await), AttemptError::AddressRefused, "{url}");
    }
    assert_eq!(canary.connections(), 0);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_not_of_the_web_is_refused() {
    let webhook = WebhookOptions {
        urls: UrlRules { allow_insecure: false, ports: Some(vec![443, 8443]) },
        addresses: AddressGuard::default(),
        ..local_webhooks()
    };
    let test = TestApp::start_with(Setup { webhook, ..Setup::default() }).await;
    for url in
        ["https://a.example:5432/", "https://a.example:22/", "https://a.example:80/", "http://a.example/"]
    {
        test.api.post(ENDPOINTS, &json!({ "url": url })).await.problem(422, "webhook_url_refused");
    }
    let made = test.api.post(ENDPOINTS, &json!({ "url": "https://a.example:8443/hook" })).await.expect(201);
    let put = format!("{ENDPOINTS}/{}", made["id"].as_str().unwrap());
    test.api.put(&put, &json!({ "url": "https://127.0.0.1/" })).await.problem(422, "webhook_url_refused");
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_leads_inside() {
    let canary = Canary::start(&["127.0.0.1"]).await;
    for addresses in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["10.0.0.1", "192.168.1.1", "169.254.169.254"],
        &["fd00::1", "fe80::1"],
    ] {
        let names = Names::of(&[addresses]);
        let url = format!("https://inside.example:{}/", canary.port);
        assert_eq!(
            error(send(&sender("", &names), &url).await),
            AttemptError::AddressRefused,
            "{addresses:?}"
        );
        assert_eq!(names.left(), 0);
    }
    let unknown = Names::of(&[&[]]);
    assert_eq!(
        error(send(&sender("", &unknown), "https://nobody.example/").await),
        AttemptError::NameNotResolved
    );
    assert_eq!(canary.connections(), 0);
}

/// The name is resolved once for each connection, and that answer is what is checked and connected to. 127.0.0.2 stands for a
/// public address here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_changes_leads_nowhere_else() {
    let outside = Receiver::start_at("127.0.0.2").await;
    outside.answer(Reply { header: Some(("connection", "close".into())), ..Reply::status(200) });
    let port = outside.url.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned();
    let inside = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let names = Names::of(&[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.1", "127.0.0.2"]]);
    let sender = sender("127.0.0.2/32", &names);
    let url = format!("http://rebinding.example:{port}/");
    assert_eq!(send(&sender, &url).await.unwrap().status, 200);
    assert_eq!(names.left(), 2, "one look-up for one connection");
    assert_eq!(error(send(&sender, &url).await), AttemptError::AddressRefused);
    // Of several addresses those that are allowed.
    assert_eq!(send(&sender, &url).await.unwrap().status, 200);
    assert_eq!((names.left(), outside.received().len()), (0, 2));
    let nobody = tokio::time::timeout(Duration::from_millis(200), inside.accept()).await;
    assert!(nobody.is_err(), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_redirect_is_followed_and_no_long_answer_read() {
    let canary = Canary::start(&["127.0.0.1"]).await;
    let outside = Receiver::start_at("127.0.0.2").await;
    let sender = sender("127.0.0.2/32", &Names::of(&[]));
    for status in [301, 302, 303, 307, 308] {
        let inside = format!("http://127.0.0.1:{}/", canary.port);
        outside.answer(Reply { header: Some(("location", inside)), ..Reply::status(status) });
        assert_eq!(send(&sender, &outside.url).await.unwrap().status, status);
    }
    assert_eq!(canary.connections(), 0);
    outside.answer(Reply { body: "\0ü".repeat(1 << 20), ..Reply::status(200) });
    let answered = send(&sender, &outside.url).await.unwrap();
    assert_eq!((answered.status, answered.body.chars().next()), (200, Some('\u{fffd}')));
    assert!((1024..=3072).contains(&answered.body.len()), "{}", answered.body.len());
}
