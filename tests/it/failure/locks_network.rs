//! Processes whose connection to ZooKeeper goes silent, or is cut while somebody else wants what they hold.
//!
//! `failure/lock_nodes.rs` has the lost answer to a creation (`lost_create_reply`), and the collected parents
//! (`container_gc_race`).

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{
    lock_system::{Differences, LockSystem},
    rival::Rival,
    system::PATIENCE,
    tcp_proxy::{TcpProxy, Traffic},
    zookeeper,
};

const SESSION_MS: u64 = 4000;
const SESSION: Duration = Duration::from_millis(SESSION_MS);

/// What a process writes when its session is in doubt.
const SUSPECT: &str = "lock session suspect";

/// From the moment that it hears nothing, a process has two fifths of its session to become suspicious. From then on it
/// sells nothing; when the session has expired, somebody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_blackhole_client() {
    let proxy = TcpProxy::start(zookeeper::shared()).await;
    let stock = [("contended", 1000), ("free", 1000)];
    let system = LockSystem::start(zookeeper::shared(), &[], &stock).await;
    let (address, impatient) = (proxy.address(), [("HOLDFAST__LOCK__ACQUIRE_TIMEOUT_MS", "300")]);
    let silenced = Differences {
        zookeeper: Some(&address),
        session_ms: Some(SESSION_MS),
        settings: &impatient,
        ..Differences::default()
    };
    tokio::join!(system.api_with("silenced", &silenced), system.api("other"));
    system.sell("silenced", "before", &[("contended", 1), ("free", 1)]).await;
    proxy.allow(Traffic::None);
    let (silent, done) = (Instant::now(), CancellationToken::new());
    // It never stops trying to sell what it had, nor what nobody else wants.
    let attempts = async {
        let mut attempts = Vec::new();
        while !done.is_cancelled() {
            let (began, sku) = (silent.elapsed(), ["contended", "free"][attempts.len() % 2]);
            let answer = system.try_order("silenced", &format!("try-{}", attempts.len()), &[(sku, 1)]).await;
            attempts.push((began, answer.is_some()));
            sleep(Duration::from_millis(20)).await;
        }
        attempts
    };
    let suspicion = async {
        system.wait_for_log("silenced", SUSPECT).await;
        silent.elapsed()
    };
    let takeover = async {
        let taken_over = system.sell("other", "other", &[("contended", 1)]).await;
        done.cancel();
        taken_over
    };
    let (attempts, suspected, taken_over) = tokio::join!(attempts, suspicion, takeover);
    let sold = attempts.iter().filter(|(_, sold)| *sold).count();
    let tried = attempts.len();
    eprintln!(
        "black hole: suspect after {suspected:?}, sold by another after {taken_over:?}; {sold} of {tried} sold"
    );
    assert!(suspected < SESSION.mul_f64(0.7), "suspect only after {suspected:?}");
    assert!(suspected < taken_over, "sold by another after {taken_over:?}, suspect after {suspected:?}");
    let late: Vec<_> = attempts.iter().filter(|(began, sold)| *sold && *began > suspected).collect();
    assert!(late.is_empty(), "suspect after {suspected:?}, and sold at {late:?}");
    assert!(attempts.iter().filter(|(began, _)| *began > suspected).count() >= 4, "{attempts:?}");
    proxy.cut();
    proxy.allow(Traffic::All);
    let back = system.sell("silenced", "after", &[("contended", 1), ("free", 1)]).await;
    assert!(back < SESSION * 3, "{back:?}");
    system.finish(3 + sold).await;
}

/// The connection is cut before, while and after a contender arrives. The holder sells without a pause, so it would keep
/// its lock for ever if it did not learn of the contender.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reconnect_watch_loss() {
    let proxy = TcpProxy::start(zookeeper::shared()).await;
    let system = LockSystem::start(zookeeper::shared(), &[], &[("wanted", 100_000)]).await;
    let address = proxy.address();
    let cut = Differences { zookeeper: Some(&address), session_ms: Some(10_000), ..Differences::default() };
    system.api_with("holder", &cut).await;
    let contender = Rival::connect(&system.locks).await;
    let done = CancellationToken::new();
    let seller = |seller: usize| {
        let (system, done) = (&system, &done);
        async move {
            let mut sold = 0;
            while !done.is_cancelled() {
                system.sell("holder", &format!("{seller}-{sold}"), &[("wanted", 1)]).await;
                sold += 1;
            }
            sold
        }
    };
    let contend = async {
        for cut_first in [true, false, true, false] {
            // The holder has the lock, and is used to it.
            sleep(Duration::from_millis(300)).await;
            proxy.allow(if cut_first { Traffic::None } else { Traffic::All });
            let arrived = Instant::now();
            let wait = async {
                let guard = contender.take(&["wanted"], PATIENCE).await.unwrap();
                let waited = arrived.elapsed();
                guard.release().await;
                waited
            };
            let disturb = async {
                // Long enough for the node to be there, and for its notice to be lost.
                sleep(Duration::from_millis(if cut_first { 200 } else { 5 })).await;
                proxy.cut();
                proxy.allow(Traffic::All);
            };
            let (waited, ()) = tokio::join!(wait, disturb);
            eprintln!("contender after a cut connection: {waited:?}");
            assert!(waited < Duration::from_secs(3), "handed over after {waited:?}");
        }
        done.cancel();
    };
    let (first, second, ()) = tokio::join!(seller(1), seller(2), contend);
    contender.close().await;
    system.finish(first + second).await;
}
