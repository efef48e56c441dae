//! Many processes that want the same SKUs: nobody waits for ever, and nobody waits in a circle.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::support::{lock_system::LockSystem, zookeeper};

/// Eight processes with baskets of two to five lines out of few SKUs, some SKUs twice, in any order. Stock runs out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multi_sku_crossing() {
    const SKUS: usize = 8;
    const ON_HAND: i64 = 120;
    let names: Vec<String> = (0..8).map(|number| format!("api-{number}")).collect();
    let skus: Vec<String> = (0..SKUS).map(|number| format!("SKU-{number}")).collect();
    let stock: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), ON_HAND)).collect();
    // Sessions last: this is about waiting in a circle, not about a machine that is too busy to say that it lives.
    let session = ("HOLDFAST__LOCK__ZOOKEEPER__SESSION_TIMEOUT_MS", "20000");
    let system = LockSystem::start(zookeeper::shared(), &[session], &stock).await;
    join_all(names.iter().map(|name| system.api(name))).await;
    let began = Instant::now();
    let clients = names.iter().flat_map(|name| (0..2).map(move |client| (name, client)));
    let sold = join_all(clients.map(|(name, client)| {
        let (system, stock) = (&system, &stock);
        async move {
            let mut sold = 0;
            for order in 0..12 {
                let basket: Vec<(&str, i64)> = (0..rand::random_range(2..=5))
                    .map(|_| (stock[rand::random_range(0..SKUS)].0, rand::random_range(1..=3)))
                    .collect();
                let reference = format!("{name}-{client}-{order}");
                let answer = system.order(name, &reference, &basket).await;
                assert!([201, 409].contains(&answer.status.as_u16()), "{basket:?}: {answer:?}");
                sold += usize::from(answer.status == 201);
            }
            sold
        }
    }));
    let sold: usize = sold.await.into_iter().sum();
    eprintln!("crossing: {sold} of 192 orders placed in {:?}", began.elapsed());
    assert!((50..192).contains(&sold), "{sold}");
    let log = system.log("postgres");
    assert!(log.contains("database system is ready"));
    assert!(!log.contains("deadlock detected"), "{log}");
    system.finish(sold).await;
}

/// One process is never without an order for the SKU; the other has one twice a second. Its locks are handed over after
/// the work in flight, so the flood costs each order of the other a moment, and not the time until the flood ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fairness_bound() {
    const FLOOD: Duration = Duration::from_secs(8);
    const BOUND: Duration = Duration::from_secs(2);
    let system = LockSystem::start(zookeeper::shared(), &[], &[("hot", 1_000_000)]).await;
    tokio::join!(system.api("flooded"), system.api("quiet"));
    let began = Instant::now();
    let flood = join_all((0..6).map(|client| {
        let system = &system;
        async move {
            let mut sold = 0;
            while began.elapsed() < FLOOD {
                system.sell("flooded", &format!("flood-{client}-{sold}"), &[("hot", 1)]).await;
                sold += 1;
            }
            sold
        }
    }));
    let quiet = async {
        let mut waits = Vec::new();
        while began.elapsed() + BOUND < FLOOD {
            sleep(Duration::from_millis(500)).await;
            waits.push(system.sell("quiet", &format!("quiet-{}", waits.len()), &[("hot", 1)]).await);
        }
        waits
    };
    let (flooded, mut waits) = tokio::join!(flood, quiet);
    let flooded: usize = flooded.into_iter().sum();
    waits.sort();
    eprintln!("fairness: {flooded} orders in the flood; the others waited {waits:?}");
    // The flood was one.
    assert!(flooded > 20 * waits.len(), "{flooded} orders in the flood");
    assert!(waits.len() >= 3 && waits.iter().all(|wait| *wait < BOUND), "{waits:?}");
    system.finish(flooded + waits.len()).await;
}
