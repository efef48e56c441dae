//! What levels had left when they were last written or read: a hint from which of several levels to take a line, and which
//! batches need not be tried in one statement, because the statement would refuse them. It decides nothing, and may be wrong
//! in both directions.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    candidates::{Candidate, LEVELS_MAX},
    recent::Recent,
};
use crate::domain::inventory::LevelKey;

#[derive(Debug)]
pub(super) struct LevelsSeen(Mutex<Recent<LevelKey, i64>>);

impl Default for LevelsSeen {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(LEVELS_MAX, |_| 1)))
    }
}

impl LevelsSeen {
    fn lock(&self) -> MutexGuard<'_, Recent<LevelKey, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record<'a>(&self, levels: impl IntoIterator<Item = (&'a LevelKey, i64)>) {
        let mut seen = self.lock();
        for (key, available) in levels {
            seen.put(key, available);
        }
    }

    /// The first that had so many units on the shelf. `None` where that is not known, or none had: then it has to be decided.
    pub(super) fn best<'a>(&self, candidates: &'a [Candidate], quantity: i64) -> Option<&'a LevelKey> {
        let mut seen = self.lock();
        for candidate in candidates {
            let available = seen.get(&candidate.key)?;
            if available - candidate.backorder_limit >= quantity {
                return Some(&candidate.key);
            }
        }
        None
    }

    /// Whether one of them is known to have had too little, or nothing to spare: that a level runs out has to be told.
    pub(super) fn is_short<'a>(&self, wanted: impl IntoIterator<Item = (&'a LevelKey, i64)>) -> bool {
        let mut seen = self.lock();
        let mut wanted = wanted.into_iter();
        wanted.any(|(key, quantity)| seen.get(key).is_some_and(|available| available <= quantity))
    }
}
