//! What every lock backend promises. `managers` are different processes as far as the backend can tell.

use std::{cell::Cell, sync::Arc, time::Duration};

use futures_util::future::{join_all, select_all};
use holdfast::lock::{LockError, LockGuard, LockManager, LockOwner};
use tokio::time::{self, Instant};

use crate::support::in_ms;

pub(super) type Manager = Arc<dyn LockManager>;

const LONG: u64 = 30_000;
/// Much more than one acquisition of a free lock, much less than any session time-out.
const SHORT: u64 = 900;

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

async fn acquire(manager: &Manager, names: &[&str], ms: u64) -> LockGuard {
    manager.acquire(&keys(names), LockOwner::new(), in_ms(ms)).await.unwrap()
}

async fn expect_held(manager: &Manager, name: &str) {
    let started = Instant::now();
    let error = manager.acquire(&keys(&[name]), LockOwner::new(), in_ms(150)).await.unwrap_err();
    assert!(matches!(&error, LockError::Timeout { key } if key == name), "{error:?}");
    let waited = started.elapsed();
    assert!((150..400).contains(&waited.as_millis()), "waited {waited:?}");
}

/// A counter that is read, left alone for a moment and written loses updates unless holders exclude each other.
pub(super) async fn holders_exclude_each_other(managers: &[Manager]) {
    let (counter, tasks, rounds) = (Cell::new(0), 4, 12);
    let work = managers.iter().cycle().take(managers.len() * tasks).map(|manager| {
        let counter = &counter;
        async move {
            for _ in 0..rounds {
                let guard = acquire(manager, &["counter"], LONG).await;
                let seen = counter.get();
                time::sleep(Duration::from_millis(1)).await;
                counter.set(seen + 1);
                guard.release().await;
            }
        }
    });
    join_all(work).await;
    assert_eq!(counter.get(), managers.len() * tasks * rounds);
}

pub(super) async fn tokens_grow(managers: &[Manager]) {
    let mut last = None;
    for round in 0..30 {
        let guard = acquire(&managers[round % managers.len()], &["a", "b"], LONG).await;
        let token = guard.token("a");
        assert!(token > last, "{token:?} after {last:?}");
        assert!(guard.token("b").is_some());
        assert_eq!(guard.token("c"), None);
        last = token;
        guard.release().await;
    }
}

/// Sets that overlap in every way, named in any order and with duplicates.
pub(super) async fn crossing_sets_do_not_deadlock(managers: &[Manager]) {
    let sets: [&[&str]; 6] =
        [&["a", "b"], &["b", "a"], &["c", "b", "a"], &["b", "c", "b"], &["c", "a"], &["d", "a", "c", "b"]];
    let held = Cell::new([false; 4]);
    let work = managers.iter().cycle().take(managers.len() * 4).enumerate().map(|(task, manager)| {
        let held = &held;
        async move {
            for round in 0..12 {
                let set = sets[(task + round) % sets.len()];
                let guard = acquire(manager, set, LONG).await;
                mark(held, set, true);
                time::sleep(Duration::from_micros(300)).await;
                mark(held, set, false);
                guard.release().await;
            }
        }
    });
    join_all(work).await;
}

fn mark(held: &Cell<[bool; 4]>, set: &[&str], now: bool) {
    let mut flags = held.get();
    let unique: std::collections::BTreeSet<_> = set.iter().collect();
    for name in unique {
        let flag = &mut flags[usize::from(name.as_bytes()[0] - b'a')];
        assert_ne!(*flag, now, "{name} has two holders");
        *flag = now;
    }
    held.set(flags);
}

pub(super) async fn a_claim_times_out_at_its_deadline_and_blocks_nobody(managers: &[Manager]) {
    let guard = acquire(&managers[0], &["b"], LONG).await;
    expect_held(&managers[1], "b").await;
    expect_held(&managers[0], "b").await;
    // A claim that waits for `b` is in the queue of `a` too, and must leave it.
    assert!(managers[1].acquire(&keys(&["a", "b"]), LockOwner::new(), in_ms(100)).await.is_err());
    acquire(&managers[0], &["a"], SHORT).await.release().await;
    guard.release().await;
    acquire(&managers[1], &["a", "b"], SHORT).await.release().await;
}

