//! From which levels a SKU is taken where a line names no location, as the database last said, so that an order can be
//! written in one statement. A hint, as [`super::levels_seen`] is: out of date it costs a try that is refused, or a
//! location that is not the best any more; what has to be decided is decided on what the database says.
//!
//! A line whose SKU lies at one location costs one look into the map, and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Engine, Error, ReservationEngine, levels_seen::LevelsSeen};
use crate::{
    app::retry::retry,
    domain::{
        allocation::Allocation,
        inventory::{InventoryLevel, LevelKey, Sku},
        new_order::OrderLineDraft,
    },
    store::{self, candidates},
};

/// After so long it is read again by whoever comes, and after twice as long nobody relies on it any more: a new level, a new
/// priority or stock at a better location goes unnoticed no longer.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// How many SKUs one query reads again: what is known is locked while its answer is noted.
const RENEWED_AT_ONCE: usize = 1000;

/// More SKUs than this are not remembered: start over instead of growing.
const SKUS_MAX: usize = 20_000;

/// A level that may be chosen.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) key: LevelKey,
    /// What of its availability is not on the shelf.
    pub(super) backorder_limit: i64,
}

impl ReservationEngine {
    /// From where an order's lines will be taken if it is placed at once. `None` if that has to be decided.
    ///
    /// # Errors
    /// The database is asked about SKUs that are new to this process, and may not answer.
    pub(in crate::app) async fn expect_allocations(
        &self,
        lines: &[OrderLineDraft],
        now: Instant,
    ) -> Result<Option<Vec<Allocation>>, Error> {
        let engine = &self.0;
        let (expected, due) = {
            let mut known = engine.candidates.lock();
            let due = known.take_due(now);
            (known.expect(lines, &engine.seen), due)
        };
        if !due.is_empty() {
            // In the background: what is known is good enough for the orders that come meanwhile.
            tokio::spawn(engine.clone().renew_candidates(due));
        }
        match expected {
            Ok(expected) => Ok(expected),
            Err(new) => {
                engine.read_candidates(&new).await?;
                // What is unknown now is a SKU that does not exist.
                Ok(engine.candidates.lock().expect(lines, &engine.seen).unwrap_or_default())
            }
        }
    }
}

impl Engine {
    async fn renew_candidates(self: Arc<Self>, skus: Vec<Sku>) {
        for skus in skus.chunks(RENEWED_AT_ONCE) {
            if let Err(error) = self.read_candidates(skus).await {
                tracing::warn!(%error, "the locations of SKUs could not be read again");
                return;
            }
        }
    }

    async fn read_candidates(&self, skus: &[Sku]) -> Result<(), Error> {
        let names: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let silent = |_| store::Error::Unavailable("PostgreSQL did not answer in time".into());
        let levels = retry("read_candidates", || async {
            let read = async { candidates::list(&mut *self.store.conn().await?, &names).await };
            Ok(timeout(self.store.patience(), read).await.map_err(silent)??)
        })
        .await?;
        let several = by_sku(&levels).filter(|levels| levels.len() > 1).flatten();
        self.seen.record(several.map(|level| (&level.key, level.available())));
        self.candidates.lock().record(skus, &levels);
        Ok(())
    }
}

fn by_sku(levels: &[InventoryLevel]) -> impl Iterator<Item = &[InventoryLevel]> {
    levels.chunk_by(|level, next| level.key.sku == next.key.sku)
}

/// What is known of each SKU.
#[derive(Debug)]
pub(super) struct CandidatesSeen(Mutex<Known>);

#[derive(Debug)]
struct Known {
    /// Best first.
    by_sku: HashMap<Sku, Box<[Candidate]>>,
    /// When all of them are to be read again.
    due: Instant,
}

impl Default for CandidatesSeen {
    fn default() -> Self {
        Self(Mutex::new(Known { by_sku: HashMap::new(), due: Instant::now() + RENEWED_EVERY }))
    }
}

impl CandidatesSeen {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// See [`ReservationEngine::expect_allocations`].
    ///
    /// # Errors
    /// The SKUs of which nothing is known.
    fn expect(
        &self,
        lines: &[OrderLineDraft],
        seen: &LevelsSeen,
    ) -> Result<Option<Vec<Allocation>>, Vec<Sku>> {
        let mut expected = Vec::with_capacity(lines.len());
        for line in lines {
            let level = match line.named_level() {
                Some(named) => named,
                None => match self.by_sku.get(&line.sku).map(|candidates| &**candidates) {
                    None => return Err(self.unknown(lines)),
                    Some([only]) => only.key.clone(),
                    Some(several) => {
                        let Some(best) = seen.best(several, line.quantity) else { return Ok(None) };
                        best.clone()
                    }
                },
            };
            expected.push(Allocation::whole(level, line.quantity));
        }
        Ok(Some(expected))
    }

    fn unknown(&self, lines: &[OrderLineDraft]) -> Vec<Sku> {
        let is_unknown =
            |line: &&OrderLineDraft| line.location_id.is_none() && !self.by_sku.contains_key(&line.sku);
        lines.iter().filter(is_unknown).map(|line| line.sku.clone()).collect()
    }

    /// Every SKU that is known, if it is time to read them again. Only the first to ask is told so.
    fn take_due(&mut self, now: Instant) -> Vec<Sku> {
        if now < self.due {
            return Vec::new();
        }
        if now >= self.due + RENEWED_EVERY {
            // Nobody came for long.
            self.by_sku.clear();
        }
        self.due = now + RENEWED_EVERY;
        self.by_sku.keys().cloned().collect()
    }

    /// Notes what was read of these SKUs: by SKU, best first. What has no level is forgotten.
    fn record(&mut self, skus: &[Sku], levels: &[InventoryLevel]) {
        for sku in skus {
            self.by_sku.remove(sku);
        }
        if self.by_sku.len() + skus.len() > SKUS_MAX {
            self.by_sku.clear();
        }
        let candidate = |level: &InventoryLevel| Candidate {
            key: level.key.clone(),
            backorder_limit: level.backorder_limit,
        };
        for levels in by_sku(levels) {
            if let [first, ..] = levels {
                self.by_sku.insert(first.key.sku.clone(), levels.iter().map(candidate).collect());
            }
        }
    }
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
