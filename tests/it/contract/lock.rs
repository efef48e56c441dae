//! What every lock backend promises. `managers` are different processes as far as the backend can tell.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
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

/// Within a process; over all of them where locks are not kept.
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

/// One owner shares its keys with itself, and with nobody else in the same process.
pub(super) async fn an_owner_may_acquire_again_what_it_holds(managers: &[Manager]) {
    let owner = LockOwner::new();
    let first = managers[0].acquire(&keys(&["a", "b"]), owner, in_ms(LONG)).await.unwrap();
    let second = managers[0].acquire(&keys(&["a"]), owner, in_ms(SHORT)).await.unwrap();
    assert_eq!((second.token("a"), second.token("b")), (first.token("a"), None));
    assert!(managers[0].try_acquire(&keys(&["b"]), owner, in_ms(LONG)).await.unwrap().is_some());
    expect_held(&managers[0], "a").await;
    first.release().await;
    // The second guard still holds its key.
    expect_held(&managers[0], "a").await;
    expect_held(&managers[1], "a").await;
    second.release().await;
    acquire(&managers[1], &["a", "b"], SHORT).await.release().await;
}

pub(super) async fn trying_waits_for_nobody(managers: &[Manager]) {
    let other = LockOwner::new();
    let guard = managers[0].try_acquire(&keys(&["a"]), LockOwner::new(), in_ms(LONG)).await.unwrap().unwrap();
    for manager in managers {
        let started = Instant::now();
        assert!(manager.try_acquire(&keys(&["b", "a"]), other, in_ms(LONG)).await.unwrap().is_none());
        assert!(started.elapsed() < Duration::from_millis(SHORT));
    }
    // What was tried blocks nobody.
    acquire(&managers[0], &["b"], SHORT).await.release().await;
    acquire(&managers[1], &["b"], SHORT).await.release().await;
    guard.release().await;
    // A process may still keep the key: then trying says no, and makes it give the key up.
    let deadline = in_ms(SHORT);
    let guard = loop {
        match managers[1].try_acquire(&keys(&["a", "b"]), other, in_ms(LONG)).await.unwrap() {
            Some(guard) => break guard,
            None => assert!(Instant::now() < deadline),
        }
    };
    expect_held(&managers[0], "b").await;
    guard.release().await;
}

pub(super) async fn the_list_names_holder_and_waiters(managers: &[Manager]) {
    assert_eq!(managers[0].list().await.unwrap(), []);
    let now = || DateTime::<Utc>::from(SystemTime::now());
    let before = now() - TimeDelta::milliseconds(1);
    let guard = acquire(&managers[0], &["b", "a/1"], LONG).await;
    let names = keys(&["b"]);
    let waiting = managers[1].acquire(&names, LockOwner::new(), in_ms(LONG));
    let looking = async {
        crate::support::eventually("one waits", Duration::from_secs(5), || async {
            managers[0].list().await.unwrap().iter().any(|locked| locked.waiting == 1)
        })
        .await;
        let listed = managers[1].list().await.unwrap();
        let seen: Vec<_> = listed.iter().map(|l| (l.key.as_str(), l.holder.as_str(), l.waiting)).collect();
        assert_eq!(seen, [("a/1", "test", 0), ("b", "test", 1)]);
        for locked in &listed {
            assert!(locked.since.is_some_and(|since| since > before && since <= now()));
        }
        guard.release().await;
    };
    let (second, ()) = tokio::join!(waiting, looking);
    second.unwrap().release().await;
}

/// Several processes with one owner and many, sets that overlap in every way, and callers that lose patience: those who
/// stay are all served, and no key has two owners at a time.
pub(super) async fn random_sets_with_cancellations_all_finish(managers: &[Manager]) {
    let held: RefCell<[Option<(LockOwner, usize)>; 8]> = RefCell::new([None; 8]);
    let shared: Vec<LockOwner> = managers.iter().map(|_| LockOwner::new()).collect();
    let tasks = managers.iter().enumerate().cycle().take(managers.len() * 5).enumerate();
    let work = tasks.map(|(task, (process, manager))| {
        let (held, shared) = (&held, &shared);
        async move {
            for _ in 0..15 {
                let owner = if task % 2 == 0 { shared[process] } else { LockOwner::new() };
                let set: BTreeSet<usize> =
                    (0..rand::random_range(1..5)).map(|_| rand::random_range(0..8)).collect();
                let names: Vec<String> = set.iter().map(|key| format!("key-{key}")).collect();
                if rand::random_bool(0.3) {
                    let patience = Duration::from_micros(rand::random_range(0..20_000));
                    let impatient = manager.acquire(&names, owner, in_ms(LONG));
                    drop(time::timeout(patience, impatient).await);
                    continue;
                }
                let guard = manager.acquire(&names, owner, in_ms(LONG)).await.unwrap();
                for key in &set {
                    let mut held = held.borrow_mut();
                    let (holder, count) = held[*key].get_or_insert((owner, 0));
                    assert_eq!(*holder, owner, "key-{key} has two owners");
                    *count += 1;
                }
                time::sleep(Duration::from_micros(300)).await;
                for key in &set {
                    let mut held = held.borrow_mut();
                    let (owner, count) = held[*key].unwrap();
                    held[*key] = (count > 1).then_some((owner, count - 1));
                }
                drop(guard);
            }
        }
    });
    join_all(work).await;
}
