//! The lock contract on ZooKeeper: with locks that are kept after their use and without.

use std::sync::Arc;

use super::lock::{self, Manager};
use crate::support::zookeeper::{self, Locks};

async fn managers(locks: Locks, count: usize) -> Vec<Manager> {
    let mut managers: Vec<Manager> = Vec::new();
    for _ in 0..count {
        managers.push(Arc::new(locks.manager().await));
    }
    managers
}

macro_rules! contract {
    ($($name:ident: $managers:literal;)*) => {
        mod plain {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    lock::$name(&managers(Locks::new(zookeeper::shared()), $managers).await).await;
                }
            )*
        }
        mod cached {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    lock::$name(&managers(Locks::cached(zookeeper::shared()), $managers).await).await;
                }
            )*
        }
    };
}

contract! {
    holders_exclude_each_other: 4;
    tokens_grow: 3;
    crossing_sets_do_not_deadlock: 4;
    a_claim_times_out_at_its_deadline_and_blocks_nobody: 2;
    waiters_are_served_in_order: 1;
    an_awaited_release_frees_at_once: 2;
    a_dropped_guard_releases: 2;
    a_dropped_claim_leaves_the_queue: 2;
    any_string_is_a_key: 2;
    no_keys_need_no_lock: 1;
    closing_frees_everything_at_once: 2;
    ping_answers: 2;
}
