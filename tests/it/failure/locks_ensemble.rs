//! An ensemble that loses its leader, its quorum, or the sight of one of its servers.

use std::{fs, path::Path, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    ensemble::{Ensemble, STALE, TICK},
    eventually,
    lock_system::{Differences, LockSystem},
    programs::fenced_holder,
    rival::Rival,
    system::PATIENCE,
    zookeeper::Locks,
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
        killed.map(|server| ensemble.kill(server));
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

/// A follower that is cut off goes on telling its clients that they hold what others have taken since. Sessions that are
/// shorter than that time let two holders believe in one lock, and only the fence tells them apart; with a longer
/// one, a process suspects its session before another has its locks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_partition() {
    let ensemble = Ensemble::whole().await;
    let leader = ensemble.leader().await;
    let (leading, follower) = (ensemble.server(leader), (leader + 1) % 3);
    let following = ensemble.server(follower);
    let fenced = LockSystem::start(leading, &[], &[("absolute-on", 1), ("short", 1), ("long", 9)]).await;
    // The accounts of this one will not add up.
    let unfenced = LockSystem::start(leading, &[], &[("absolute-off", 1)]).await;
    for (system, fence) in [(&fenced, "on"), (&unfenced, "off")] {
        hold(system, "holder", fence, following);
        system.wait_for_log("holder", "read").await;
    }
    let at_follower =
        |ms| Differences { zookeeper: Some(following), session_ms: Some(ms), ..Differences::default() };
    let (short, long) = (at_follower(2000), at_follower(10_000));
    tokio::join!(fenced.api_with("short", &short), fenced.api_with("long", &long), fenced.api("rival"));
    let (short_level, long_level) = (fenced.hold_level("short").await, fenced.hold_level("long").await);
    let orders = async {
        tokio::join!(
            fenced.order("short", "short", &[("short", 1)]),
            fenced.sell("long", "long", &[("long", 1)])
        )
    };
    let partition = async {
        fenced.wait_for_waiters(2).await;
        let long_node =
            fenced.observer.nodes().await.into_iter().find(|node| node.contains("/long/")).unwrap();
        let programs = |servers: &str| Locks { servers: servers.to_owned(), root: "/holdfast/locks".into() };
        let (stale, fresh) = tokio::join!(async { programs(following).observer().await }, async {
            programs(leading).observer().await
        });
        let held = fresh.nodes().await;
        assert_eq!(held.len(), 2, "{held:?}");
        ensemble.cut_off(follower);
        let cut = Instant::now();
        let rivals = async {
            for system in [&fenced, &unfenced] {
                fs::write(system.stack.dir().join("go-rival"), "").unwrap();
            }
            hold(&fenced, "rival-holder", "on", leading);
            hold(&unfenced, "rival-holder", "off", leading);
            for system in [&fenced, &unfenced] {
                let rival = system.finish_program("rival-holder").await;
                assert_eq!(rival, "read\nsold\n");
            }
            // What the holders would be told, had they asked.
            let told = join_all(held.iter().map(|node| stale.client.check_stat(node))).await;
            let overtaken = cut.elapsed();
            eprintln!("partition: overtaken after {overtaken:?}");
            assert!(told.iter().all(|stat| matches!(stat, Ok(Some(_)))), "{told:?} after {overtaken:?}");
            for node in &held {
                assert_eq!(fresh.client.check_stat(node).await.unwrap().map(|stat| stat.czxid), None);
            }
            for system in [&fenced, &unfenced] {
                fs::write(system.stack.dir().join("go-holder"), "").unwrap();
            }
        };
        let long_session = async {
            let taken = async || !fenced.observer.nodes().await.contains(&long_node);
            eventually("the long session expires", PATIENCE, taken).await;
            let (taken, log) = (cut.elapsed(), fenced.log("long"));
            eprintln!("partition: the long session expired after {taken:?}");
            assert!(log.contains(SUSPECT), "{log}");
            assert!(taken > STALE, "{taken:?}");
            short_level.rollback().await.unwrap();
            long_level.rollback().await.unwrap();
        };
        let ((), (), rival_short, _) = tokio::join!(
            rivals,
            long_session,
            fenced.order("rival", "rival-short", &[("short", 1)]),
            fenced.sell("rival", "rival-long", &[("long", 1)])
        );
        rival_short
    };
    let ((short, _), rival_short) = tokio::join!(orders, partition);
    let mut statuses = [short.status.as_u16(), rival_short.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{short:?} {rival_short:?}");

    let holder = fenced.finish_program("holder").await;
    assert!(holder.starts_with("read\nrefused: inconsistent data: "), "{holder}");
    // One of each that is short, the two of `long`.
    fenced.finish(4).await;
    // Without its token the same write goes through: nothing else would have stopped it.
    assert_eq!(unfenced.finish_program("holder").await, "read\nsold\n");
    assert_eq!(unfenced.count("SELECT count(*) FROM reservation WHERE sku = 'absolute-off'").await, 2);
    assert!(!unfenced.run(&["verify"]).await.success);
}

/// Starts a holder, or the rival of one. It sells when the file `go-holder` or `go-rival` exists.
fn hold(system: &LockSystem, name: &str, fence: &str, servers: &str) {
    let go = if name == "holder" { "go-holder" } else { "go-rival" };
    let go = system.stack.dir().join(go);
    let (sku, go): (String, &Path) = (format!("absolute-{fence}"), &go);
    let servers = [("HOLDFAST__LOCK__ZOOKEEPER__SERVERS", servers)];
    let args = ["absolute", fence, &sku, &go.display().to_string()];
    system.spawn_program(name, &fenced_holder(), &args, &servers);
}
