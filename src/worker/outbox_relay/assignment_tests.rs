//! Shares are complete, fair, the same for everybody, and move no more than they have to.

use proptest::prelude::*;

use super::*;

const SHARDS: usize = 16;

fn members(names: &[usize]) -> BTreeSet<String> {
    names.iter().map(|name| format!("relay-{name:02}")).collect()
}

/// Who leases what once everybody has its share.
fn owners(shares: &BTreeMap<String, Vec<i16>>) -> Vec<Option<String>> {
    let owner =
        |shard: i16| shares.iter().find(|(_, share)| share.contains(&shard)).map(|(name, _)| name.clone());
    (0..i16::try_from(SHARDS).unwrap()).map(owner).collect()
}

fn moved(before: &[Option<String>], after: &[Option<String>]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[test]
fn the_first_has_everything_and_the_second_gets_half() {
    let first = shares(&members(&[1]), &vec![None; SHARDS]);
    assert_eq!(first["relay-01"].len(), SHARDS);
    let second = shares(&members(&[1, 2]), &owners(&first));
    assert_eq!(second["relay-01"], (0..8).collect::<Vec<_>>());
    assert_eq!(second["relay-02"], (8..16).collect::<Vec<_>>());
    assert_eq!(shares(&BTreeSet::new(), &owners(&first)), BTreeMap::new());
}

#[test]
fn a_share_that_is_handed_over_piece_by_piece_stays_the_same() {
    let alone = owners(&shares(&members(&[2]), &vec![None; SHARDS]));
    let all = members(&[1, 2, 3]);
    let goal = shares(&all, &alone);
    let mut leased = alone;
    for shard in [15, 3, 8, 12] {
        leased[shard] = owners(&goal)[shard].clone();
        let now = shares(&all, &leased);
        let lost = |name: &str| goal[name].iter().filter(|s| !now[name].contains(s)).count();
        assert_eq!(["relay-01", "relay-02", "relay-03"].map(lost), [0; 3], "{now:?}");
    }
}

proptest! {
    #[test]
    fn shares_are_complete_and_fair_whoever_leases_what(
        names in prop::collection::btree_set(0_usize..40, 1..20),
        leased in prop::collection::vec(prop::option::of(0_usize..40), SHARDS),
    ) {
        let names: Vec<usize> = names.into_iter().collect();
        let leased: Vec<_> = leased.into_iter().map(|name| name.map(|name| format!("relay-{name:02}"))).collect();
        let shares = shares(&members(&names), &leased);
        let mut all: Vec<i16> = shares.values().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..16).collect::<Vec<_>>());
        let sizes = || shares.values().map(Vec::len);
        prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        // Nobody gives anything up below what everybody has.
        for (name, share) in &shares {
            let kept = share.iter().filter(|&&s| leased[usize::try_from(s).unwrap()].as_ref() == Some(name)).count();
            let had = leased.iter().filter(|owner| owner.as_ref() == Some(name)).count();
            prop_assert_eq!(kept, had.min(share.len()));
        }
    }

    #[test]
    fn one_that_comes_or_goes_moves_only_its_own_share(count in 1_usize..20, other in 0_usize..20) {
        let names: Vec<usize> = (0..count).collect();
        let before = owners(&shares(&members(&names), &vec![None; SHARDS]));
        let with: Vec<usize> = (0..=count).collect();
        let after = owners(&shares(&members(&with), &before));
        let newcomer = after.iter().filter(|owner| owner.as_deref() == Some(&format!("relay-{count:02}"))).count();
        prop_assert_eq!(moved(&before, &after), newcomer);
        let gone = other % count;
        let left: Vec<usize> = (0..count).filter(|name| *name != gone).collect();
        let had = before.iter().filter(|owner| owner.as_deref() == Some(&format!("relay-{gone:02}"))).count();
        let after = owners(&shares(&members(&left), &before));
        prop_assert_eq!(moved(&before, &after), had);
    }
}