pub(super) async fn waiters_are_served_in_order(managers: &[Manager]) {
    let guard = acquire(&managers[0], &["a"], LONG).await;
    let mut waiting = Vec::new();
    for number in 0..6 {
        let manager = managers[number % managers.len()].clone();
        waiting.push(Box::pin(async move { (number, acquire(&manager, &["a"], LONG).await) }));
        // Polled until it has entered the queue.
        let pause = time::timeout(Duration::from_millis(60), select_all(waiting.iter_mut())).await;
        assert!(pause.is_err());
    }
    guard.release().await;
    for expected in 0..6 {
        let ((number, guard), index, _) = select_all(waiting.iter_mut()).await;
        drop(waiting.remove(index));
        assert_eq!(number, expected);
        guard.release().await;
    }
}

pub(super) async fn an_awaited_release_frees_at_once(managers: &[Manager]) {
    for round in 0..20 {
        let (first, second) = (&managers[round % 2], &managers[(round + 1) % 2]);
        acquire(first, &["a", "b"], LONG).await.release().await;
        acquire(second, &["b", "a"], SHORT).await.release().await;
    }
}

/// Also from a thread that knows no runtime.
pub(super) async fn a_dropped_guard_releases(managers: &[Manager]) {
    drop(acquire(&managers[0], &["a"], LONG).await);
    let guard = acquire(&managers[1], &["a"], SHORT).await;
    std::thread::spawn(move || drop(guard)).join().unwrap();
    let guard = acquire(&managers[0], &["a"], SHORT).await;
    assert!(!guard.lost().is_cancelled());
    guard.release().await;
}

pub(super) async fn a_dropped_claim_leaves_the_queue(managers: &[Manager]) {
    let guard = acquire(&managers[0], &["a"], LONG).await;
    let names = keys(&["a"]);
    assert!(
        time::timeout(Duration::from_millis(100), managers[1].acquire(&names, LockOwner::new(), in_ms(LONG)))
            .await
            .is_err()
    );
    guard.release().await;
    acquire(&managers[0], &["a"], SHORT).await.release().await;
}

pub(super) async fn any_string_is_a_key(managers: &[Manager]) {
    let names = ["/", ".", "..", "a/b", "ä\u{0}\n", " ", "zookeeper", "-lock-", "%2F", &"long".repeat(60)];
    let guard = acquire(&managers[0], &names, LONG).await;
    for name in names {
        assert!(guard.token(name).is_some(), "{name:?}");
        assert!(managers[1].acquire(&keys(&[name]), LockOwner::new(), in_ms(30)).await.is_err(), "{name:?}");
    }
    guard.release().await;
}

pub(super) async fn no_keys_need_no_lock(managers: &[Manager]) {
    managers[0].acquire(&[], LockOwner::new(), in_ms(0)).await.unwrap().release().await;
}

/// Ends `managers[0]`.
pub(super) async fn closing_frees_everything_at_once(managers: &[Manager]) {
    let guard = acquire(&managers[0], &["a", "b"], LONG).await;
    let names = keys(&["a"]);
    let waiting = managers[0].acquire(&names, LockOwner::new(), in_ms(LONG));
    let closing = async {
        time::sleep(Duration::from_millis(50)).await;
        managers[0].close().await;
    };
    let (waiter, ()) = futures_util::future::join(waiting, closing).await;
    assert!(matches!(waiter, Err(LockError::Closed)));
    assert!(guard.lost().is_cancelled());
    acquire(&managers[1], &["a", "b"], SHORT).await.release().await;
    assert!(matches!(
        managers[0].acquire(&names, LockOwner::new(), in_ms(LONG)).await,
        Err(LockError::Closed)
    ));
    assert!(matches!(managers[0].ping(Duration::from_secs(1)).await, Err(LockError::Closed)));
    managers[0].close().await;
    guard.release().await;
}

pub(super) async fn ping_answers(managers: &[Manager]) {
    for manager in managers {
        manager.ping(Duration::from_secs(1)).await.unwrap();
    }
}
