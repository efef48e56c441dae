//! How often may be asked, and that nobody pays for what another asks.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use holdfast::{
    app::{Once, RotateApiKey},
    config::RateLimit,
    domain::access::Scope,
};
use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    PATIENCE,
    api::{Answer, Api, send},
    app::{Setup, TestApp},
    eventually,
};

async fn limited(rate_limit: RateLimit) -> TestApp {
    TestApp::start_with(Setup { rate_limit, ..Setup::default() }).await
}

/// So few that a test gets there at once.
const FEW: RateLimit = RateLimit { requests_per_second: 1, burst: 20, without_key_per_second: 2000 };

async fn shop(test: &TestApp, name: &str) -> Api {
    test.api.with_secret(&test.new_key(name, &[Scope::OrdersRead, Scope::OrdersWrite]).await.secret)
}

/// Asks until it is refused. Gives the refusal, and how many requests were answered before.
async fn exhaust(api: &Api) -> (Answer, usize) {
    for answered in 0.. {
        let answer = api.get("/v1/orders").await;
        if answer.status != 200 {
            return (answer, answered);
        }
    }
    unreachable!()
}

/// What a client has left, by the header.
fn left(answer: &Answer) -> u32 {
    let value = answer.header("ratelimit").strip_prefix("\"default\";r=").unwrap();
    value.split_once(";t=").unwrap().0.parse().unwrap()
}

#[tokio::test]
async fn a_client_is_told_what_it_has_left_and_when_it_gets_more() {
    let test = limited(FEW).await;
    let shop = shop(&test, "shop").await;
    let first = shop.get("/v1/orders").await;
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=20;w=20");
    assert_eq!(first.header("ratelimit"), "\"default\";r=19;t=1");
    // Whatever the answer is.
    let second = shop.get("/v1/api-keys").await;
    assert!(left(&second) <= 19, "{second:?}");
    second.problem(403, "insufficient_scope");
    let (refused, answered) = exhaust(&shop).await;
    assert!(answered >= 18, "{answered}");
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit")), ("1", "\"default\";r=0;t=20"));
    assert_eq!(refused.header("ratelimit-policy"), "\"default\";q=20;w=20");
    assert_eq!(refused.problem(429, "rate_limited")["retryable"], true);
    // What costs nothing is not counted, nor does it tell.
    let ready = send(test.api.bare(Method::GET, "/readyz")).await;
    assert_eq!((ready.status, ready.header("ratelimit")), (200, ""));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flood_of_one_client_leaves_the_others_theirs() {
    let test = limited(FEW).await;
    let (flood, calm) = (shop(&test, "flood").await, shop(&test, "calm").await);
    let began = Instant::now();
    let requests = (0..300).map(|number| {
        let api = if number % 20 == 0 { &calm } else { &flood };
        async move { (number % 20 == 0, api.get("/v1/orders").await.status) }
    });
    let answers = join_all(requests).await;
    let of =
        |is_calm: bool, status: u16| answers.iter().filter(|answer| **answer == (is_calm, status)).count();
    assert_eq!((of(true, 200), of(true, 429)), (15, 0));
    let allowed = 20 + usize::try_from(began.elapsed().as_secs()).unwrap() + 1;
    assert!((20..=allowed).contains(&of(false, 200)), "{} of {allowed}", of(false, 200));
    assert_eq!(of(false, 200) + of(false, 429), 285);
    test.finish().await;
}

#[tokio::test]
async fn all_keys_of_a_client_count_together() {
    let test = limited(FEW).await;
    let key = test.new_key("shop", &[Scope::OrdersRead]).await;
    let rotated = test.app.rotate_api_key(key.key.id, &RotateApiKey::default(), None).await.unwrap();
    let Once::Now(rotated) = rotated else { panic!("{rotated:?}") };
    exhaust(&test.api.with_secret(&key.secret)).await.0.problem(429, "rate_limited");
    let (refused, answered) = exhaust(&test.api.with_secret(&rotated.secret)).await;
    assert!(answered < 10, "{answered}");
    refused.problem(429, "rate_limited");
    test.finish().await;
}

#[tokio::test]
async fn a_refused_request_is_answered_before_its_body_has_come() {
    let test = limited(FEW).await;
    let key = test.new_key("shop", &[Scope::OrdersRead, Scope::OrdersWrite]).await;
    exhaust(&test.api.with_secret(&key.secret)).await;
    let mut socket = TcpStream::connect(test.api.address()).await.unwrap();
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Idempotency-Key: k\r\nContent-Length: 1000\r\n\r\n",
        key.secret
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = timeout(PATIENCE, socket.read(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    test.finish().await;
}

/// Guessing keys costs whoever guesses: not the database, not another address, and not a client that is known.
#[tokio::test]
async fn whoever_guesses_keys_is_stopped_and_nobody_else() {
    let test = limited(RateLimit { without_key_per_second: 3, ..Setup::default().rate_limit }).await;
    let known = shop(&test, "known").await;
    known.get("/v1/orders").await.expect(200);
    let guess = async |number: usize| {
        send(test.api.with_secret(&format!("hf_{number}")).request(Method::GET, "/v1/orders")).await
    };
    let mut refusals = 0;
    // For longer than a known key is remembered without looking again.
    let until = Instant::now() + Duration::from_secs(6);
    for number in 0.. {
        let answer = guess(number).await;
        if answer.status == 429 {
            assert_eq!((answer.header("retry-after"), answer.header("ratelimit")), ("1", ""));
            answer.problem(429, "rate_limited");
            refusals += 1;
        } else {
            answer.problem(401, "unauthenticated");
        }
        known.get("/v1/orders").await.expect(200);
        if Instant::now() > until {
            assert!(number - refusals < 3 + 3 * 8, "{refusals} of {number}");
            break;
        }
    }
    assert!(refusals > 10, "{refusals}");
    // Neither a missing key nor a malformed one is a way around it.
    let elsewhere =
        reqwest::Client::builder().no_proxy().local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).build();
    let elsewhere = elsewhere.unwrap().get(format!("http://{}/v1/orders", test.api.address()));
    let bare = async || send(test.api.bare(Method::GET, "/v1/orders")).await.status == 429;
    let malformed = async || {
        let request = test.api.bare(Method::GET, "/v1/orders").header("Authorization", "Bearer a b");
        send(request).await.status == 429
    };
    eventually("a missing key is counted", PATIENCE, bare).await;
    eventually("a malformed key is counted", PATIENCE, malformed).await;
    assert_eq!(elsewhere.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    test.finish().await;
}

/// A process that has just started knows nobody: its clients must not be taken for somebody who guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_all_at_once_get_in() {
    let test = limited(RateLimit { without_key_per_second: 1, ..Setup::default().rate_limit }).await;
    let mut shops = Vec::new();
    for number in 0..5 {
        shops.push(shop(&test, &format!("shop {number}")).await);
    }
    let requests = (0..100).map(|number| {
        let shop = &shops[number % shops.len()];
        shop.get("/v1/orders")
    });
    for answer in join_all(requests).await {
        answer.expect(200);
    }
    test.finish().await;
}
