//! SIGTERM: what is in flight is finished or comes again, and nobody waits for what a stopped process held (G10).

use std::time::Duration;

use devstack::Signal;
use holdfast::lock::{LockManager as _, LockOwner, ZooKeeperLock};

use crate::support::{
    in_ms,
    system::{Servers, System, WORKERS},
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper::Locks,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_frees_the_locks_at_once_although_an_order_is_in_flight() {
    // A lock that is left behind would last for the whole session.
    let settings =
        [("HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS", "20000"), ("HOLDFAST__HTTP__DRAIN_SECONDS", "1")];
    let system = System::start(Servers::ZooKeeper, &settings).await;
    system.import_stock("sku,on_hand\nbusy,9\n").await;
    system.api("api").await;
    let options = Locks::new(system.stack.addresses().zookeeper_servers.as_deref().unwrap()).options();
    let other = ZooKeeperLock::connect(holdfast::lock::ZooKeeperOptions {
        root: "/holdfast/locks".into(),
        ..options
    })
    .await
    .unwrap();
    let sku = ["busy".to_owned()];
    let busy = system.hold_level("busy").await;
    let order = async { system.place("api", "in-flight", "busy", 1).await };
    let terminate = async {
        system.wait_for_waiters(1).await;
        other.acquire(&sku, LockOwner::new(), in_ms(300)).await.unwrap_err();
        system.stack.signal("api", Signal::TERM).unwrap();
        // The drain time, and a little for closing.
        assert!(system.wait_exit("api", Duration::from_secs(4)).await);
        other.acquire(&sku, LockOwner::new(), in_ms(500)).await.unwrap().release().await;
        busy.rollback().await.unwrap();
        system.stack.restart("api").unwrap();
    };
    let (answer, ()) = tokio::join!(order, terminate);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(system.count("SELECT reserved FROM inventory_level WHERE sku = 'busy'").await, 1);

    // An order that can be finished within the drain time is answered before the process ends.
    system.ready("api").await;
    let busy = system.hold_level("busy").await;
    let order = async { system.place("api", "drained", "busy", 1).await };
    let terminate = async {
        system.wait_for_waiters(1).await;
        system.stack.signal("api", Signal::TERM).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        busy.rollback().await.unwrap();
        assert!(system.wait_exit("api", Duration::from_secs(4)).await);
    };
    // Nobody serves any more, so this answer came from the process that was stopping.
    let (answer, ()) = tokio::join!(order, terminate);
    assert_eq!(answer.status, 201, "{answer:?}");
    other.close().await;
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_of_every_role_under_load_loses_nothing() {
    let system = System::start(Servers::ZooKeeperAndRabbitMq, &[]).await;
    system.start_roles().await;
    system.begin_replay(100, &["--ttl", "10", "--concurrency", "4"]).await;
    let roles = WORKERS.into_iter().chain(["api"]);
    for (role, least) in roles.zip([10, 25, 40, 55, 70]) {
        system.wait_for_orders(least).await;
        system.stack.signal(role, Signal::TERM).unwrap();
        // Nothing takes its whole drain time of 20 seconds: the slowest payment takes 4.
        assert!(system.wait_exit(role, Duration::from_secs(10)).await, "{}", system.log(role));
        system.stack.restart(role).unwrap();
    }
    system.finish_replay().await;
    system.assert_clean().await;
    system.assert_charged_once().await;
    system.stack.signal("sandbox", Signal::TERM).unwrap();
    assert!(system.wait_exit("sandbox", Duration::from_secs(10)).await);
}

/// What it has sent was received, so nothing of TCP tells it that there is nobody any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_workers_that_wait_for_a_silent_database() {
    let system = System::start(Servers::RabbitMq, &[("HOLDFAST__WORKER__DRAIN_SECONDS", "1")]).await;
    let url = system.stack.addresses().postgres_url.clone().unwrap();
    let address = url.split(['@', '/']).find(|part| part.contains("127.0.0.1:")).unwrap();
    let proxy = TcpProxy::start(address).await;
    let url = url.replace(address, &proxy.address());
    let kinds = ["payment", "fulfilment", "expiry", "import", "relay", "retention", "webhook"];
    let args = [&["worker"][..], &kinds].concat();
    system.spawn("workers", &args, &[("HOLDFAST__DATABASE__URL", &url)]);
    system.wait_for_log("workers", "relay leases shards=16").await;
    proxy.allow(Traffic::RequestsOnly);
    // All of them ask within that time.
    tokio::time::sleep(Duration::from_secs(6)).await;
    system.stack.signal("workers", Signal::TERM).unwrap();
    // The drain time, what may come after it, and a little.
    assert!(system.wait_exit("workers", Duration::from_secs(9)).await, "{}", system.log("workers"));
}
