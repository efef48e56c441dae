//! Events over HTTP: pages and streams, of one order and of all.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    PATIENCE,
    api::{Api, send},
    app::{Setup, TestApp},
    eventually,
};
use holdfast::{domain::access::Scope, worker::WorkerKind};

/// A stream, read event by event.
struct Stream {
    response: Response,
    buffer: String,
}

/// An event as it came over the stream.
#[derive(Debug, PartialEq)]
struct Sent {
    id: i64,
    event: String,
    data: Value,
}

impl Stream {
    async fn open(api: &Api, path: &str, last_event_id: Option<i64>) -> Self {
        let mut request = api.request(Method::GET, path).header("Accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, buffer: String::new() };
        assert!(stream.block().await.unwrap().contains("retry: 1000"));
        stream
    }

    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Sent> {
        let block = self.block().await?;
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        Some(Sent {
            id: field("id:").parse().unwrap(),
            event: field("event:").to_owned(),
            data: serde_json::from_str(field("data:")).unwrap(),
        })
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(block);
            }
            let chunk =
                timeout(PATIENCE, self.response.chunk()).await.expect("a stream that goes on").unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_an_order_streams_on_and_resumes_after_the_last_event() {
    // No relay: what is committed is seen, whether the broker has it or not.
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let (order_id, other) = (test.placed(&[("a", 1)]).await, test.placed(&[("a", 1)]).await);
    let path = format!("/v1/orders/{order_id}/events");
    let mut stream = Stream::open(&test.api, &path, None).await;
    let created = stream.next().await.unwrap();
    assert_eq!((created.id, created.event.as_str()), (1, "order.created.v1"));
    assert_eq!(created.data["subject"], format!("order/{order_id}"));
    test.api.cancel(&other).await.expect(200);
    test.api.cancel(&order_id).await.expect(200);
    let canceled = stream.next().await.unwrap();
    assert_eq!((canceled.id, canceled.event.as_str()), (2, "order.canceled.v1"));
    assert_eq!(Stream::open(&test.api, &path, Some(1)).await.next().await, Some(canceled));

    let page = test.api.get(&format!("{path}?limit=1")).await.expect(200);
    assert_eq!((&page["data"][0]["place"], &page["has_more"]), (&1.into(), &true.into()));
    let rest = test.api.get(&format!("{path}?starting_after=1")).await.expect(200);
    assert_eq!((&rest["data"][0]["type"], &rest["has_more"]), (&"order.canceled.v1".into(), &false.into()));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_of_all_events_gives_each_once_in_one_order_with_two_relays() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Relay], ..Setup::default() }).await;
    test.stock("a", 1000).await;
    let mut live = Stream::open(&test.api, "/v1/events?type=order.created.v1", None).await;
    let mut placed = Vec::new();
    for _ in 0..40 {
        placed.push(test.placed(&[("a", 1)]).await);
    }
    let mut seen = Vec::new();
    while seen.len() < placed.len() {
        seen.push(live.next().await.unwrap());
    }
    assert!(seen.is_sorted_by(|a, b| a.id < b.id), "{seen:?}");
    let mut subjects: Vec<_> = seen.iter().map(|sent| sent.data["subject"].as_str().unwrap()).collect();
    let mut expected: Vec<_> = placed.iter().map(|id| format!("order/{id}")).collect();
    subjects.sort_unstable();
    expected.sort_unstable();
    assert_eq!(subjects, expected);
    // From the middle on: the same events, no other.
    let mut again = Stream::open(&test.api, "/v1/events?type=order.created.v1", Some(seen[19].id)).await;
    for sent in &seen[20..] {
        assert_eq!(again.next().await.as_ref(), Some(sent));
    }
    // Places have no gaps: from 1 on, pages of everything.
    let (mut after, mut places) = (0, Vec::new());
    loop {
        let page = test.api.get(&format!("/v1/events?limit=7&starting_after={after}")).await.expect(200);
        let page: Vec<i64> =
            page["data"].as_array().unwrap().iter().map(|event| event["place"].as_i64().unwrap()).collect();
        let Some(last) = page.last() else { break };
        after = *last;
        places.extend(page);
    }
    assert_eq!(places, (1..=i64::try_from(places.len()).unwrap()).collect::<Vec<_>>());
    test.finish().await;
}

