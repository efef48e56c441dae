//! What levels had left when they were last written or read: a hint from which of several levels to take a line, and which
//! batches need not be tried in one statement, because the statement would refuse them. It decides nothing, and may be wrong
//! in both directions.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::candidates::Candidate;
use crate::domain::inventory::LevelKey;

/// More levels than this are not remembered: start over instead of growing.
const LEVELS_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct LevelsSeen(Mutex<HashMap<LevelKey, i64>>);

impl LevelsSeen {
    pub(super) fn record<'a>(&self, levels: impl IntoIterator<Item = (&'a LevelKey, i64)>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, available) in levels {
            if let Some(known) = seen.get_mut(key) {
                *known = available;
                continue;
            }
            if seen.len() >= LEVELS_MAX {
                seen.clear();
            }
            seen.insert(key.clone(), available);
        }
    }

    /// The first that had so many units on the shelf. `None` where that is not known, or none had: then it has to be decided.
    pub(super) fn best<'a>(&self, candidates: &'a [Candidate], quantity: i64) -> Option<&'a LevelKey> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted
            .into_iter()
            .any(|(key, quantity)| seen.get(key).is_some_and(|&available| available <= quantity))
    }
}
