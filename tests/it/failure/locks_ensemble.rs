//! An ensemble that loses its leader, or its quorum. `locks_partition.rs` has the one that loses sight of a server.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    ensemble::{Ensemble, TICK},
    lock_system::LockSystem,
    rival::Rival,
    system::PATIENCE,
};

const SESSION: &str = "HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS";
const SUSPECT: &str = "lock session suspect";

/// A lock that is held stays held, whoever waits for it goes on waiting, and everybody else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zk_leader_kill() {
    let ensemble = Ensemble::whole().await;
    let stock = [("SKU-a", 100_000), ("SKU-b", 100_000), ("kept", 9)];
    let system = LockSystem::start(ensemble.servers(), &[(SESSION, "10000")], &stock).await;
    tokio::join!(system.api("api-1"), system.api("api-2"));
    let rival = Rival::connect_for(&system.locks, Duration::from_secs(10)).await;
    let kept = rival.take(&["kept"], PATIENCE).await.unwrap();
    let done = CancellationToken::new();
    let load = join_all([("api-1", 0), ("api-1", 1), ("api-2", 0), ("api-2", 1)].map(|(api, client)| {
        let (system, done) = (&system, &done);
        async move {
            let (mut sold, mut longest) = (0, Duration::ZERO);
            while !done.is_cancelled() {
                let basket = [("SKU-a", 1), ("SKU-b", 1)];
                let reference = format!("{api}-{client}-{sold}");
                longest = longest.max(system.sell(api, &reference, &basket[client..]).await);
                sold += 1;
            }
            (sold, longest)
        }
    }));
    let waiter = async { system.sell("api-1", "kept", &[("kept", 1)]).await };
    let kill = async {
        system.wait_for_orders(50).await;
        ensemble.kill(ensemble.leader().await);
        let killed = Instant::now();
        ensemble.leader().await;
        let elected = killed.elapsed();
        let before = system.count("SELECT count(*) FROM orders").await;
        system.wait_for_orders(before + 50).await;
        let resumed = killed.elapsed();
        done.cancel();
        assert!(!kept.lost().is_cancelled(), "a lock was lost with the leader");
        assert_eq!(system.count("SELECT count(*) FROM orders WHERE client_reference = 'kept'").await, 0);
        kept.release().await;
        (elected, resumed)
    };
    let (sold, _, (elected, resumed)) = tokio::join!(load, waiter, kill);
    let longest = sold.iter().map(|(_, longest)| *longest).max().unwrap();
    eprintln!(
        "leader killed: a new one after {elected:?}, 50 orders more after {resumed:?}, longest {longest:?}"
    );
    assert!(longest < Duration::from_secs(10), "an order took {longest:?}");
    rival.close().await;
    system.finish(1 + sold.iter().map(|(sold, _)| sold).sum::<usize>()).await;
}

/// Without a quorum there are no locks, and so no orders; nobody waits longer than he must to hear it. When it is back,
/// a process waits for what it left behind itself no longer than its session would have lasted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zk_quorum_loss_30s() {
    const LOSS: Duration = Duration::from_secs(30);
    const SESSION_LENGTH: Duration = Duration::from_secs(2);
    /// The longest pause between two attempts to connect.
    const BACKOFF: Duration = Duration::from_secs(5);
    let ensemble = Ensemble::whole().await;
    let settings = [(SESSION, "2000"), ("HOLDFAST__LOCK__ACQUIRE_TIMEOUT_MS", "500")];
    let system = LockSystem::start(ensemble.servers(), &settings, &[("left", 100), ("other", 100)]).await;
    tokio::join!(system.api("api-1"), system.api("api-2"));
    // Its lock is what the process leaves behind: it is not released before the quorum is gone.
    let level = system.hold_level("left").await;
    let in_flight = async { system.order("api-1", "in-flight", &[("left", 1)]).await };
    let outage = async {
        system.wait_for_waiters(1).await;
        let leader = ensemble.leader().await;
        let killed = [leader, (leader + 1) % 3];
        for server in killed {
            ensemble.kill(server);
        }
        let lost = Instant::now();
        tokio::join!(system.wait_for_log("api-1", SUSPECT), system.wait_for_log("api-2", SUSPECT));
        assert!(lost.elapsed() < SESSION_LENGTH, "suspect after {:?}", lost.elapsed());
        level.rollback().await.unwrap();
        let mut refused = 0;
        while lost.elapsed() < LOSS {
            let (api, sku) = (["api-1", "api-2"][refused % 2], ["left", "other"][refused / 2 % 2]);
            let asked = Instant::now();
            let answer = system.try_order(api, &format!("refused-{refused}"), &[(sku, 1)]).await;
            assert_eq!(answer, None, "{api} sold {sku} without a quorum");
            assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
            refused += 1;
            sleep(Duration::from_millis(500)).await;
        }
        ensemble.start_again(&killed);
        let back = Instant::now();
        let sold = tokio::join!(
            system.sell("api-1", "after-1", &[("left", 1), ("other", 1)]),
            system.sell("api-2", "after-2", &[("left", 1), ("other", 1)]),
        );
        eprintln!("quorum lost: {refused} orders refused, then sold after {sold:?}");
        back.elapsed()
    };
    let (in_flight, recovered) = tokio::join!(in_flight, outage);
    assert_eq!(in_flight.status, 201, "{in_flight:?}");
    assert!(recovered < SESSION_LENGTH + TICK + BACKOFF + Duration::from_secs(4), "{recovered:?}");
    system.finish(3).await;
}
