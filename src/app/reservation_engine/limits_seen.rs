//! Which SKUs had a purchase limit when they were last looked at: a hint which batches need not be tried in one statement,
//! because the statement would refuse them. It decides nothing, and may be wrong in both directions.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recent::Recent;
use crate::domain::inventory::Sku;

/// How many SKUs a generation remembers.
const SKUS_MAX: usize = 20_000;

#[derive(Debug)]
pub(super) struct LimitsSeen(Mutex<Recent<Sku, ()>>);

impl Default for LimitsSeen {
    fn default() -> Self {
        Self(Mutex::new(Recent::new(SKUS_MAX, |()| 1)))
    }
}

impl LimitsSeen {
    fn lock(&self) -> MutexGuard<'_, Recent<Sku, ()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These SKUs have a limit, or have none.
    pub(super) fn record<'a>(&self, skus: impl IntoIterator<Item = (&'a Sku, bool)>) {
        let mut seen = self.lock();
        for (sku, is_limited) in skus {
            if is_limited {
                seen.put(sku, ());
            } else {
                seen.remove(sku);
            }
        }
    }

    /// Whether one of them is known to have had a limit.
    pub(super) fn is_limited<'a>(&self, skus: impl IntoIterator<Item = &'a Sku>) -> bool {
        let mut seen = self.lock();
        !seen.is_empty() && skus.into_iter().any(|sku| seen.get(sku).is_some())
    }
}
