//! Which orders are placed together, and which have to wait: the scheduling of the reservation engine. Pure.
//!
//! Two batches are never in flight at the same time that want the same SKU, the same idempotency key or the same client
//! reference. Within a batch orders may share SKUs (the decision takes one after the other), but neither of the other two.
//!
//! Orders that share a SKU are taken in the order in which they came: one that has to wait keeps its SKUs from later
//! orders, so that a large order is not overtaken for ever, and whoever shares no SKU with it passes.

use std::collections::{HashSet, VecDeque};

/// What an order wants, as hashes: two that collide only wait for each other without need.
#[derive(Debug, Clone, Default)]
pub(super) struct Wants {
    /// The SKUs, at whatever location.
    pub(super) skus: Vec<u64>,
    /// Its idempotency key, and its client reference if it has one.
    pub(super) identity: Vec<u64>,
    /// How many lines it has.
    pub(super) lines: usize,
}

impl Wants {
    fn all(&self) -> impl Iterator<Item = &u64> {
        self.skus.iter().chain(&self.identity)
    }
}

/// How large a batch may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) orders: usize,
    /// Except that an order with more lines makes a batch of its own.
    pub(super) lines: usize,
}

/// Orders that are placed together.
#[derive(Debug)]
pub(super) struct Batch<T> {
    pub(super) items: Vec<T>,
    /// What no other batch may want until [`Queue::finish`].
    pub(super) wanted: HashSet<u64>,
}

/// The orders that wait, oldest first.
#[derive(Debug)]
pub(super) struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<(Wants, T)>,
    in_flight: HashSet<u64>,
}

impl<T> Queue<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, waiting: VecDeque::new(), in_flight: HashSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether an order like this has to wait for a batch in flight.
    pub(super) fn has_to_wait(&self, wants: &Wants) -> bool {
        wants.all().any(|key| self.in_flight.contains(key))
    }

    /// Adds an order at the end.
    pub(super) fn push(&mut self, wants: Wants, item: T) {
        self.waiting.push_back((wants, item));
    }

    /// Takes every order that can be placed now, up to the limits of a batch.
    pub(super) fn take(&mut self) -> Option<Batch<T>> {
        let mut batch = Batch { items: Vec::new(), wanted: HashSet::new() };
        let (mut identities, mut kept_skus) = (HashSet::new(), HashSet::new());
        let (mut passed, mut lines) = (Vec::new(), 0);
        while batch.items.len() < self.limits.orders {
            let Some((wants, item)) = self.waiting.pop_front() else { break };
            let twin =
                wants.identity.iter().any(|key| identities.contains(key) || self.in_flight.contains(key));
            let blocked =
                wants.skus.iter().any(|key| self.in_flight.contains(key) || kept_skus.contains(key));
            if twin || blocked {
                // A twin waits for one order only, and keeps nobody else.
                if blocked {
                    kept_skus.extend(wants.skus.iter().copied());
                }
                identities.extend(wants.identity.iter().copied());
                passed.push((wants, item));
                continue;
            }
            if !batch.items.is_empty() && lines + wants.lines > self.limits.lines {
                passed.push((wants, item));
                break;
            }
            lines += wants.lines;
            identities.extend(wants.identity.iter().copied());
            batch.wanted.extend(wants.all().copied());
            batch.items.push(item);
        }
        for entry in passed.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        if batch.items.is_empty() {
            return None;
        }
        self.in_flight.extend(batch.wanted.iter().copied());
        Some(batch)
    }

    /// A batch is through.
    pub(super) fn finish(&mut self, wanted: &HashSet<u64>) {
        self.in_flight.retain(|key| !wanted.contains(key));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
