//! The lock contract on ZooKeeper: with locks that are kept after their use and without.

use std::sync::{Arc, OnceLock};

use devstack::{Stack, StackOptions};

use super::lock::{self, Manager};
use crate::support::{
    stack,
    zookeeper::{self, Locks},
};

async fn managers(locks: Locks, count: usize) -> Vec<Manager> {
    let mut managers: Vec<Manager> = Vec::new();
    for _ in 0..count {
        managers.push(Arc::new(locks.manager().await));
    }
    managers
}

/// A real ensemble, which nobody stops.
fn ensemble() -> &'static str {
    static ENSEMBLE: OnceLock<Stack> = OnceLock::new();
    let options =
        StackOptions { postgres: false, rabbitmq_nodes: 0, zookeeper_nodes: 3, ..StackOptions::default() };
    zookeeper::servers(ENSEMBLE.get_or_init(|| stack::start(options)))
}

macro_rules! contract {
    ($($name:ident: $managers:literal;)*) => {
        contract!(plain, Locks::new(zookeeper::shared()), $($name: $managers;)*);
        contract!(kept, Locks::cached(zookeeper::shared()), $($name: $managers;)*);
        contract!(plain_on_an_ensemble, Locks::new(ensemble()), $($name: $managers;)*);
        contract!(kept_on_an_ensemble, Locks::cached(ensemble()), $($name: $managers;)*);
    };
    ($module:ident, $locks:expr, $($name:ident: $managers:literal;)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    lock::$name(&managers($locks, $managers).await).await;
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
    an_owner_may_acquire_again_what_it_holds: 2;
    trying_waits_for_nobody: 2;
    the_list_names_holder_and_waiters: 2;
    random_sets_with_cancellations_all_finish: 3;
}
