//! Processes that end while they hold or wait: `kill -9` frees what they had when their session expires, SIGTERM at once.
//!
//! `failure/termination.rs` has SIGTERM with an order that outlives the drain time.

use std::{collections::BTreeSet, time::Duration};

use devstack::Signal;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::support::{
    eventually,
    lock_system::{Differences, LockSystem},
    rival::Rival,
    stack,
    system::PATIENCE,
    zookeeper,
    zookeeper_admin::knows_session,
};

/// The session of a test's API, a tick of the server until it looks, and time for the orders themselves on a busy machine.
const EXPIRED: Duration = Duration::from_secs(1 + 1 + 5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill9_holder() {
    let system = LockSystem::start(zookeeper::shared(), &[], &[("held", 9)]).await;
    tokio::join!(system.api("victim"), system.api("other"));
    let level = system.hold_level("held").await;
    let lost = async { system.try_order("victim", "lost", &[("held", 1)]).await };
    let kill = async {
        system.wait_for_waiters(1).await;
        let orphans = system.observer.nodes().await;
        assert_eq!(orphans.len(), 1);
        tokio::task::block_in_place(|| system.stack.kill("victim")).unwrap();
        level.rollback().await.unwrap();
        assert!(system.sell("other", "next", &[("held", 1)]).await < EXPIRED);
        assert!(!system.observer.nodes().await.contains(&orphans[0]), "an orphan is left");
    };
    let (answer, ()) = tokio::join!(lost, kill);
    assert_eq!(answer, None);
    // Whether it took effect is unknown until it is sent again.
    system.sell("other", "lost", &[("held", 1)]).await;
    system.finish(2).await;
}

/// Whatever a process has kept of the SKUs it sold before, others get it in the time of one session, not of a thousand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill9_holder_with_1000_cached() {
    let skus: Vec<String> = (0..1000).map(|number| format!("SKU-{number:04}")).collect();
    let stock: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 9)).collect();
    let system = LockSystem::start(zookeeper::shared(), &[], &stock).await;
    tokio::join!(system.api("victim"), system.api("other"));
    let baskets: Vec<Vec<(&str, i64)>> =
        stock.chunks(100).map(|skus| skus.iter().map(|(sku, _)| (*sku, 1)).collect()).collect();
    let references: Vec<String> = (0..baskets.len()).map(|number| format!("before-{number}")).collect();
    let before = references.iter().zip(&baskets);
    join_all(before.map(|(reference, basket)| system.sell("victim", reference, basket))).await;
    // One order more is in flight.
    let level = system.hold_level(&skus[500]).await;
    let lost = async { system.try_order("victim", "lost", &baskets[5]).await };
    let kill = async {
        system.wait_for_waiters(1).await;
        let orphans: BTreeSet<String> = system.observer.nodes().await.into_iter().collect();
        assert!(orphans.len() > 900, "{} nodes", orphans.len());
        tokio::task::block_in_place(|| system.stack.kill("victim")).unwrap();
        level.rollback().await.unwrap();
        let began = Instant::now();
        for (number, basket) in baskets.iter().enumerate() {
            system.sell("other", &format!("after-{number}"), basket).await;
        }
        let waited = began.elapsed();
        eprintln!("kill9: {} nodes were left, all sold again after {waited:?}", orphans.len());
        assert!(waited < EXPIRED, "{waited:?}");
        let nodes = system.observer.nodes().await;
        assert!(nodes.iter().all(|node| !orphans.contains(node)), "orphans are left");
    };
    let (answer, ()) = tokio::join!(lost, kill);
    assert_eq!(answer, None);
    system.sell("other", "lost", &baskets[5]).await;
    system.finish(21).await;
}

