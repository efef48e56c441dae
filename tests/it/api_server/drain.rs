//! The end of a server: what is idle is closed at once, what is in flight is answered, the rest is cut.

use std::time::Duration;

use devstack::Signal;
use tokio::{net::TcpStream, time::Instant};

use super::{BODY, LIVEZ, Served};
use crate::support::{
    PATIENCE, eventually,
    raw_http::{Ending, RawHttp},
    system::{Servers, System},
};

#[tokio::test]
async fn idle_connections_are_closed_at_once_and_requests_in_flight_are_answered() {
    let served = Served::start(|settings| settings.drain_seconds = 60).await;
    let (silent, mut begun, mut idle) =
        (served.connect().await, served.connect().await, served.connect().await);
    begun.send(&LIVEZ[..20]).await;
    idle.send(LIVEZ).await;
    assert_eq!(idle.answer().await.status, 200);
    let mut in_flight = served.connect().await;
    let length = format!("Content-Length: {}\r\nExpect: 100-continue", BODY.len());
    in_flight.send(served.put("in-flight", &length)).await;
    // It is being answered: the body was asked for.
    assert_eq!(in_flight.answer_to_head().await.status, 100);

    served.shutdown.cancel();
    for mut waiting in [silent, begun, idle] {
        assert_eq!(waiting.rest().await, (String::new(), Ending::Closed));
    }
    let refused = async || TcpStream::connect(served.address).await.is_err();
    eventually("nobody listens", PATIENCE, refused).await;
    // A request behind the one in flight is not taken any more.
    in_flight.send(format!("{BODY}{LIVEZ}")).await;
    assert_eq!(in_flight.ends_with_answer().await.status, 200);
    assert_eq!(served.levels().await, 1);
    served.finish().await;
}

#[tokio::test]
async fn what_is_not_done_after_the_drain_time_is_cut() {
    let served = Served::start(|settings| settings.drain_seconds = 1).await;
    let mut endless = served.connect().await;
    endless.send(served.put("endless", "Content-Length: 9\r\nExpect: 100-continue")).await;
    assert_eq!(endless.answer_to_head().await.status, 100);
    let begun = Instant::now();
    served.shutdown.cancel();
    assert_eq!(endless.rest().await.0, "");
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&took), "{took:?}");
    served.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_says_how_many_it_cut() {
    let settings = [("HOLDFAST__HTTP__DRAIN_SECONDS", "1"), ("HOLDFAST__HTTP__BODY_TIMEOUT_MS", "600000")];
    let system = System::start(Servers::Neither, &settings).await;
    system.api("api").await;
    let address = system.url("api").trim_start_matches("http://").parse().unwrap();
    let mut endless = Vec::new();
    for number in 0..3 {
        let mut client = RawHttp::connect(address).await;
        let key = &system.key;
        let head = format!(
            "POST /v1/orders HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {key}\r\nIdempotency-Key: k-{number}\r\n\
             Content-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        );
        client.send(head).await;
        assert_eq!(client.answer_to_head().await.status, 100);
        endless.push(client);
    }
    system.stack.signal("api", Signal::TERM).unwrap();
    assert!(system.wait_exit("api", Duration::from_secs(20)).await);
    let log = system.log("api");
    assert!(log.contains("3 connections were still in use after 1 s: they are cut"), "{log}");
    assert!(log.contains("stopped"), "{log}");
}
