//! What was used lately, within a bound: a map of two generations.
//!
//! What is new or is asked for lives in the young generation. When that is full it becomes the old one, and what was in the
//! old one and was not asked for meanwhile is forgotten. So a flood of what is used once pushes out nothing that is in use,
//! and nothing has to be looked through to find what can go.

use std::{collections::HashMap, hash::Hash, mem::take};

/// See the module. Values are cheap to clone.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// What the young generation weighs.
    weight: usize,
    /// The most that a generation weighs; except that a single value may weigh more.
    max: usize,
    weigh: fn(&V) -> usize,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty map.
    pub(super) fn new(max: usize, weigh: fn(&V) -> usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), weight: 0, max, weigh }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// What is known under this key, which was asked for by that.
    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// Notes what is known from now on. What is known already counts as used by that only if it weighs something else.
    pub(super) fn put(&mut self, key: &K, value: V) {
        let known = self.young.get_mut(key).or_else(|| self.old.get_mut(key));
        if let Some(known) = known
            && (self.weigh)(known) == (self.weigh)(&value)
        {
            *known = value;
            return;
        }
        self.remove(key);
        self.insert(key.clone(), value);
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some(value) = self.young.remove(key) {
            self.weight -= (self.weigh)(&value);
        } else {
            self.old.remove(key);
        }
    }

    /// Begins a new generation: what is not asked for until the next one begins is forgotten.
    pub(super) fn turn(&mut self) {
        self.old = take(&mut self.young);
        self.weight = 0;
    }

    /// Every key that is known, in no order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.young.keys().chain(self.old.keys())
    }

    fn insert(&mut self, key: K, value: V) {
        let weight = (self.weigh)(&value);
        if self.weight + weight > self.max {
            self.turn();
        }
        self.weight += weight;
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Values that weigh what they are.
    fn recent(max: usize) -> Recent<u8, usize> {
        Recent::new(max, |weight| *weight)
    }

    fn known(recent: &Recent<u8, usize>) -> Vec<u8> {
        let keys: BTreeSet<u8> = recent.keys().copied().collect();
        keys.into_iter().collect()
    }

    #[test]
    fn what_is_in_use_outlives_a_flood_of_what_is_not() {
        let mut recent = recent(3);
        recent.put(&1, 1);
        for passing in 10..100 {
            recent.put(&passing, 1);
            assert_eq!(recent.get(&1), Some(1), "{passing}");
        }
    }

    #[test]
    fn what_is_written_and_not_asked_for_is_forgotten_with_the_second_turn() {
        let mut recent = recent(9);
        recent.put(&1, 1);
        recent.put(&2, 1);
        recent.turn();
        recent.put(&2, 1);
        assert_eq!((recent.get(&1), known(&recent)), (Some(1), vec![1, 2]));
        recent.turn();
        assert_eq!(known(&recent), [1]);
    }

    #[test]
    fn what_weighs_more_takes_more_room() {
        let mut recent = recent(10);
        recent.put(&1, 4);
        recent.put(&2, 4);
        assert_eq!(known(&recent), [1, 2]);
        // The first is too heavy for this generation now.
        recent.put(&1, 7);
        assert_eq!((known(&recent), recent.weight), (vec![1, 2], 7));
        recent.put(&3, 4);
        assert_eq!((known(&recent), recent.weight), (vec![1, 3], 4));
        recent.remove(&3);
        recent.remove(&1);
        assert!(recent.is_empty() && recent.weight == 0);
    }

    proptest! {
        #[test]
        fn no_generation_weighs_more_than_its_bound(steps in prop::collection::vec((0_u8..4, 0_u8..12, 1_usize..5), 0..200)) {
            let mut recent = recent(12);
            for (step, key, weight) in steps {
                match step {
                    0 => prop_assert_eq!(recent.get(&key).is_some(), known(&recent).contains(&key)),
                    1 => recent.remove(&key),
                    _ => {
                        recent.put(&key, weight);
                        prop_assert_eq!(recent.get(&key), Some(weight));
                    }
                }
                let young: usize = recent.young.values().sum();
                let old: usize = recent.old.values().sum();
                prop_assert!(young == recent.weight && young <= 12 && old <= 12, "{:?}", recent);
                prop_assert!(recent.young.keys().all(|key| !recent.old.contains_key(key)), "{:?}", recent);
            }
        }
    }
}
