//! A reader of the feed that was away for longer than events are kept is told so, and from where it can go on.

use holdfast::worker::WorkerKind;
use reqwest::Method;

use crate::support::{
    api::send,
    app::{Setup, TestApp},
    past_days::{AGE, age_events, make_past_day},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_no_longer_kept_is_gone_and_nothing_is_passed_over_silently() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Relay], ..Setup::default() }).await;
    make_past_day(&test).await;
    test.stock("a", 10).await;
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    age_events(&test).await;
    let order_id = test.placed(&[("a", 1)]).await;
    test.drain().await;
    let all = test.api.get("/v1/events").await.expect(200);
    assert_eq!((&all["data"][0]["place"], &all["next"]), (&1.into(), &3.into()));
    let stream = |last: &str| {
        let request = test.api.request(Method::GET, "/v1/events").header("Accept", "text/event-stream");
        request.header("Last-Event-ID", last.to_owned())
    };
    assert_eq!(stream("0").send().await.unwrap().status(), 200);

    assert_eq!(test.app.drop_old_events(AGE - 1).await.unwrap(), 1);
    for gone in ["/v1/events?starting_after=0", "/v1/events?starting_after=1&type=order.created.v1"] {
        let problem = test.api.get(gone).await.problem(410, "events_no_longer_kept");
        assert_eq!((&problem["oldest_place"], &problem["retryable"]), (&3.into(), &false.into()));
    }
    send(stream("1")).await.problem(410, "events_no_longer_kept");
    // From there on, and from the first that is kept, which is the same.
    assert_eq!(stream("2").send().await.unwrap().status(), 200);
    for kept in ["/v1/events?starting_after=2", "/v1/events"] {
        let page = test.api.get(kept).await.expect(200);
        assert_eq!((&page["data"][0]["place"], &page["next"]), (&3.into(), &3.into()));
        assert_eq!(page["data"][0]["subject"], format!("order/{order_id}"));
    }
    test.finish().await;
}

/// Nobody is in the way of a reader that is up to date, also where everything was dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_of_which_nothing_is_kept_goes_on() {
    let test = TestApp::start_with(Setup { workers: &[WorkerKind::Relay], ..Setup::default() }).await;
    make_past_day(&test).await;
    test.stock("a", 10).await;
    test.drain().await;
    age_events(&test).await;
    assert_eq!(test.app.drop_old_events(AGE - 1).await.unwrap(), 1);
    let empty = test.api.get("/v1/events").await.expect(200);
    assert_eq!((&empty["data"], &empty["next"]), (&serde_json::json!([]), &1.into()));
    test.api.get("/v1/events?starting_after=1").await.expect(200);
    test.placed(&[("a", 1)]).await;
    test.drain().await;
    let page = test.api.get("/v1/events?starting_after=1").await.expect(200);
    assert_eq!((&page["data"][0]["place"], &page["next"]), (&2.into(), &2.into()));
    test.finish().await;
}
