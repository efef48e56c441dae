//! What a process counts of its connections and requests, and that a client cannot make it count without bound.

use std::collections::BTreeSet;

use reqwest::Method;
use uuid::Uuid;

use super::connect_until_refused;
use crate::support::{
    PATIENCE, eventually,
    raw_http::RawHttp,
    system::{Servers, System},
};

/// What is counted, as Prometheus reads it.
struct Scrape(String);

impl Scrape {
    async fn of(system: &System) -> Self {
        let answer = system.http.get(format!("{}/metrics", system.url("api"))).send().await.unwrap();
        Self(answer.text().await.unwrap())
    }

    /// The value of a series, 0 where there is none.
    fn value(&self, series: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    fn is(&self, series: &str, expected: f64) {
        assert!((self.value(series) - expected).abs() < 0.5, "{series} is not {expected}: {}", self.0);
    }

    fn series_of_requests(&self) -> BTreeSet<&str> {
        let series = self.0.lines().filter(|line| line.starts_with("holdfast_http_request"));
        series.filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_route_and_connections_by_what_became_of_them() {
    let settings = [
        ("HOLDFAST__HTTP__MAX_CONNECTIONS", "8"),
        ("HOLDFAST__HTTP__HEADER_TIMEOUT_MS", "1000"),
        ("HOLDFAST__HTTP__IDLE_TIMEOUT_MS", "300000"),
    ];
    let system = System::start(Servers::Neither, &settings).await;
    system.api("api").await;
    let address = system.url("api").trim_start_matches("http://").parse().unwrap();
    let call = async |method: &str, path: &str| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = system.http.request(method, format!("{}{path}", system.url("api")));
        request.bearer_auth(&system.key).send().await.unwrap();
    };
    for _ in 0..50 {
        let made_up = Uuid::now_v7().simple().to_string();
        call("GET", &format!("/v1/orders/ord_{made_up}")).await;
        call("GET", &format!("/{made_up}?a={made_up}")).await;
        call(&format!("M{made_up}"), "/v1/orders").await;
        RawHttp::last_answer(address, format!("GET {made_up}\r\n\r\n").as_bytes()).await;
    }
    let scrape = Scrape::of(&system).await;
    scrape.is(r#"holdfast_http_requests_total{route="/v1/orders/{id}",method="GET",status="404"}"#, 50.0);
    scrape.is(r#"holdfast_http_requests_total{route="none",method="GET",status="404"}"#, 50.0);
    scrape.is(r#"holdfast_http_requests_total{route="/v1/orders",method="other",status="405"}"#, 50.0);
    scrape.is(r#"holdfast_http_requests_total{route="none",method="none",status="400"}"#, 50.0);
    scrape.is(r#"holdfast_http_request_seconds_count{route="/v1/orders/{id}",method="GET"}"#, 50.0);
    assert!(scrape.value(r#"holdfast_http_request_seconds_sum{route="/v1/orders/{id}",method="GET"}"#) > 0.0);
    let series = scrape.series_of_requests().len();
    assert!(series < 200, "{}", scrape.0);

    // One silent, one that is slow: both are ended, and counted.
    let mut silent = RawHttp::connect(address).await;
    assert_eq!(silent.rest().await.0, "");
    RawHttp::last_answer(address, b"GET /").await.problem(408, "request_timeout");
    // Eight are open, and the next is one too many.
    let mut open = connect_until_refused(address).await;
    // The last of them was refused.
    open.truncate(open.len() - 2);
    let room = async || {
        let scrape = Scrape::of(&system).await;
        scrape.value("holdfast_http_connections_open") > 0.5
    };
    eventually("there is room to ask", PATIENCE, room).await;
    let scrape = Scrape::of(&system).await;
    assert!(scrape.value("holdfast_http_connections_refused_total") > 0.5, "{}", scrape.0);
    let open_now = scrape.value("holdfast_http_connections_open");
    assert!((1.5..8.5).contains(&open_now), "{}", scrape.0);
    // The other client may have opened connections that it did not need.
    assert!(scrape.value(r#"holdfast_http_connections_cut_total{reason="silent"}"#) > 0.5, "{}", scrape.0);
    scrape.is(r#"holdfast_http_requests_total{route="none",method="none",status="408"}"#, 1.0);
    assert_eq!(scrape.series_of_requests().iter().filter(|series| series.contains("\"408\"")).count(), 1);
}
