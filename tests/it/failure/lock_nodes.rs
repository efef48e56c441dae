//! Lock nodes that must not stay, must not be made twice, or vanish under their owner.

use std::time::Duration;

use futures_util::future::join_all;
use holdfast::lock::{CacheOptions, LockError, LockManager as _, LockOwner, ZooKeeperLock, ZooKeeperOptions};
use tokio::time;
use zookeeper_client::Client;

use crate::support::{
    eventually, in_ms,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::{self, Locks},
};

const SOON: Duration = Duration::from_secs(2);

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_out_leaves_no_node() {
    let locks = Locks::new(zookeeper::shared());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let guard = manager.acquire(&keys(&["b"]), LockOwner::new(), in_ms(5000)).await.unwrap();
    assert!(manager.acquire(&keys(&["a", "b", "c"]), LockOwner::new(), in_ms(50)).await.is_err());
    observer.wait_for_nodes(1, SOON).await;
    guard.release().await;
    assert_eq!(observer.nodes().await.len(), 0);
    // A deadline in the past asks nothing.
    assert!(matches!(
        manager.acquire(&keys(&["a"]), LockOwner::new(), in_ms(0)).await,
        Err(LockError::Timeout { .. })
    ));
}

/// Dropped from before the first request is sent until long after the lock is granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_cancellations_leaves_no_node() {
    let locks = Locks::new(zookeeper::shared());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let claims = (0..400_u64).map(|number| {
        let manager = &manager;
        async move {
            let names = keys(&[["a", "b", "c"][usize::try_from(number % 3).unwrap()], "d"]);
            let patience = Duration::from_micros(rand::random_range(0..30_000));
            time::sleep(Duration::from_micros(number * 200)).await;
            drop(time::timeout(patience, manager.acquire(&names, LockOwner::new(), in_ms(5000))).await);
        }
    });
    join_all(claims).await;
    observer.wait_for_nodes(0, SOON).await;
    manager
        .acquire(&keys(&["a", "b", "c", "d"]), LockOwner::new(), in_ms(1000))
        .await
        .unwrap()
        .release()
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_dropped_before_the_answer_to_their_creation_leave_no_node() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    manager.acquire(&keys(&["a", "b"]), LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
    proxy.allow(Traffic::RequestsOnly);
    let names = keys(&["a", "b"]);
    let claims = (0..100).map(|_| {
        time::timeout(Duration::from_millis(100), manager.acquire(&names, LockOwner::new(), in_ms(5000)))
    });
    assert!(join_all(claims).await.iter().all(Result::is_err));
    observer.wait_for_nodes(200, SOON).await;
    proxy.allow(Traffic::All);
    observer.wait_for_nodes(0, SOON).await;
    manager.acquire(&names, LockOwner::new(), in_ms(1000)).await.unwrap().release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_create_reply() {
    a_lost_answer_to_the_creation_makes_one_node_for_each_key(Locks::new(zookeeper::shared()), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_create_reply_cached() {
    a_lost_answer_to_the_creation_makes_one_node_for_each_key(Locks::cached(zookeeper::shared()), 1).await;
}

/// The nodes exist, their owner never heard of it.
async fn a_lost_answer_to_the_creation_makes_one_node_for_each_key(locks: Locks, kept: usize) {
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    manager.acquire(&keys(&["other"]), LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
    let names = keys(&["a", "b"]);
    // The queues are there, so that one request creates the nodes.
    let plain = Locks { cache: None, ..locks.clone() }.manager().await;
    plain.acquire(&names, LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
    proxy.allow(Traffic::RequestsOnly);
    let cut = async {
        observer.wait_for_nodes(2 + kept, SOON).await;
        let before = observer.nodes().await;
        proxy.cut();
        proxy.allow(Traffic::All);
        before
    };
    let (guard, before) = tokio::join!(manager.acquire(&names, LockOwner::new(), in_ms(8000)), cut);
    let guard = guard.unwrap();
    assert_eq!(observer.nodes().await, before);
    assert!(!guard.lost().is_cancelled());
    guard.release().await;
    manager.close().await;
    observer.wait_for_nodes(0, SOON).await;
}

/// The creation never reached the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_creation_is_sent_again() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let names = keys(&["a", "b"]);
    manager.acquire(&names, LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
    proxy.allow(Traffic::None);
    let cut = async {
        time::sleep(Duration::from_millis(200)).await;
        assert_eq!(observer.nodes().await.len(), 0);
        proxy.cut();
        proxy.allow(Traffic::All);
    };
    let (guard, ()) = tokio::join!(manager.acquire(&names, LockOwner::new(), in_ms(8000)), cut);
    assert_eq!(observer.nodes().await.len(), 2);
    guard.unwrap().release().await;
    assert_eq!(observer.nodes().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_while_disconnected_is_done_after_the_reconnection() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = manager.acquire(&keys(&["a"]), LockOwner::new(), in_ms(5000)).await.unwrap();
    proxy.allow(Traffic::None);
    let released = time::Instant::now();
    guard.release().await;
    assert!(released.elapsed() < Duration::from_millis(1500), "a release must be bounded");
    assert_eq!(observer.nodes().await.len(), 1);
    proxy.cut();
    proxy.allow(Traffic::All);
    observer.wait_for_nodes(0, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_deleted_by_hand_fires_lost() {
    let locks = Locks::new(zookeeper::shared());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    for pause in [0, 200] {
        let guard = manager.acquire(&keys(&["a", "b"]), LockOwner::new(), in_ms(5000)).await.unwrap();
        time::sleep(Duration::from_millis(pause)).await;
        assert!(!guard.lost().is_cancelled());
        observer.client.delete(&observer.nodes().await[1], None).await.unwrap();
        time::timeout(SOON, guard.lost().cancelled()).await.unwrap();
        guard.release().await;
        assert_eq!(observer.nodes().await.len(), 0);
    }
}

/// It goes to the tail of every queue, and gets its locks in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_whose_node_was_deleted_by_hand_enters_again() {
    let locks = Locks::new(zookeeper::shared());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let guard = manager.acquire(&keys(&["b"]), LockOwner::new(), in_ms(5000)).await.unwrap();
    let names = keys(&["a", "b"]);
    let meddle = async {
        observer.wait_for_nodes(3, SOON).await;
        let waiting = observer.nodes().await.into_iter().filter(|node| node.contains("/b/")).max();
        observer.client.delete(&waiting.unwrap(), None).await.unwrap();
        guard.release().await;
    };
    let (second, ()) = tokio::join!(manager.acquire(&names, LockOwner::new(), in_ms(5000)), meddle);
    let second = second.unwrap();
    assert_eq!(observer.queues().await.values().copied().collect::<Vec<_>>(), [1, 1]);
    second.release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn container_gc_race() {
    parents_may_be_collected_at_any_time(Locks::new(zookeeper::shared())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn container_gc_race_cached() {
    let cache = CacheOptions { idle: Duration::from_millis(20), ..CacheOptions::default() };
    parents_may_be_collected_at_any_time(Locks { cache: Some(cache), ..Locks::new(zookeeper::shared()) })
        .await;
}

/// The server deletes empty parents twice a second while locks come and go, and starts their numbers again.
async fn parents_may_be_collected_at_any_time(locks: Locks) {
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let names = keys(&["a", "b"]);
    let parent = || async {
        let node = observer.nodes().await.remove(0);
        node.rsplit_once('/').unwrap().0.to_owned()
    };
    let (mut last, mut collected, deadline) = (None, 0, in_ms(15_000));
    while collected < 3 {
        let guard = manager.acquire(&names, LockOwner::new(), in_ms(1000)).await.unwrap();
        let token = guard.token("a");
        let grows = token > last || (locks.cache.is_some() && token == last);
        assert!(grows, "{token:?} after {last:?}");
        last = token;
        let queue = parent().await;
        guard.release().await;
        // About as long as the interval of the collector: sometimes it is faster, sometimes the next claim is.
        time::sleep(Duration::from_millis(rand::random_range(0..900))).await;
        collected += u32::from(observer.client.check_stat(&queue).await.unwrap().is_none());
        assert!(time::Instant::now() < deadline, "the server collected {collected} parents");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_password_nobody_else_touches_the_locks() {
    let locks = Locks::new(zookeeper::shared());
    let auth = |password: &str| Some(("holdfast".to_owned(), password.to_owned()));
    let closed =
        |password| ZooKeeperOptions { auth: auth(password), allow_open_acl: false, ..locks.options() };
    let first = ZooKeeperLock::connect(closed("right")).await.unwrap();
    let second = ZooKeeperLock::connect(closed("right")).await.unwrap();
    let stranger = ZooKeeperLock::connect(closed("wrong")).await.unwrap();
    let names = keys(&["a"]);
    let guard = first.acquire(&names, LockOwner::new(), in_ms(1000)).await.unwrap();
    assert!(matches!(
        second.acquire(&names, LockOwner::new(), in_ms(100)).await,
        Err(LockError::Timeout { .. })
    ));
    assert!(matches!(
        stranger.acquire(&names, LockOwner::new(), in_ms(1000)).await,
        Err(LockError::Unavailable(_))
    ));
    let anonymous = Client::connect(&locks.servers).await.unwrap();
    assert!(anonymous.list_children(&locks.root).await.is_err());
    guard.release().await;
    second.acquire(&names, LockOwner::new(), in_ms(1000)).await.unwrap().release().await;

    let open = ZooKeeperOptions { allow_open_acl: false, ..locks.options() };
    assert!(ZooKeeperLock::connect(open).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_who_holds_it() {
    let locks = Locks::new(zookeeper::shared());
    let (manager, observer) = (locks.manager().await, locks.observer().await);
    let guard = manager.acquire(&keys(&["a", "b"]), LockOwner::new(), in_ms(1000)).await.unwrap();
    let nodes = observer.nodes().await;
    let (data, stat) = observer.client.get_data(&nodes[0]).await.unwrap();
    // One transaction made them all.
    assert_eq!(observer.client.check_stat(&nodes[1]).await.unwrap().unwrap().czxid, stat.czxid);
    let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(data["holder"], "test");
    assert_eq!(data["pid"], std::process::id());
    assert!(data["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{data}");
    assert_eq!(guard.token("a").unwrap().sequence, stat.czxid);
    assert_eq!(guard.token("b"), guard.token("a"));
    guard.release().await;
}

/// The server would cut the connection of everybody in this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_too_large_for_one_request_is_refused() {
    let locks = Locks::new(zookeeper::shared());
    let manager = locks.manager().await;
    let names: Vec<String> = (0..5000).map(|number| format!("SKU-{number}")).collect();
    let error = manager.acquire(&names, LockOwner::new(), in_ms(5000)).await.unwrap_err();
    assert!(matches!(&error, LockError::Unavailable(reason) if reason.contains("5000 keys")), "{error:?}");
    manager.acquire(&names[..500], LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
}

/// The runtime is gone before the guard is.
#[test]
fn a_guard_may_outlive_its_runtime() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let locks = Locks::new(zookeeper::shared());
    let first = runtime();
    let (manager, guard) = first.block_on(async {
        let manager = locks.manager().await;
        let guard = manager.acquire(&keys(&["a"]), LockOwner::new(), in_ms(1000)).await.unwrap();
        (manager, guard)
    });
    drop(first);
    drop((guard, manager));
    runtime().block_on(async {
        let observer = locks.observer().await;
        eventually("the session expires", Duration::from_secs(6), || async {
            observer.nodes().await.is_empty()
        })
        .await;
    });
}
