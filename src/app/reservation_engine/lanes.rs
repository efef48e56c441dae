//! How many batches are in flight at a time: one, as long as none is slow. Pure.
//!
//! What comes while a batch is written makes the next one larger, and a batch costs about as much for twice as many orders. So
//! another lane opens only once all that are in use are slow: a batch that waits for a row, which somebody else has locked, does
//! not hold up the orders of other SKUs.
//!
//! Invariant: at most `most` batches are in flight.

use std::time::Duration;

use tokio::time::Instant;

/// A batch that takes longer is slow: it waits for somebody. Most take a hundredth of it, and on a busy machine a tenth.
const SLOW: Duration = Duration::from_millis(200);

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    most: usize,
    /// When each batch in flight began.
    begun: Vec<Instant>,
}

impl Lanes {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, begun: Vec::new() }
    }

    /// How many batches are in flight.
    pub(super) fn busy(&self) -> usize {
        self.begun.len()
    }

    /// Whether another batch may begin.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        self.begun.len() < self.most && self.opens_at().is_none_or(|opens_at| opens_at <= now)
    }

    /// When the next lane opens, if no batch ends before. `None`: there is none, or none is in use.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        let newest = self.begun.iter().max().filter(|_| self.begun.len() < self.most);
        newest.map(|newest| *newest + SLOW)
    }

    /// A batch begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.begun.push(now);
    }

    /// The batch that began then has ended.
    pub(super) fn end(&mut self, begun: Instant) {
        if let Some(index) = self.begun.iter().position(|one| *one == begun) {
            self.begun.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_batch_begins_once_all_in_flight_are_slow() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut lanes = Lanes::new(3);
        assert!(lanes.is_open(start));
        lanes.begin(start);
        assert!(!lanes.is_open(after(199)) && lanes.is_open(after(200)));
        lanes.begin(after(210));
        assert!(!lanes.is_open(after(409)) && lanes.is_open(after(410)));
        lanes.begin(after(410));
        assert_eq!((lanes.busy(), lanes.opens_at()), (3, None));
        assert!(!lanes.is_open(after(1_000)));
    }

    #[test]
    fn a_lane_is_free_when_its_batch_ends() {
        let start = Instant::now();
        let later = start + Duration::from_millis(210);
        let mut lanes = Lanes::new(2);
        lanes.begin(start);
        lanes.begin(later);
        // The slow one does not count, and the other one has ended.
        lanes.end(later);
        assert!(lanes.is_open(later));
        lanes.begin(later);
        lanes.end(start);
        assert!(!lanes.is_open(later), "one that is not slow is in flight");
        lanes.end(later);
        assert_eq!((lanes.busy(), lanes.opens_at()), (0, None));
    }
}
