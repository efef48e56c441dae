//! Which SKUs had a purchase limit when they were last looked at: a hint which batches need not be tried in one statement,
//! because the statement would refuse them. It decides nothing, and may be wrong in both directions.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use crate::domain::inventory::Sku;

/// More SKUs than this are not remembered: start over instead of growing.
const SKUS_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct LimitsSeen(Mutex<HashSet<Sku>>);

impl LimitsSeen {
    /// These SKUs have a limit, or have none.
    pub(super) fn record<'a>(&self, skus: impl IntoIterator<Item = (&'a Sku, bool)>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (sku, is_limited) in skus {
            if !is_limited {
                seen.remove(sku);
            } else if !seen.contains(sku) {
                if seen.len() >= SKUS_MAX {
                    seen.clear();
                }
                seen.insert(sku.clone());
            }
        }
    }

    /// Whether one of them is known to have had a limit.
    pub(super) fn is_limited<'a>(&self, skus: impl IntoIterator<Item = &'a Sku>) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !seen.is_empty() && skus.into_iter().any(|sku| seen.contains(sku))
    }
}
