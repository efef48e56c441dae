//! What holds for locks that are kept after their use, beyond the contract of every backend.

use std::time::Duration;

use futures_util::future::join_all;
use holdfast::lock::{CacheOptions, LockError, LockGuard, LockManager as _, LockOwner, ZooKeeperLock};
use tokio::time::{self, Instant};

use crate::support::{
    eventually, in_ms,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::{self, Locks},
};

const SOON: Duration = Duration::from_secs(5);

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

fn locks(options: CacheOptions) -> Locks {
    Locks { cache: Some(options), ..Locks::cached(zookeeper::shared()) }
}

/// Kept for as long as nobody else wants it.
fn for_long() -> CacheOptions {
    CacheOptions { idle: Duration::from_mins(5), ..CacheOptions::default() }
}

async fn acquire(manager: &ZooKeeperLock, names: &[&str]) -> LockGuard {
    manager.acquire(&keys(names), LockOwner::new(), in_ms(20_000)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lock_is_taken_again_without_a_request() {
    let locks = locks(for_long());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let first = acquire(&manager, &["a", "b"]).await;
    let (token, nodes) = (first.token("a"), observer.nodes().await);
    drop(first);
    // Nothing that is sent would arrive. The client does not know it yet.
    proxy.allow(Traffic::None);
    for names in [&["a"][..], &["b"], &["a", "b"]] {
        let guard = manager.acquire(&keys(names), LockOwner::new(), in_ms(20)).await.unwrap();
        assert_eq!(guard.token(names[0]), token);
    }
    proxy.allow(Traffic::All);
    assert_eq!(observer.nodes().await, nodes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_waiters_are_one_node() {
    let locks = locks(for_long());
    let (holder, manager) = (locks.manager().await, locks.manager().await);
    let observer = locks.observer().await;
    let guard = acquire(&holder, &["a"]).await;
    let shared = LockOwner::new();
    let names = keys(&["a"]);
    let waiting = join_all((0..60).map(|number| {
        let owner = if number % 3 == 0 { LockOwner::new() } else { shared };
        let (manager, names) = (&manager, &names);
        async move { manager.acquire(names, owner, in_ms(20_000)).await.unwrap().release().await }
    }));
    let looking = async {
        observer.wait_for_nodes(2, SOON).await;
        time::sleep(Duration::from_millis(300)).await;
        assert_eq!(observer.nodes().await.len(), 2);
        guard.release().await;
    };
    tokio::join!(waiting, looking);
    assert_eq!(observer.nodes().await.len(), 1);
}

/// A flood of one process, by one owner or by many, holds another one up for a bounded time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_hands_over() {
    let locks = locks(for_long());
    let (flooding, other) = (locks.manager().await, locks.manager().await);
    let names = keys(&["a", "b"]);
    for owners in [1, 12] {
        let owners: Vec<LockOwner> = (0..owners).map(|_| LockOwner::new()).collect();
        let done = tokio_util::sync::CancellationToken::new();
        let flood = join_all((0..12).map(|number| {
            let (flooding, names, done, owner) = (&flooding, &names, &done, owners[number % owners.len()]);
            async move {
                let mut count = 0;
                while !done.is_cancelled() {
                    let guard = flooding.acquire(names, owner, in_ms(20_000)).await.unwrap();
                    time::sleep(Duration::from_millis(1)).await;
                    drop(guard);
                    count += 1;
                }
                count
            }
        }));
        let asking = async {
            for _ in 0..10 {
                let asked = Instant::now();
                acquire(&other, &["b"]).await.release().await;
                // 25 ms and what a busy machine adds to them. A flood that does not yield lasts for ever.
                assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            }
            done.cancel();
        };
        let (counts, ()) = tokio::join!(flood, asking);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}

/// One owner's flood in the same process does not starve another owner either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_lets_other_owners_in() {
    let manager = locks(for_long()).manager().await;
    let (names, owner) = (keys(&["a"]), LockOwner::new());
    let done = tokio_util::sync::CancellationToken::new();
    let flood = join_all((0..8).map(|_| async {
        while !done.is_cancelled() {
            let guard = manager.acquire(&names, owner, in_ms(20_000)).await.unwrap();
            time::sleep(Duration::from_millis(2)).await;
            drop(guard);
        }
    }));
    let asking = async {
        time::sleep(Duration::from_millis(20)).await;
        for _ in 0..10 {
            let asked = Instant::now();
            acquire(&manager, &["a"]).await.release().await;
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        }
        done.cancel();
    };
    tokio::join!(flood, asking);
}

/// What waits for a key that another process does not give up keeps nothing else from others, here or there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_key_holds_up_only_who_wants_it() {
    let locks = locks(for_long());
    let (stuck, manager, third) = (locks.manager().await, locks.manager().await, locks.manager().await);
    let guard = acquire(&stuck, &["stuck"]).await;
    let owner = LockOwner::new();
    let names = keys(&["a", "stuck"]);
    let waiting = manager.acquire(&names, owner, in_ms(20_000));
    let others = async {
        for _ in 0..10 {
            let own = manager.acquire(&keys(&["a"]), owner, in_ms(2000)).await.unwrap();
            time::sleep(Duration::from_millis(1)).await;
            drop(own);
        }
        assert!(!guard.lost().is_cancelled());
        guard.release().await;
    };
    let (second, ()) = tokio::join!(waiting, others);
    assert!(second.unwrap().token("stuck").is_some());
    acquire(&third, &["stuck", "a"]).await.release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_locks_are_given_up() {
    let locks = locks(CacheOptions { idle: Duration::from_millis(300), ..CacheOptions::default() });
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let used = acquire(&manager, &["used"]).await;
    acquire(&manager, &["a", "b"]).await.release().await;
    assert_eq!(observer.nodes().await.len(), 3);
    observer.wait_for_nodes(1, SOON).await;
    assert!(observer.nodes().await[0].contains("/used/"));
    time::sleep(Duration::from_millis(600)).await;
    assert!(!used.lost().is_cancelled());
    assert_eq!(observer.nodes().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_locks_are_kept_than_allowed() {
    let locks = locks(CacheOptions { keys_max: 8, ..for_long() });
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let used = acquire(&manager, &["used-1", "used-2"]).await;
    for number in 0..40 {
        acquire(&manager, &[&format!("key-{number}")]).await.release().await;
    }
    observer.wait_for_nodes(8, SOON).await;
    let nodes = observer.nodes().await;
    // Those in use, and the latest.
    for kept in ["/used-1/", "/used-2/", "/key-39/", "/key-34/"] {
        assert!(nodes.iter().any(|node| node.contains(kept)), "{kept} is not in {nodes:?}");
    }
    assert!(!used.lost().is_cancelled());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancellations_leaves_one_node_for_each_key_at_most() {
    let locks = locks(CacheOptions { idle: Duration::from_millis(300), ..CacheOptions::default() });
    let (first, second, observer) = (locks.manager().await, locks.manager().await, locks.observer().await);
    let claims = (0..400_u64).map(|number| {
        let manager = [&first, &second][usize::try_from(number % 2).unwrap()];
        async move {
            let names = keys(&[["a", "b", "c"][usize::try_from(number % 3).unwrap()], "d"]);
            let patience = Duration::from_micros(rand::random_range(0..30_000));
            time::sleep(Duration::from_micros(number * 200)).await;
            drop(time::timeout(patience, manager.acquire(&names, LockOwner::new(), in_ms(5000))).await);
        }
    });
    join_all(claims).await;
    eventually("one node for each key", SOON, || async {
        observer.queues().await.values().all(|count| *count == 1)
    })
    .await;
    observer.wait_for_nodes(0, SOON).await;
    acquire(&first, &["a", "b", "c", "d"]).await.release().await;
}

/// After PostgreSQL refused a token, the same token would be refused again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_not_used_again() {
    let manager = locks(for_long()).manager().await;
    let (first, other) = (acquire(&manager, &["a", "b"]).await, LockOwner::new());
    let token = first.token("a");
    first.fenced();
    let second = manager.acquire(&keys(&["a", "b"]), other, in_ms(5000)).await.unwrap();
    assert!(second.token("a") > token && second.token("b") > token);
    // Another guard of the owner is not disturbed, but nobody joins it any more.
    let third = manager.acquire(&keys(&["a"]), other, in_ms(5000)).await.unwrap();
    assert_eq!(third.token("a"), second.token("a"));
    let token = second.token("a");
    second.fenced();
    assert!(!third.lost().is_cancelled());
    let names = keys(&["a"]);
    let mut next = Box::pin(manager.acquire(&names, other, in_ms(5000)));
    assert!(time::timeout(Duration::from_millis(200), &mut next).await.is_err());
    third.release().await;
    assert!(next.await.unwrap().token("a") > token);
}

/// Suspect: nothing is granted, although it is there. Once the session is known to live, everything goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_session_grants_nothing_that_is_kept() {
    let locks = locks(for_long());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = acquire(&manager, &["used"]).await;
    let kept = acquire(&manager, &["kept", "deleted"]).await;
    let token = kept.token("kept");
    drop(kept);
    proxy.allow(Traffic::None);
    let deleted = observer.nodes().await.into_iter().find(|node| node.contains("/deleted/")).unwrap();
    observer.client.delete(&deleted, None).await.unwrap();
    proxy.cut();
    eventually("nothing is granted", SOON, || async {
        let tried = manager.acquire(&keys(&["kept"]), LockOwner::new(), in_ms(30)).await;
        matches!(tried, Err(LockError::Unavailable(_)))
    })
    .await;
    assert!(!guard.lost().is_cancelled());
    proxy.allow(Traffic::All);
    let again = acquire(&manager, &["kept"]).await;
    assert_eq!(again.token("kept"), token);
    assert!(!guard.lost().is_cancelled());
    // What was deleted meanwhile is known not to be held.
    assert!(acquire(&manager, &["deleted"]).await.token("deleted") > token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_deleted_by_hand_fires_lost_and_its_release_is_harmless() {
    let locks = locks(for_long());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    // In use by one process, and wanted by another.
    for wanted in [false, true] {
        let rival = locks.manager().await;
        let guard = acquire(&manager, &["a", "b"]).await;
        let node = || async { observer.nodes().await.into_iter().filter(|node| node.contains("/b/")).min() };
        let own = node().await.unwrap();
        let names = keys(&["b"]);
        let mut rival = wanted.then(|| Box::pin(rival.acquire(&names, LockOwner::new(), in_ms(20_000))));
        if let Some(rival) = &mut rival {
            assert!(time::timeout(Duration::from_millis(300), rival).await.is_err());
        }
        observer.client.delete(&own, None).await.unwrap();
        time::timeout(SOON, guard.lost().cancelled()).await.unwrap();
        let token = guard.token("b");
        if let Some(rival) = rival {
            let rival = rival.await.unwrap();
            assert!(rival.token("b") > token);
            drop(guard);
            assert!(!rival.lost().is_cancelled());
        } else {
            let newer = acquire(&manager, &["b"]).await;
            assert!(newer.token("b") > token);
            drop(guard);
            assert!(!newer.lost().is_cancelled());
            assert!(manager.try_acquire(&names, LockOwner::new(), in_ms(5000)).await.unwrap().is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_takes_everything_with_it() {
    let locks = locks(for_long());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = acquire(&manager, &["used", "kept"]).await;
    let token = guard.token("used");
    assert!(!guard.lost().is_cancelled());
    proxy.allow(Traffic::None);
    observer.wait_for_nodes(0, Duration::from_secs(8)).await;
    let names = keys(&["kept"]);
    let waiting = manager.acquire(&names, LockOwner::new(), in_ms(20_000));
    let back = async {
        time::sleep(Duration::from_millis(100)).await;
        proxy.cut();
        proxy.allow(Traffic::All);
    };
    let (next, ()) = tokio::join!(waiting, back);
    assert!(guard.lost().is_cancelled());
    let next = next.unwrap();
    assert!(next.token("kept") > token);
    drop(guard);
    assert!(!next.lost().is_cancelled());
}
