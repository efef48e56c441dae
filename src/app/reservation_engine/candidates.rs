//! From which levels a SKU is taken where a line names no location, as the database last said, so that an order can be
//! written in one statement. A hint, as [`super::levels_seen`] is: out of date it costs a try that is refused, or a
//! location that is not the best any more; what has to be decided is decided on what the database says.
//!
//! A line whose SKU lies at one location costs one look into the map, and nothing else.
//!
//! Invariants: nothing is expected from what was read longer ago than [`RELIED_ON`] after it was read, whatever becomes of the renewals, of
//! which there is one at a time; what is remembered is bounded in levels, and what is read again is what was asked for
//! lately. A SKU that has no level at an active location takes no room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Engine, Error, levels_seen::LevelsSeen, recent::Recent};
use crate::{
    app::retry::retry,
    domain::{
        allocation::Allocation,
        inventory::{InventoryLevel, LevelKey, Sku},
        new_order::OrderLineDraft,
    },
    store::{self, candidates},
};

/// After so long everything is read again, as soon as somebody comes.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// For so long what was read is relied on: a new level, a new priority or stock at a better location goes unnoticed no longer.
const RELIED_ON: Duration = Duration::from_secs(10);

/// What nobody asked for in so long, or in up to twice as long, is not read again but forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// How many SKUs one query reads again: what is known is locked while its answer is noted.
const RENEWED_AT_ONCE: usize = 200;

/// How many levels of a SKU are remembered, the best ones. Where none of them has enough, it has to be decided.
const LEVELS_OF_SKU: i64 = 50;

/// How many levels a generation of [`Recent`] remembers, here and in [`LevelsSeen`].
pub(super) const LEVELS_MAX: usize = 20_000;

/// A level that may be chosen.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) key: LevelKey,
    /// What of its availability is not on the shelf.
    pub(super) backorder_limit: i64,
}

impl Engine {
    /// From where an order's lines will be taken if it is placed at once. `None` if that has to be decided.
    ///
    /// # Errors
    /// The database is asked about SKUs that this process knows nothing of, or only what is too old, and may not answer.
    pub(super) async fn expect_allocations(
        self: &Arc<Self>,
        lines: &[OrderLineDraft],
    ) -> Result<Option<Vec<Allocation>>, Error> {
        let (expected, renewal) = {
            let (mut known, now) = (self.candidates.lock(), Instant::now());
            (known.expect(lines, &self.seen, now), known.begin_renewal(now))
        };
        if let Some(renewal) = renewal {
            // In the background: what is known is good enough for the orders that come meanwhile.
            tokio::spawn(self.clone().renew_candidates(renewal));
        }
        match expected {
            Ok(expected) => Ok(expected),
            Err(new) => {
                // Boxed: few orders come here, and all would carry its state.
                Box::pin(self.read_candidates(&new)).await?;
                // What is unknown now is a SKU that does not exist.
                let mut known = self.candidates.lock();
                Ok(known.expect(lines, &self.seen, Instant::now()).unwrap_or_default())
            }
        }
    }

    async fn renew_candidates(self: Arc<Self>, renewal: Renewal) {
        for skus in renewal.skus.chunks(RENEWED_AT_ONCE) {
            if let Err(error) = self.read_candidates(skus).await {
                tracing::warn!(%error, skus = skus.len(), "the locations of SKUs could not be read again");
            }
        }
    }

    async fn read_candidates(&self, skus: &[Sku]) -> Result<(), Error> {
        let names: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let silent = |_| store::Error::Unavailable("PostgreSQL did not answer in time".into());
        let (read_at, levels) = retry("read_candidates", || async {
            let read = async {
                let mut conn = self.store.conn_by_key().await?;
                Ok((Instant::now(), candidates::list(&mut conn, &names, LEVELS_OF_SKU).await?))
            };
            timeout(self.store.patience(), read).await.map_err(silent)?
        })
        .await?;
        let several = by_sku(&levels).filter(|levels| levels.len() > 1).flatten();
        self.seen.record(several.map(|level| (&level.key, level.available())));
        self.candidates.lock().record(skus, &levels, read_at);
        Ok(())
    }
}

