//! Sessions that are suspect, cut or expired.

use std::time::Duration;

use holdfast::lock::{LockError, LockManager as _, LockOwner, ZooKeeperLock};
use tokio::time::{self, Instant};

use crate::support::{
    eventually, in_ms,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::{self, Locks},
};

fn key() -> Vec<String> {
    vec!["a".to_owned()]
}

/// The server forgets the session while its owner cannot be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_session_fires_lost_and_the_next_one_acquires() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = manager.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap();
    let names = key();
    let mut waiting = Box::pin(manager.acquire(&names, LockOwner::new(), in_ms(15_000)));
    assert!(time::timeout(Duration::from_millis(100), &mut waiting).await.is_err());
    proxy.allow(Traffic::None);
    observer.wait_for_nodes(0, Duration::from_secs(6)).await;
    let rival = locks.manager().await.acquire(&key(), LockOwner::new(), in_ms(1000)).await.unwrap();
    assert!(rival.token("a") > guard.token("a"));
    drop(rival);
    proxy.cut();
    proxy.allow(Traffic::All);
    time::timeout(Duration::from_secs(5), guard.lost().cancelled()).await.unwrap();
    // The waiter of the old session waits on in the new one.
    let second = waiting.await.unwrap();
    assert!(second.token("a") > guard.token("a"));
    assert!(!second.lost().is_cancelled());
    guard.release().await;
    assert_eq!(observer.nodes().await.len(), 1);
    second.release().await;
    assert_eq!(observer.nodes().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_survives_a_cut_connection() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (holder, waiter) = (locks.manager().await, locks.manager_through(proxy.address()).await);
    let observer = locks.observer().await;
    // The predecessor goes before, during and after the reconnection.
    for pause in [0, 20, 600] {
        let guard = holder.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap();
        let hand_over = async {
            observer.wait_for_nodes(2, Duration::from_secs(2)).await;
            proxy.cut();
            time::sleep(Duration::from_millis(pause)).await;
            guard.release().await;
        };
        let names = key();
        let (second, ()) = tokio::join!(waiter.acquire(&names, LockOwner::new(), in_ms(5000)), hand_over);
        let second = second.unwrap();
        assert!(!second.lost().is_cancelled());
        second.release().await;
        assert_eq!(observer.nodes().await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_lock_survives_a_cut_connection() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = manager.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap();
    // Watched by now, and again after the reconnection.
    time::sleep(Duration::from_millis(100)).await;
    proxy.cut();
    let again = || async { manager.ping(Duration::from_secs(2)).await.is_ok() };
    eventually("the connection is back", Duration::from_secs(3), again).await;
    assert!(!guard.lost().is_cancelled());
    observer.client.delete(&observer.nodes().await[0], None).await.unwrap();
    time::timeout(Duration::from_secs(2), guard.lost().cancelled()).await.unwrap();
}

/// Gone while nobody could say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_deleted_while_disconnected_fires_lost() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = manager.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap();
    time::sleep(Duration::from_millis(100)).await;
    proxy.allow(Traffic::None);
    observer.client.delete(&observer.nodes().await[0], None).await.unwrap();
    proxy.cut();
    proxy.allow(Traffic::All);
    time::timeout(Duration::from_secs(2), guard.lost().cancelled()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_grants_nothing_and_recovers() {
    let stack = zookeeper::start();
    let locks = Locks::new(zookeeper::servers(&stack));
    let manager = locks.manager().await;
    manager.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap().release().await;
    zookeeper::pause(&stack).await;
    // Before the client notices, and after.
    for ms in [300, 1200] {
        let (started, error) =
            (Instant::now(), manager.acquire(&key(), LockOwner::new(), in_ms(ms)).await.unwrap_err());
        assert!(matches!(error, LockError::Unavailable(_)), "{error:?}");
        assert!(started.elapsed() < Duration::from_millis(ms + 200), "{:?}", started.elapsed());
    }
    let error = manager.ping(Duration::from_millis(100)).await.unwrap_err().to_string();
    assert!(error.contains(&locks.servers), "{error}");
    stack.resume("zookeeper").unwrap();
    manager.acquire(&key(), LockOwner::new(), in_ms(8000)).await.unwrap().release().await;
    manager.ping(Duration::from_secs(1)).await.unwrap();

    // Killed for longer than the session lives, and started again.
    stack.kill("zookeeper").unwrap();
    assert!(manager.acquire(&key(), LockOwner::new(), in_ms(300)).await.is_err());
    let names = key();
    let waiting = manager.acquire(&names, LockOwner::new(), in_ms(20_000));
    let (guard, restarted) =
        tokio::join!(waiting, async { tokio::task::block_in_place(|| stack.restart("zookeeper")) });
    restarted.unwrap();
    guard.unwrap().release().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server_is_named_within_bounded_time() {
    let proxy = TcpProxy::start("127.0.0.1:1").await;
    // Nobody listens; somebody listens and hangs up.
    for address in ["127.0.0.1:1".to_owned(), proxy.address()] {
        let started = Instant::now();
        let options = Locks::new(&address).options();
        let error = ZooKeeperLock::connect(options).await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    }
}

/// Closing does not wait for a server that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_bounded() {
    let locks = Locks::new(zookeeper::shared());
    let proxy = TcpProxy::start(&locks.servers).await;
    let (manager, observer) = (locks.manager_through(proxy.address()).await, locks.observer().await);
    let guard = manager.acquire(&key(), LockOwner::new(), in_ms(5000)).await.unwrap();
    proxy.allow(Traffic::None);
    let started = Instant::now();
    manager.close().await;
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert!(guard.lost().is_cancelled());
    observer.wait_for_nodes(0, Duration::from_secs(6)).await;
}
