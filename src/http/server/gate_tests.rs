//! The gate and hyper together: whatever a client sends, no answer is hyper's own, and no body is read as a request.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::Request, http::Uri, response::Response};
use proptest::{prelude::*, sample::Index, test_runner::Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::server::{connection::Connection, progress::Times};

const LIMIT: usize = 32 * 1024;

/// What stands in the body of the first request.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

const TIMES: Times = {
    let long = std::time::Duration::from_mins(1);
    Times { header: long, idle: long, write: long }
};

/// What came of what a client sent.
#[derive(Debug)]
struct Outcome {
    /// The paths of the requests that a handler got.
    paths: Vec<String>,
    answers: String,
}

/// Sends these bytes in these pieces, and reads all answers.
async fn exchange(bytes: &[u8], piece: usize) -> Outcome {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let handled = Arc::clone(&paths);
    let router = Router::new().fallback(async move |request: Request| {
        handled.lock().unwrap().push(request.uri().path().to_owned());
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await;
        let length = format!("{} bytes", body.unwrap_or_default().len());
        Response::builder().header("x-answered", "yes").body(Body::from(length)).unwrap()
    });
    let stopping = CancellationToken::new();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let connection = Connection {
        router,
        peer,
        times: TIMES,
        header_limit: LIMIT,
        admitted: true,
        stopping: stopping.clone(),
    };
    let (mut client, server) = duplex(256 * 1024);
    let served = tokio::spawn(connection.serve(server));
    for piece in bytes.chunks(piece) {
        // Fails when the server has already closed.
        let _ = client.write_all(piece).await;
        tokio::task::yield_now().await;
    }
    let mut answers = Vec::new();
    // Ends when the server closes; what is still incomplete then, it will not complete.
    let closed = async { client.read_to_end(&mut answers).await };
    let waits = async {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { _ = closed => {}, () = waits => {} }
    stopping.cancel();
    let _ = client.shutdown().await;
    let _ = client.read_to_end(&mut answers).await;
    drop(client);
    served.await.unwrap();
    let paths = paths.lock().unwrap().clone();
    Outcome { paths, answers: String::from_utf8_lossy(&answers).into_owned() }
}

impl Outcome {
    /// That every answer is the handler's or a problem document.
    fn none_is_hypers(&self) {
        let starts = |text: &&str| text.get(1..3).is_some_and(|text| [" 1", " 2", " 4"].contains(&text));
        for answer in self.answers.split("HTTP/1.").filter(starts) {
            let ours = answer.contains("x-answered: yes") || answer.contains("x-request-id: req_");
            assert!(ours || answer.starts_with("1 100 Continue"), "{self:?}");
        }
    }
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("POST /first HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn requests_one_behind_the_other_are_each_answered() {
    let first = post(&format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED);
    let bytes = [&first, &first, SECOND].concat();
    for piece in [1, 7, 100, bytes.len()] {
        let outcome = exchange(&bytes, piece).await;
        assert_eq!(outcome.paths, ["/first", "/first", "/second"], "{piece}: {outcome:?}");
        assert_eq!(outcome.answers.matches("HTTP/1.1 200 OK").count(), 3, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_refused_head_is_answered_behind_the_answer_before_it_and_ends_the_connection() {
    let good = post("Content-Length: 0", b"");
    let bad = post("Content-Length: 1\r\nTransfer-Encoding: chunked", b"0\r\n\r\n");
    let bytes = [&good, &bad, SECOND].concat();
    for piece in [1, 7, 100, bytes.len()] {
        let outcome = exchange(&bytes, piece).await;
        assert_eq!(outcome.paths, ["/first"], "{piece}: {outcome:?}");
        let (before, refusal) = outcome.answers.split_once("HTTP/1.1 400 Bad Request").unwrap();
        assert!(before.starts_with("HTTP/1.1 200 OK"), "{outcome:?}");
        assert!(refusal.contains("connection: close"), "{outcome:?}");
        assert!(refusal.contains("\"code\":\"malformed_request\""), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_request_in_chunks_is_the_last_of_its_connection() {
    let chunked = |body: &[u8]| {
        let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat();
        post("Transfer-Encoding: chunked", &chunk)
    };
    let bytes = [&chunked(SMUGGLED), SECOND].concat();
    for piece in [1, 7, bytes.len()] {
        let outcome = exchange(&bytes, piece).await;
        assert_eq!(outcome.paths, ["/first"], "{piece}: {outcome:?}");
        assert!(outcome.answers.contains("connection: close"), "{outcome:?}");
        assert!(outcome.answers.ends_with("\r\n\r\n35 bytes"), "{outcome:?}");
    }
}

/// Parts of heads that readers disagree about.
const PARTS: [&str; 20] = [
    "Content-Length: 35\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x\r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: h2c\r\n",
    "Host: b\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "\0",
    ":",
    ",",
    "0",
    "chunked",
    "HTTP/1.0",
];

/// A head of a request with `SMUGGLED` as its body, changed in a few places.
fn changed_heads() -> impl Strategy<Value = Vec<u8>> {
    let base = prop_oneof![
        Just("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 35\r\nX-A: b\r\n\r\n"),
        Just("GET /first?a=b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Just("PUT http://a/first HTTP/1.1\r\nhost:a\r\ncontent-length:35\r\nexpect:100-continue\r\n\r\n"),
        Just("HEAD /first HTTP/1.0\r\nContent-Length: 35\r\nConnection: keep-alive\r\n\r\n"),
    ];
    let part = prop_oneof![
        prop::sample::select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let change = (any::<Index>(), 0_usize..4, part);
    (base, prop::collection::vec(change, 0..4)).prop_map(|(base, changes)| {
        let mut head = base.as_bytes().to_vec();
        for (at, removed, part) in changes {
            let at = at.index(head.len());
            let end = (at + removed).min(head.len());
            head.splice(at..end, part);
        }
        head
    })
}

/// The paths of the requests that stand here, each where the one before it ends, up to the first refused head.
fn requests_in(mut bytes: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    while let Some(Ok(end)) = head::examine(bytes, &mut 0, LIMIT) {
        let line = bytes.split(|byte| *byte == b'\r').find(|line| line.len() > 1).unwrap();
        let target = str::from_utf8(line).unwrap().split(' ').nth(1).unwrap();
        paths.push(target.parse::<Uri>().unwrap().path().to_owned());
        let End::After(end) = end else { break };
        let Some(rest) = bytes.get(usize::try_from(end).unwrap()..) else { break };
        bytes = rest;
    }
    paths
}

proptest! {
    #![proptest_config(Config { cases: 2_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_request_ends_for_hyper_where_it_ends_for_the_gate(head in changed_heads(), piece in 1_usize..400) {
        let bytes = [&head, SMUGGLED, SECOND].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let outcome = runtime.block_on(exchange(&bytes, piece));
        outcome.none_is_hypers();
        let framed = requests_in(&bytes);
        // A request may be the last by its own wish, or because it comes in chunks.
        prop_assert!(framed.starts_with(&outcome.paths), "{framed:?}: {outcome:?}");
        prop_assert_eq!(framed.is_empty(), outcome.paths.is_empty(), "{:?}: {:?}", framed, outcome);
    }
}