/// Its node is in the middle of the queue until its session expires. Whoever stands behind it must not take its end for
/// the end of the holder, nor sleep through the holder's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill9_waiter_mid_queue() {
    let system = LockSystem::start(zookeeper::shared(), &[], &[("early", 9), ("late", 9)]).await;
    system.api("behind").await;
    let rival = Rival::connect(&system.locks).await;
    // The holder goes while the dead waiter is still in the queue, or long after it has vanished from there.
    for sku in ["early", "late"] {
        system.api("victim").await;
        let holder = rival.take(&[sku], PATIENCE).await.unwrap();
        let lost = format!("{sku}-lost");
        let victim = async { system.try_order("victim", &lost, &[(sku, 1)]).await };
        let behind = async {
            queued(&system, sku, 2).await;
            system.sell("behind", sku, &[(sku, 1)]).await;
            Instant::now()
        };
        let kill = async {
            queued(&system, sku, 3).await;
            tokio::task::block_in_place(|| system.stack.kill("victim")).unwrap();
            let killed = Instant::now();
            if sku == "late" {
                queued(&system, sku, 2).await;
                sleep(Duration::from_millis(300)).await;
                assert_eq!(system.count("SELECT count(*) FROM orders").await, 1, "sold past its holder");
                assert!(!holder.lost().is_cancelled());
            }
            let released = Instant::now();
            holder.release().await;
            if sku == "late" { released + Duration::from_secs(1) } else { killed + EXPIRED }
        };
        let (lost, sold, latest) = tokio::join!(victim, behind, kill);
        assert_eq!(lost, None);
        assert!(sold < latest, "{sku}: {:?} too late", sold - latest);
    }
    rival.close().await;
    system.finish(2).await;
}

/// Waits until the SKU's queue is this long.
async fn queued(system: &LockSystem, sku: &str, length: usize) {
    let reached = async || {
        let queues = system.observer.queues().await;
        queues.iter().any(|(queue, nodes)| queue.ends_with(&format!("/{sku}")) && *nodes == length)
    };
    eventually(&format!("{length} nodes at {sku}"), PATIENCE, reached).await;
}

/// It ends its session itself, and those that wait for its SKUs go on the moment it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_graceful() {
    let system = LockSystem::start(zookeeper::shared(), &[], &[("busy", 9), ("idle", 9)]).await;
    // Whatever is left to expire would be noticed.
    let long = Differences { session_ms: Some(30_000), ..Differences::default() };
    system.api_with("leaving", &long).await;
    let rival = Rival::connect(&system.locks).await;
    system.sell("leaving", "idle", &[("idle", 1)]).await;
    let level = system.hold_level("busy").await;
    let order = async { system.try_order("leaving", "busy", &[("busy", 1)]).await };
    let wait = async {
        system.wait_for_waiters(1).await;
        (rival.take(&["busy"], PATIENCE).await.unwrap(), Instant::now())
    };
    let leave = async {
        queued(&system, "busy", 2).await;
        let nodes = system.observer.nodes().await.into_iter().filter(|node| node.contains("/busy/"));
        let first = nodes.min_by_key(|node| node.rsplit('-').next().map(str::to_owned)).unwrap();
        let stat = system.observer.client.check_stat(&first).await.unwrap().unwrap();
        system.stack.signal("leaving", Signal::TERM).unwrap();
        sleep(Duration::from_millis(200)).await;
        level.rollback().await.unwrap();
        assert!(system.wait_exit("leaving", Duration::from_secs(5)).await);
        (stat.ephemeral_owner, Instant::now())
    };
    let (answer, (guard, granted), (session, left)) = tokio::join!(order, wait, leave);
    assert_eq!(answer.unwrap().status, 201, "what was in flight is answered");
    let late = granted.saturating_duration_since(left);
    assert!(late < Duration::from_millis(100), "free {late:?} after the process was gone");
    let idle = Instant::now();
    rival.take(&["idle"], PATIENCE).await.unwrap().release().await;
    assert!(idle.elapsed() < Duration::from_millis(100), "{:?}", idle.elapsed());
    guard.release().await;
    // Closed, not left to expire.
    assert!(!knows_session(&system.locks.servers, session).await);
    let log = std::fs::read_to_string(stack::shared().log_file("zookeeper")).unwrap();
    assert!(!log.contains(&format!("Expiring session 0x{session:x}")), "the session expired");
    rival.close().await;
    system.finish(2).await;
}
