//! `kill -9` of everything, one after the other, in the middle of real orders: each order settles as if nothing had been.

use tokio::task::block_in_place;

use crate::support::system::{Servers, System, WORKERS};

/// Long enough for an order to be paid through a crash, and short enough that the unpaid ones expire in the test.
const REPLAY: [&str; 4] = ["--ttl", "10", "--concurrency", "4"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_settles_whatever_is_killed() {
    settle_through_kills(Servers::ZooKeeperAndRabbitMq, &["zookeeper", "postgres", "rabbitmq"]).await;
}

/// The locks are never the only guard: the same without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_settles_without_locks_whatever_is_killed() {
    settle_through_kills(Servers::RabbitMq, &["postgres", "rabbitmq"]).await;
}

async fn settle_through_kills(servers: Servers, stores: &[&str]) {
    let system = System::start(servers, &[]).await;
    system.start_roles().await;
    system.begin_replay(120, &REPLAY).await;
    let victims: Vec<&str> = WORKERS.iter().chain(&["api"]).chain(stores).copied().collect();
    for (victim, least) in victims.iter().zip((1..).map(|kill| kill * 12)) {
        system.wait_for_orders(least).await;
        block_in_place(|| system.stack.kill(victim).and_then(|()| system.stack.restart(victim))).unwrap();
    }
    // The last of them fell while there was something left to do.
    assert!(system.stack.pid("replay").is_some(), "{}", system.log("replay"));
    system.finish_replay().await;
    assert_eq!(system.count("SELECT count(*) FROM orders").await, placed(&system));
    system.assert_clean().await;
    system.assert_charged_once().await;
}

/// How many orders the client was told were placed.
fn placed(system: &System) -> i64 {
    let log = system.log("replay");
    let line = log.lines().find(|line| line.trim_start().starts_with("placed")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
