//! What a process tells of its connections to the broker while that blocks them, and dies.

use tokio::task::block_in_place;

use crate::support::{
    broker::BROKER,
    eventually,
    system::{PATIENCE, Servers, System},
};

/// A gauge of the process that serves as `api`; no number where it is not there yet.
async fn gauge(system: &System, name: &str, connection: &str) -> f64 {
    let answer = system.http.get(format!("{}/metrics", system.url("api"))).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let start = format!("holdfast_bus_{name}{{connection=\"{connection}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(f64::NAN, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_tells_that_the_broker_blocks_it_and_that_it_is_gone() {
    let system = System::start(Servers::RabbitMq, &[]).await;
    let bind = system.url("api").replace("http://", "");
    system.spawn("api", &["all"], &[("HOLDFAST__HTTP__BIND", &bind)]);
    system.ready("api").await;
    let are_up = async || {
        gauge(&system, "connected", "publish").await > 0.5
            && gauge(&system, "connected", "consume").await > 0.5
    };
    eventually("both connections are up", PATIENCE, are_up).await;
    assert!(gauge(&system, "blocked_seconds", "publish").await < f64::EPSILON);

    let watermark = |value: &str| {
        let set = ["set_vm_memory_high_watermark", "absolute", value];
        block_in_place(|| system.stack.rabbitmqctl(BROKER, &set)).unwrap();
    };
    watermark("1");
    // A broker blocks who publishes.
    system.import_stock("sku,on_hand\nbook,10\n").await;
    let is_blocked = async || gauge(&system, "blocked_seconds", "publish").await > 1.0;
    eventually("publishing is blocked", PATIENCE, is_blocked).await;
    assert!(gauge(&system, "blocked_seconds", "consume").await < f64::EPSILON);
    watermark("512MB");
    let is_over = async || gauge(&system, "blocked_seconds", "publish").await < f64::EPSILON;
    eventually("publishing is blocked no more", PATIENCE, is_over).await;

    block_in_place(|| system.stack.kill(BROKER)).unwrap();
    let are_gone = async || {
        gauge(&system, "connected", "publish").await < 0.5
            && gauge(&system, "connected", "consume").await < 0.5
    };
    eventually("both connections are gone", PATIENCE, are_gone).await;
}
