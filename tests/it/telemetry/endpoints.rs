//! What a process of workers shows of itself: that it runs, what it needs, what it counts.

use serde_json::Value;

use crate::support::{
    eventually,
    system::{PATIENCE, Servers, System, free_port},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_names_what_it_lacks_and_is_alive_without_it() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    let port = free_port().to_string();
    let bind = format!("127.0.0.1:{port}");
    system.spawn("worker-relay", &["worker", "relay"], &[("HOLDFAST__WORKER__BIND", &bind)]);
    let get = async |path: &str| -> Option<(u16, String)> {
        let answer = system.http.get(format!("http://{bind}{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let status = async |path: &str| get(path).await.map(|(status, _)| status);
    eventually("the relay is ready", PATIENCE, async || status("/readyz").await == Some(200)).await;
    let (_, body) = get("/readyz").await.unwrap();
    let ready: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(ready, serde_json::json!({ "status": "ok", "database": "ok", "bus": "ok" }));
    assert_eq!(status("/v1/orders").await, Some(404));

    system.stack.kill("rabbitmq").unwrap();
    eventually("it lacks its bus", PATIENCE, async || status("/readyz").await == Some(503)).await;
    let (_, body) = get("/readyz").await.unwrap();
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&problem["code"], &problem["detail"]), (&"not_ready".into(), &"bus: unavailable".into()));
    assert_eq!(status("/livez").await, Some(200));
    let (_, metrics) = get("/metrics").await.unwrap();
    assert!(metrics.contains("holdfast_bus_blocked"), "{metrics}");
    system.stack.restart("rabbitmq").unwrap();
    eventually("it is ready again", PATIENCE, async || status("/readyz").await == Some(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_bind_listens_nowhere_and_one_that_cannot_listen_says_so() {
    let system = System::start(Servers::Neither, &[]).await;
    system.worker("worker-expiry", &["expiry"]);
    system.wait_for_log("worker-expiry", "worker started").await;
    assert!(!system.log("worker-expiry").contains("listening"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    system.spawn("worker-import", &["worker", "import"], &[("HOLDFAST__WORKER__BIND", &bind)]);
    assert!(!system.wait_exit("worker-import", PATIENCE).await);
    let log = system.log("worker-import");
    assert!(log.contains(&format!("cannot listen at worker.bind = {bind}")), "{log}");
}
