//! A process that hears nothing from PostgreSQL any more, while ZooKeeper still hears from it: its session lives, and so do
//! the locks that it holds.

use std::time::Duration;

use holdfast::{
    app::{App, ReservationEngine},
    store::{Store, StoreOptions},
};
use tokio::time::{Instant, timeout};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    tcp_proxy::{TcpProxy, Traffic},
};

/// After which PostgreSQL is given up.
const STATEMENT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_postgresql_does_not_answer_lets_go_of_its_skus() {
    let setup = Setup { zookeeper: true, ..Setup::default() };
    let reservation = setup.reservation;
    let mut test = TestApp::start_with(setup).await;
    test.stock("a", 10).await;
    let proxy = TcpProxy::start(&test.database.address()).await;
    let options = StoreOptions {
        url: test.database.url_at(&proxy.address()),
        statement_timeout: STATEMENT,
        acquire_timeout: STATEMENT,
        ..test.database.options()
    };
    let store = Store::connect(&options).await.unwrap();
    let engine = ReservationEngine::new(store.clone(), reservation);
    let app = App { store, engine, ..test.another_app().await };
    let cut_off = test.serve(app).await;
    // The first tells it the time, the second opens the connection on which the next one is sent.
    cut_off.place(&[("a", 1)]).await.expect(201);
    cut_off.place(&[("a", 1)]).await.expect(201);

    proxy.allow(Traffic::None);
    let began = Instant::now();
    let unanswered = cut_off.clone();
    let unanswered = tokio::spawn(async move {
        unanswered.post_as("silent", "/v1/orders", &crate::support::api::order(&[("a", 1)])).await
    });
    // It holds the lock and waits for PostgreSQL; whoever else wants the SKU gets it within a bound.
    test.api.place(&[("a", 1)]).await.expect(201);
    let waited = began.elapsed();
    let answer = timeout(PATIENCE, unanswered).await.expect("an answer").unwrap();
    answer.problem(503, "outcome_unknown");
    assert!(waited < Duration::from_secs(20), "{waited:?}");

    proxy.cut();
    proxy.allow(Traffic::All);
    // What it was is found out by the key: it never arrived, and is placed now.
    let again = cut_off.post_as("silent", "/v1/orders", &crate::support::api::order(&[("a", 1)])).await;
    assert!(!again.replayed());
    again.expect(201);
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 4);
    test.finish().await;
}