/// A request looks through so many events at most, and says from where to go on: so does a stream, which a client that was
/// cut off goes on with there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_is_rare_is_found_by_requests_that_end_and_streams_that_resume() {
    let test = TestApp::start().await;
    let feed = "INSERT INTO outbox_sent (id, event_id, shard, aggregate_id, sequence, type, subject, data, created_at,
                                         sent_at, position)
                SELECT n, gen_random_uuid(), 0, gen_random_uuid(), 1,
                       CASE WHEN n IN (1, 120000) THEN 'order.expired.v1' ELSE 'order.created.v1' END,
                       'order/x', '{}', now(), now(), n
                FROM generate_series(1, 120000) n;
                UPDATE event_feed SET position = 120000";
    sqlx::raw_sql(feed).execute(&mut *test.conn().await).await.unwrap();
    let path = "/v1/events?type=order.expired.v1";
    let mut pages = Vec::new();
    let mut next = 0;
    loop {
        let page = test.api.get(&format!("{path}&starting_after={next}")).await.expect(200);
        let places: Vec<_> =
            page["data"].as_array().unwrap().iter().map(|event| event["place"].clone()).collect();
        next = page["next"].as_i64().unwrap();
        pages.push((places, next));
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(pages, [(vec![json!(1)], 50_000), (vec![], 100_000), (vec![json!(120_000)], 120_000)]);
    let mut stream = Stream::open(&test.api, path, Some(1)).await;
    for place in [50_001, 100_001] {
        assert_eq!(stream.block().await.unwrap(), format!("id: {place}"));
    }
    let rare = stream.next().await.unwrap();
    assert_eq!((rare.id, rare.event.as_str()), (120_000, "order.expired.v1"));
    assert_eq!(Stream::open(&test.api, path, Some(100_001)).await.next().await, Some(rare));
    // Of all types a page is full.
    let page = test.api.get("/v1/events?limit=2&starting_after=7").await.expect(200);
    assert_eq!((&page["next"], &page["has_more"]), (&json!(9), &json!(true)));
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_bounded_and_refused_in_words() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/events");
    let stream = |last: &str| {
        let request = test.api.request(Method::GET, &path).header("Accept", "text/event-stream");
        request.header("Last-Event-ID", last.to_owned())
    };
    for wrong in ["-1", "x", "1.5", ""] {
        send(stream(wrong)).await.problem(422, "validation_failed");
    }
    test.api.get("/v1/events?starting_after=-1").await.problem(422, "validation_failed");
    test.api.get("/v1/events?type=order.gone.v1").await.problem(422, "validation_failed");
    test.api.get("/v1/orders/ord_00000000000000000000000000000000/events").await.problem(404, "not_found");
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(Stream::open(&test.api, &path, None).await);
    }
    send(stream("0")).await.problem(503, "too_many_streams");
    drop(open);
    // What a client left is free again, once the server has noticed.
    let freed = async || stream("0").send().await.unwrap().status() == 200;
    eventually("room for a stream", PATIENCE, freed).await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_ends_its_streams() {
    let test = TestApp::start().await;
    let mut stream = Stream::open(&test.api, "/v1/events", None).await;
    let (ended, ()) = tokio::join!(stream.next(), test.finish());
    assert_eq!(ended, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_ends_ends_its_streams_and_no_other() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/events");
    let mut others = Stream::open(&test.api, &path, Some(1)).await;
    let revoked = test.new_key("revoked", &[Scope::OrdersRead]).await;
    let expired = test.new_key("expired", &[Scope::OrdersRead]).await;
    let mut ending = Vec::new();
    for key in [&revoked, &expired] {
        let api = test.api.with_secret(&key.secret);
        ending.push(Stream::open(&api, &path, Some(1)).await);
        ending.push(Stream::open(&api, "/v1/events", None).await);
    }
    let keys = "/v1/api-keys";
    test.api.post(&format!("{keys}/{}/revoke", revoked.key.id), &json!({})).await.expect(200);
    let soon = json!({ "old_key_expires_in_seconds": 1 });
    test.api.post(&format!("{keys}/{}/rotate", expired.key.id), &soon).await.expect(201);
    for mut stream in ending {
        assert_eq!(stream.next().await, None);
    }
    // The look that ended them has passed this one by.
    test.api.cancel(&order_id).await.expect(200);
    assert_eq!(others.next().await.unwrap().id, 2);
    test.finish().await;
}
