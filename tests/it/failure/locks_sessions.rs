//! Claims that are given up, and a session that ends in the middle of one.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{self, Instant, sleep};

use crate::support::{
    eventually, lock_system::LockSystem, rival::Rival, system::PATIENCE, zookeeper,
    zookeeper_admin::end_session,
};

/// Clients hang up from before their order is read until after it is placed. What is left is what the process keeps for
/// its next order: one node for a SKU at most, which it hands over to the first who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancel_storm() {
    const SKUS: usize = 20;
    let skus: Vec<String> = (0..SKUS).map(|number| format!("SKU-{number:02}")).collect();
    let names: Vec<&str> = skus.iter().map(String::as_str).collect();
    let stock: Vec<(&str, i64)> = names.iter().map(|sku| (*sku, 100_000)).collect();
    let system = LockSystem::start(zookeeper::shared(), &[], &stock).await;
    system.api("api").await;
    let rival = Rival::connect(&system.locks).await;
    let storm = (0..1000_u64).map(|number| {
        let (system, names) = (&system, &names);
        async move {
            let lines: Vec<(&str, i64)> = (0..3).map(|_| (names[rand::random_range(0..SKUS)], 1)).collect();
            sleep(Duration::from_millis(number * 4)).await;
            // Most of them short.
            let patience = Duration::from_secs_f64(0.5 * rand::random::<f64>().powi(3));
            let reference = format!("storm-{number}");
            let order = system.try_order("api", &reference, &lines);
            u32::from(matches!(time::timeout(patience, order).await, Ok(Some(_))))
        }
    });
    // Some of them give up while they wait.
    let contend = async {
        for _ in 0..10 {
            let guard = rival.take(&names[..3], PATIENCE).await.unwrap();
            sleep(Duration::from_millis(100)).await;
            guard.release().await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    let (answered, ()) = tokio::join!(join_all(storm), contend);
    let answered: u32 = answered.into_iter().sum();
    assert!((1..1000).contains(&answered), "{answered} of 1000 were answered");
    let settled = async || system.observer.queues().await.values().all(|nodes| *nodes <= 1);
    eventually("one node for a SKU at most", Duration::from_secs(2), settled).await;
    let guard = rival.take(&names, Duration::from_secs(2)).await.unwrap();
    let handed_over = async || system.observer.nodes().await.len() == SKUS;
    eventually("no node but the rival's", Duration::from_secs(2), handed_over).await;
    guard.release().await;
    system.sell("api", "last", &stock.iter().map(|(sku, _)| (*sku, 1)).collect::<Vec<_>>()).await;
    rival.close().await;
    let orders = usize::try_from(system.count("SELECT count(*) FROM orders").await).unwrap();
    assert!(orders > usize::try_from(answered).unwrap());
    system.finish(orders).await;
}

/// The servers end the session of a process that is the first for two SKUs of an order and waits for the third. Others
/// have the two at once; the order begins anew and is placed when all three are free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiry_during_multi() {
    let stock = [("SKU-a", 9), ("SKU-b", 9), ("SKU-c", 9)];
    let system = LockSystem::start(zookeeper::shared(), &[], &stock).await;
    tokio::join!(system.api("expiring"), system.api("other"));
    let rival = Rival::connect(&system.locks).await;
    let third = rival.take(&["SKU-c"], PATIENCE).await.unwrap();
    let observer = &system.observer;
    let basket: Vec<(&str, i64)> = stock.iter().map(|(sku, _)| (*sku, 2)).collect();
    let waiting = async {
        system.sell("expiring", "expiring", &basket).await;
        Instant::now()
    };
    let expire = async {
        observer.wait_for_nodes(4, PATIENCE).await;
        let session = observer.sessions_at("SKU-c").await[1];
        // What it claims first it gives up for others. What it claims then keeps its place in every queue.
        system.sell("other", "before", &[("SKU-a", 1), ("SKU-b", 1)]).await;
        let keeps_its_place = async || {
            let mut sessions = Vec::new();
            for (sku, _) in &stock {
                sessions.push(observer.sessions_at(sku).await);
            }
            sessions[0] == [session] && sessions[1] == [session] && sessions[2][1..] == [session; 2]
        };
        eventually("the second claim", PATIENCE, keeps_its_place).await;
        let behind = async {
            system.sell("other", "behind", &[("SKU-a", 1), ("SKU-b", 1)]).await;
            Instant::now()
        };
        let end = async {
            let waits_behind = async || observer.sessions_at("SKU-b").await.len() == 2;
            eventually("an order behind it", PATIENCE, waits_behind).await;
            assert_eq!(system.count("SELECT count(*) FROM orders").await, 1);
            let ended = Instant::now();
            end_session(&system.locks.servers, session).await;
            ended
        };
        let (sold, ended) = tokio::join!(behind, end);
        assert!(sold > ended && sold - ended < Duration::from_secs(2), "{:?}", sold - ended);
        assert!(!third.lost().is_cancelled());
        third.release().await;
        (Instant::now(), session)
    };
    let (placed, (free, session)) = tokio::join!(waiting, expire);
    assert!(placed.saturating_duration_since(free) < Duration::from_secs(5), "{:?}", placed - free);
    for (sku, _) in &stock {
        assert!(!observer.sessions_at(sku).await.contains(&session), "a node of the ended session is left");
    }
    rival.close().await;
    system.finish(3).await;
}
