//! Health: alive is not ready, and what is missing is named.

use std::sync::Arc;

use holdfast::{
    app::App,
    store::{Store, StoreOptions},
};

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    eventually, in_ms,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::{self, Locks},
};

#[tokio::test]
async fn a_process_with_everything_is_alive_and_ready() {
    let test = TestApp::start_with(Setup { zookeeper: true, ..Setup::default() }).await;
    assert_eq!(test.api.get("/livez").await.expect(200)["status"], "ok");
    let ready = test.api.get("/readyz").await.expect(200);
    assert_eq!((&ready["database"], &ready["lock"]), (&"ok".into(), &"ok".into()));
    test.finish().await;
}

#[tokio::test]
async fn without_zookeeper_a_process_is_alive_not_ready_and_takes_no_orders() {
    let mut test = TestApp::start().await;
    let proxy = TcpProxy::start(zookeeper::shared()).await;
    let manager = Locks::new(zookeeper::shared()).manager_through(proxy.address()).await;
    let mut app = App { locks: Arc::new(manager), ..test.app.clone() };
    app.settings.lock_timeout = std::time::Duration::from_millis(500);
    let api = test.serve(app).await;
    test.stock("a", 1).await;
    api.get("/readyz").await.expect(200);
    proxy.allow(Traffic::None);
    proxy.cut();
    api.get("/livez").await.expect(200);
    let not_ready = api.get("/readyz").await.problem(503, "not_ready");
    let detail = not_ready["detail"].as_str().unwrap();
    // Why stands in the log: whoever asks needs no key.
    assert_eq!(detail, "lock: unavailable");
    let before = test.snapshot().await;
    let refused = api.place(&[("a", 1)]).await;
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.problem(503, "lock_unavailable")["retryable"], true);
    assert_eq!(test.snapshot().await, before);
    proxy.allow(Traffic::All);
    eventually("it is ready again", PATIENCE, async || api.get("/readyz").await.status == 200).await;
    api.place(&[("a", 1)]).await.expect(201);
    test.finish().await;
}

#[tokio::test]
async fn without_the_database_a_process_is_alive_and_says_that_it_is_not_ready() {
    let mut test = TestApp::start().await;
    let (_, target) = test.database.url.rsplit_once('@').unwrap();
    let target = target.split('/').next().unwrap();
    let proxy = TcpProxy::start(target).await;
    let url = test.database.url.replace(target, &proxy.address());
    let acquire_timeout = std::time::Duration::from_millis(500);
    let options = StoreOptions { url, acquire_timeout, ..test.database.options() };
    let store = Store::connect(&options).await.unwrap();
    let api = test.serve(App { store, ..test.app.clone() }).await;
    api.get("/readyz").await.expect(200);
    drop(proxy);
    let not_ready = api.get("/readyz").await.problem(503, "not_ready");
    let detail = not_ready["detail"].as_str().unwrap();
    assert_eq!(detail, "database: unavailable");
    api.get("/livez").await.expect(200);
    let started = in_ms(0);
    let refused = api.get("/v1/orders").await.problem(503, "database_unavailable");
    assert_eq!(refused["retryable"], true);
    assert!(started.elapsed() < PATIENCE);
    test.finish().await;
}
