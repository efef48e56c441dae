//! How long a client may let the server wait.

use std::time::Duration;

use tokio::{
    net::TcpSocket,
    time::{Instant, sleep},
};

use super::{BODY, LIVEZ, Served};
use crate::support::raw_http::RawHttp;

/// The time under test. Everything else has ten minutes.
const LIMIT: Duration = Duration::from_millis(LIMIT_MS);
const LIMIT_MS: u64 = 1_000;

/// That this ends after the limit, and not long after.
async fn within_the_limit<T>(begun: Instant, what: impl Future<Output = T>) -> T {
    let outcome = what.await;
    let took = begun.elapsed();
    // The upper bound is for machines under load.
    assert!((LIMIT..20 * LIMIT).contains(&took), "{took:?}");
    outcome
}

/// Sends one byte after the other for as long as they are taken. This is how an attacker keeps a connection busy.
async fn drip(client: &mut RawHttp, bytes: &[u8]) {
    for byte in bytes {
        if !client.try_send([*byte]).await {
            return;
        }
        sleep(LIMIT / 20).await;
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_is_closed() {
    let served = Served::start(|settings| settings.header_timeout_ms = LIMIT_MS).await;
    let begun = Instant::now();
    let mut client = served.connect().await;
    let (answer, _) = within_the_limit(begun, client.rest()).await;
    assert_eq!(answer, "");
    served.finish().await;
}

#[tokio::test]
async fn headers_that_drip_are_answered_408_however_steadily_they_come() {
    let served = Served::start(|settings| settings.header_timeout_ms = LIMIT_MS).await;
    let endless = format!("GET /livez HTTP/1.1\r\nHost: api\r\nX: {}", "x".repeat(30));
    for after_a_request in [false, true] {
        let mut client = served.connect().await;
        if after_a_request {
            client.send(LIVEZ).await;
            assert_eq!(client.answer().await.status, 200);
        }
        let begun = Instant::now();
        drip(&mut client, &endless.as_bytes()[..30]).await;
        let answer = within_the_limit(begun, client.ends_with_answer()).await;
        assert_eq!(answer.problem(408, "request_timeout")["retryable"], true);
    }
    served.finish().await;
}

#[tokio::test]
async fn a_body_that_drips_is_answered_408_however_steadily_it_comes() {
    let served = Served::start(|settings| settings.body_timeout_ms = LIMIT_MS).await;
    for headers in ["Content-Length: 200", "Transfer-Encoding: chunked"] {
        let mut client = served.connect().await;
        let begun = Instant::now();
        client.send(served.put("slow", headers)).await;
        drip(&mut client, format!("c8\r\n{}", " ".repeat(30)).as_bytes()).await;
        let answer = within_the_limit(begun, client.ends_with_answer()).await;
        answer.problem(408, "request_timeout");
    }
    assert_eq!(served.levels().await, 0);
    served.finish().await;
}

/// A stock file has limits of its own: twelve times as long as other bodies, and 16 MiB.
#[tokio::test]
async fn a_stock_file_has_its_time_and_one_that_is_announced_too_large_is_refused_at_once() {
    let served = Served::start(|settings| settings.body_timeout_ms = LIMIT_MS.div_ceil(12)).await;
    for headers in ["Content-Length: 200", "Transfer-Encoding: chunked"] {
        let mut client = served.connect().await;
        let begun = Instant::now();
        client.send(served.post_file(headers)).await;
        drip(&mut client, format!("c8\r\nsku,on_hand\n{}", " ".repeat(30)).as_bytes()).await;
        let answer = within_the_limit(begun, client.ends_with_answer()).await;
        answer.problem(408, "request_timeout");
    }
    let mut client = served.connect().await;
    client.send(served.post_file("Content-Length: 10000000000")).await;
    client.ends_with_answer().await.problem(413, "body_too_large");
    let mut client = served.connect().await;
    client.send(served.post_file("Transfer-Encoding: chunked")).await;
    client.send("no length\r\n").await;
    client.ends_with_answer().await.problem(400, "malformed_request");
    assert_eq!(served.test.count("SELECT count(*) FROM stock_import").await, 0);
    // Their key is free.
    let mut client = served.connect().await;
    client.send(format!("{}sku,on_hand\na,1\n", served.post_file("Content-Length: 16"))).await;
    assert_eq!(client.answer().await.status, 202);
    served.finish().await;
}

#[tokio::test]
async fn a_connection_that_waits_for_its_next_request_is_closed_and_a_busy_one_is_not() {
    let served = Served::start(|settings| settings.idle_timeout_ms = LIMIT_MS).await;
    let mut client = served.connect().await;
    client.send(LIVEZ).await;
    assert_eq!(client.answer().await.status, 200);
    let begun = Instant::now() - Duration::from_millis(20);
    let (answer, _) = within_the_limit(begun, client.rest()).await;
    assert_eq!(answer, "");

    // The same time within a request is not idle.
    let mut client = served.connect().await;
    client.send(LIVEZ).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(served.put("patient", &format!("Content-Length: {}", BODY.len()))).await;
    sleep(2 * LIMIT).await;
    client.send(BODY).await;
    assert_eq!(client.answer().await.status, 200);
    served.finish().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_disconnected() {
    let served = Served::start(|settings| settings.write_timeout_ms = LIMIT_MS).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = RawHttp::over(socket.connect(served.address).await.unwrap());
    // More answers than the buffers of both sides hold. The server stops reading when it cannot write.
    let begun = Instant::now();
    let requests = LIVEZ.repeat(1_000);
    let mut sent = 0;
    while client.try_send(&requests).await {
        sent += 1;
        assert!(sent < 1_000, "the server answers whoever does not read, for ever");
    }
    assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());

    // Nobody else notices.
    let mut client = served.connect().await;
    client.send(LIVEZ).await;
    assert_eq!(client.answer().await.status, 200);
    served.finish().await;
}
