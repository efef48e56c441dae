//! The deliveries that a process has and has not begun.
//!
//! Events of one order are handled one after the other, the earliest of those in hand first, and an order takes one slot at a
//! time: one that is slow, or waits for its next try elsewhere, holds up no other. Orders get their turns in the order in which
//! they came. Must not know what a delivery is.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// What belongs together. Whatever has no subject belongs to nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// Events of this subject.
    Subject(String),
    /// One of its own.
    Single(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Hand<T> {
    lanes: HashMap<Key, Lane<T>>,
    /// Whose turn it is: lanes that have something and of which nothing is being handled.
    turns: VecDeque<Key>,
    waiting: usize,
    arrived: u64,
}

#[derive(Debug)]
struct Lane<T> {
    /// By sequence, and of one sequence by arrival: copies of an event have the same.
    waiting: BTreeMap<(i64, u64), T>,
    is_busy: bool,
}

impl<T> Default for Hand<T> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), turns: VecDeque::new(), waiting: 0, arrived: 0 }
    }
}

impl<T> Hand<T> {
    /// Takes one in, with its subject and its place in that one's history, if it has any.
    pub(super) fn put(&mut self, place: Option<(&str, i64)>, item: T) {
        self.arrived += 1;
        let (key, sequence) = match place {
            Some((subject, sequence)) => (Key::Subject(subject.to_owned()), sequence),
            None => (Key::Single(self.arrived), 0),
        };
        let lane = self.lanes.entry(key.clone());
        let lane = lane.or_insert_with(|| Lane { waiting: BTreeMap::new(), is_busy: false });
        if lane.waiting.is_empty() && !lane.is_busy {
            self.turns.push_back(key);
        }
        lane.waiting.insert((sequence, self.arrived), item);
        self.waiting += 1;
    }

    /// The next one to begin. Of what belongs together with it nothing is given until [`Hand::done`].
    pub(super) fn next(&mut self) -> Option<(Key, T)> {
        let key = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&key)?;
        let (_, item) = lane.waiting.pop_first()?;
        lane.is_busy = true;
        self.waiting -= 1;
        Some((key, item))
    }

    /// The one of this key is done with.
    pub(super) fn done(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.is_busy = false;
        if lane.waiting.is_empty() {
            self.lanes.remove(key);
        } else {
            self.turns.push_back(key.clone());
        }
    }

    /// Whether nothing waits to be begun.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Everything that was not begun.
    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.turns.clear();
        self.waiting = 0;
        let lanes = self.lanes.values_mut();
        lanes.flat_map(|lane| std::mem::take(&mut lane.waiting).into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_takes_one_slot_and_its_earliest_event_is_next() {
        let mut hand = Hand::default();
        for (subject, sequence) in [("a", 3), ("a", 2), ("b", 1), ("a", 2)] {
            hand.put(Some((subject, sequence)), (subject, sequence));
        }
        let (a, first) = hand.next().expect("one");
        let (b, second) = hand.next().expect("another order");
        assert_eq!((first, second), (("a", 2), ("b", 1)));
        assert!(hand.next().is_none() && !hand.is_empty(), "the rest belongs to a");
        hand.put(Some(("a", 1)), ("a", 1));
        hand.done(&b);
        assert!(hand.next().is_none());
        let mut rest = Vec::new();
        hand.done(&a);
        while let Some((key, item)) = hand.next() {
            rest.push(item);
            hand.done(&key);
        }
        assert_eq!(rest, [("a", 1), ("a", 2), ("a", 3)]);
        assert!(hand.is_empty() && hand.lanes.is_empty() && hand.turns.is_empty());
    }

    #[test]
    fn what_has_no_subject_waits_for_nothing() {
        let mut hand = Hand::default();
        hand.put(None, 1);
        hand.put(None, 2);
        assert!(hand.next().is_some() && hand.next().is_some());
    }

    #[test]
    fn what_was_not_begun_can_be_given_back() {
        let mut hand = Hand::default();
        for sequence in 1..=3 {
            hand.put(Some(("a", sequence)), sequence);
        }
        hand.put(None, 4);
        let (key, _) = hand.next().expect("one");
        let mut rest = hand.take_all();
        rest.sort_unstable();
        assert_eq!((rest, hand.is_empty()), (vec![2, 3, 4], true));
        hand.done(&key);
        assert!(hand.next().is_none());
    }
}
