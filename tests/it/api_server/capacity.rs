//! How many clients may be connected.

use super::{LIVEZ, Served};
use crate::support::{PATIENCE, eventually, raw_http::RawHttp};

/// How many of those that are too many are told so at a time.
const TOLD: usize = 256;

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_disturbs_nobody() {
    let served = Served::start(|settings| settings.max_connections = 2).await;
    let (mut first, mut second) = (served.connect().await, served.connect().await);
    for client in [&mut first, &mut second] {
        client.send(LIVEZ).await;
        assert_eq!(client.answer().await.status, 200);
    }
    let answer = RawHttp::last_answer(served.address, LIVEZ.as_bytes()).await;
    let problem = answer.problem(503, "too_many_connections");
    assert_eq!((answer.header("retry-after"), &problem["retryable"]), (Some("1"), &true.into()));
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);

    // An end makes room.
    drop(second);
    let room = async || {
        let mut client = served.connect().await;
        client.send(LIVEZ).await;
        client.answer().await.status == 200
    };
    eventually("there is room", PATIENCE, room).await;
    served.finish().await;
}

#[tokio::test]
async fn of_very_many_that_say_nothing_the_last_are_closed_at_once() {
    let served = Served::start(|settings| settings.max_connections = 1).await;
    let mut first = served.connect().await;
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);
    let mut told = Vec::new();
    for _ in 0..TOLD {
        told.push(served.connect().await);
    }
    assert_eq!(served.connect().await.rest().await.0, "");
    let mut last_told = told.pop().unwrap();
    last_told.send(LIVEZ).await;
    last_told.ends_with_answer().await.problem(503, "too_many_connections");
    first.send(LIVEZ).await;
    assert_eq!(first.answer().await.status, 200);
    served.finish().await;
}
