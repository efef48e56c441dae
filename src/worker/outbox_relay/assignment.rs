//! Which shards are whose: every relay computes the same shares from the members and from who leases what.
//!
//! Pure. Fair: no member has more than one shard more than another. Steady: a member keeps what it leases up to its share, so
//! that no more shards move than have to when one comes or goes.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    iter,
};

/// The share of each member; `owners` says who leases each shard now, in their order. Owners that are not members have none.
pub(super) fn shares(members: &BTreeSet<String>, owners: &[Option<String>]) -> BTreeMap<String, Vec<i16>> {
    let mut shares: BTreeMap<&str, Vec<i16>> =
        members.iter().map(|name| (name.as_str(), Vec::new())).collect();
    let mut free = Vec::new();
    for (shard, owner) in (0..).zip(owners) {
        match owner.as_deref().and_then(|owner| shares.get_mut(owner)) {
            Some(share) => share.push(shard),
            None => free.push(shard),
        }
    }
    // Who leases most keeps most: where the shards do not divide evenly, some members have one more.
    let mut order: Vec<&str> = shares.keys().copied().collect();
    order.sort_by_key(|name| Reverse(shares[name].len()));
    let quota = |place: usize| (owners.len() + order.len() - 1 - place) / order.len();
    let quotas: BTreeMap<&str, usize> =
        (0..).zip(&order).map(|(place, name)| (*name, quota(place))).collect();
    for (name, share) in &mut shares {
        free.extend(share.drain(quotas[name].min(share.len())..));
    }
    // Lowest shards to first names, so that what is wanted stays the same while it is handed over piece by piece.
    free.sort_unstable_by_key(|shard| Reverse(*shard));
    for (name, share) in &mut shares {
        let missing = quotas[name] - share.len();
        share.extend(iter::from_fn(|| free.pop()).take(missing));
    }
    shares.into_iter().map(|(name, share)| (name.to_owned(), share)).collect()
}

#[cfg(test)]
#[path = "assignment_tests.rs"]
mod tests;