fn by_sku(levels: &[InventoryLevel]) -> impl Iterator<Item = &[InventoryLevel]> {
    levels.chunk_by(|level, next| level.key.sku == next.key.sku)
}

/// What is known of each SKU.
#[derive(Debug)]
pub(super) struct CandidatesSeen(Mutex<Known>);

/// What was read of a SKU.
#[derive(Debug)]
struct SkuSeen {
    read_at: Instant,
    /// Best first, at least one.
    candidates: Box<[Candidate]>,
}

#[derive(Debug)]
struct Known {
    by_sku: Recent<Sku, Arc<SkuSeen>>,
    /// When all of them are to be read again.
    due: Instant,
    /// When those that nobody asked for since the last time are to be forgotten.
    turn_due: Instant,
    /// Dangles where no renewal is under way.
    renewal: Weak<()>,
}

/// A renewal that is under way as long as this lives.
struct Renewal {
    skus: Vec<Sku>,
    _under_way: Arc<()>,
}

impl Default for CandidatesSeen {
    fn default() -> Self {
        Self(Mutex::new(Known::new(Instant::now())))
    }
}

impl CandidatesSeen {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(now: Instant) -> Self {
        Self {
            by_sku: Recent::new(LEVELS_MAX, |seen| seen.candidates.len()),
            due: now + RENEWED_EVERY,
            turn_due: now + FORGOTTEN_AFTER,
            renewal: Weak::new(),
        }
    }

    /// See [`Engine::expect_allocations`].
    ///
    /// # Errors
    /// The SKUs of which nothing is known that can be relied on.
    fn expect(
        &mut self,
        lines: &[OrderLineDraft],
        seen: &LevelsSeen,
        now: Instant,
    ) -> Result<Option<Vec<Allocation>>, Vec<Sku>> {
        let mut expected = Vec::with_capacity(lines.len());
        for line in lines {
            let level = match line.named_level() {
                Some(named) => named,
                None => match self.get(&line.sku, now).as_deref().map(|seen| &*seen.candidates) {
                    None => return Err(self.unknown(lines, now)),
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

    fn get(&mut self, sku: &Sku, now: Instant) -> Option<Arc<SkuSeen>> {
        self.by_sku.get(sku).filter(|seen| now.saturating_duration_since(seen.read_at) < RELIED_ON)
    }

    fn unknown(&mut self, lines: &[OrderLineDraft], now: Instant) -> Vec<Sku> {
        let free = lines.iter().filter(|line| line.location_id.is_none());
        free.filter(|line| self.get(&line.sku, now).is_none()).map(|line| line.sku.clone()).collect()
    }

    /// What is to be read again, if it is time to, and the last time is over.
    fn begin_renewal(&mut self, now: Instant) -> Option<Renewal> {
        if now < self.due || self.renewal.strong_count() > 0 {
            return None;
        }
        self.due = now + RENEWED_EVERY;
        if now >= self.turn_due {
            self.turn_due = now + FORGOTTEN_AFTER;
            self.by_sku.turn();
        }
        let under_way = Arc::new(());
        self.renewal = Arc::downgrade(&under_way);
        Some(Renewal { skus: self.by_sku.keys().cloned().collect(), _under_way: under_way })
    }

    /// Notes what was read of these SKUs: by SKU, best first. What has no level is forgotten.
    fn record(&mut self, skus: &[Sku], levels: &[InventoryLevel], read_at: Instant) {
        let candidate = |level: &InventoryLevel| Candidate {
            key: level.key.clone(),
            backorder_limit: level.backorder_limit,
        };
        let found: HashMap<&Sku, &[InventoryLevel]> =
            by_sku(levels).filter_map(|levels| Some((&levels.first()?.key.sku, levels))).collect();
        for sku in skus {
            let Some(levels) = found.get(sku) else {
                self.by_sku.remove(sku);
                continue;
            };
            let candidates = levels.iter().map(candidate).collect();
            self.by_sku.put(sku, Arc::new(SkuSeen { read_at, candidates }));
        }
    }
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
