//! The protocol of leases as it is, and with one thing changed.

use super::{
    super::{ends, finds, holds},
    ALL_OWNED, BOTH_PUBLISH, Change, FORMER_HAS_ROWS, ONE_MARKS, OWNER_MARKS, Protocol,
};

const FAULTS: usize = 4;

#[test]
fn leases_hold() {
    holds("leases", Protocol { faults: FAULTS, change: None }, &[BOTH_PUBLISH, FORMER_HAS_ROWS]);
}

#[test]
fn work_on_leases_ends() {
    ends("leases", &Protocol { faults: FAULTS - 1, change: None }, Protocol::work);
}

fn changed(name: &str, change: Change, property: &'static str) {
    finds(name, Protocol { faults: FAULTS, change: Some(change) }, property);
}

#[test]
fn without_the_epoch_check_a_former_owner_marks() {
    changed("leases, no epoch check", Change::NoEpochCheck, OWNER_MARKS);
}

#[test]
fn an_epoch_that_stays_lets_two_processes_mark() {
    changed("leases, the epoch stays", Change::EpochStays, ONE_MARKS);
}

#[test]
fn a_lease_without_an_end_leaves_its_shard_alone_for_ever() {
    changed("leases, no end", Change::LeaseWithoutEnd, ALL_OWNED);
}
