//! A map that keeps the newest entries and forgets the oldest: what bounds the sandbox's memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// At most `max` entries, by the order of their insertion.
#[derive(Debug)]
pub(super) struct Recent<V> {
    entries: HashMap<Arc<str>, V>,
    order: VecDeque<Arc<str>>,
    max: usize,
}

impl<V> Recent<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max: max.max(1) }
    }

    /// Adds an entry under a new key, and hands out the oldest one if there were too many. A key that exists keeps its
    /// place and takes the value.
    pub(super) fn insert(&mut self, key: &str, value: V) -> Option<V> {
        if let Some(old) = self.entries.get_mut(key) {
            *old = value;
            return None;
        }
        let key = Arc::<str>::from(key);
        self.entries.insert(Arc::clone(&key), value);
        self.order.push_back(key);
        if self.order.len() <= self.max {
            return None;
        }
        self.order.pop_front().and_then(|oldest| self.entries.remove(&oldest))
    }

    pub(super) fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// The newest first.
    pub(super) fn newest(&self) -> impl Iterator<Item = &V> {
        self.order.iter().rev().filter_map(|key| self.entries.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.insert("a", 1), None);
        assert_eq!(recent.insert("b", 2), None);
        assert_eq!(recent.insert("a", 3), None);
        assert_eq!(recent.insert("c", 4), Some(3));
        assert_eq!((recent.get("a"), recent.get("b")), (None, Some(&2)));
        assert_eq!(recent.newest().copied().collect::<Vec<_>>(), [4, 2]);
    }
}
