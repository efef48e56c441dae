//! From which levels a SKU is taken where a line names no location, as the database last said, so that an order can be
//! written in one statement. A hint, as [`super::levels_seen`] is: out of date it costs a try that is refused, or a
//! location that is not the best any more for [`RENEWED_EVERY`]; what has to be decided is decided on what the database says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{Engine, Error, Placement, ReservationEngine};
use crate::{
    app::retry::retry,
    domain::{
        allocation::{Allocation, Demand},
        inventory::{InventoryLevel, LevelKey, Sku},
    },
    store::{self, candidates},
};

/// How long a new level, a new priority or stock at a better location may go unnoticed.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// More SKUs than this are not remembered: start over instead of growing.
const SKUS_MAX: usize = 20_000;

/// A level that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::app) struct Candidate {
    pub(super) key: LevelKey,
    /// What of its availability is not on the shelf.
    pub(super) backorder_limit: i64,
}

/// The levels of one SKU that may be chosen, best first.
pub(in crate::app) type Candidates = Arc<[Candidate]>;

impl ReservationEngine {
    /// For each line the levels that it may be taken from. None for one that names its location, or an unknown SKU.
    ///
    /// # Errors
    /// The database is asked about SKUs that are new to this process, and may not answer.
    pub(in crate::app) async fn find_candidates(
        &self,
        demands: &[Demand],
    ) -> Result<Vec<Option<Candidates>>, Error> {
        let engine = &self.0;
        if let Some(known) = engine.candidates.take_due() {
            // In the background: what is known is good enough for the order that happens to come now.
            let engine = engine.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.read_candidates(&known).await {
                    tracing::warn!(%error, "the locations of SKUs could not be read again");
                }
            });
        }
        let found = engine.candidates.find(demands);
        let is_new = |(demand, found): &(&Demand, &Option<Candidates>)| {
            demand.location_id.is_none() && found.is_none()
        };
        let new: Vec<Sku> =
            demands.iter().zip(&found).filter(is_new).map(|(demand, _)| demand.sku.clone()).collect();
        if new.is_empty() {
            return Ok(found);
        }
        engine.read_candidates(&new).await?;
        Ok(engine.candidates.find(demands))
    }
}

impl Engine {
    async fn read_candidates(&self, skus: &[Sku]) -> Result<(), Error> {
        let names: Vec<&str> = skus.iter().map(Sku::as_str).collect();
        let silent = |_| store::Error::Unavailable("PostgreSQL did not answer in time".into());
        let levels = retry("read_candidates", || async {
            let read = async { candidates::list(&mut *self.store.conn().await?, &names).await };
            Ok(timeout(self.store.patience(), read).await.map_err(silent)??)
        })
        .await?;
        self.seen.record(levels.iter().map(|level| (&level.key, level.available())));
        self.candidates.record(skus, &levels);
        Ok(())
    }

    /// From where each line will be taken if the order is placed at once. `None` if that has to be decided.
    pub(super) fn expect_allocations(&self, placement: &Placement) -> Option<Vec<Allocation>> {
        let expect = |(demand, candidates): (&Demand, &Option<Candidates>)| {
            let level = match demand.named_level() {
                Some(named) => named,
                None => self.seen.best(candidates.as_deref()?, demand.quantity)?.clone(),
            };
            Some(Allocation::whole(level, demand.quantity))
        };
        placement.demands.iter().zip(&placement.candidates).map(expect).collect()
    }
}

/// What is known of each SKU.
#[derive(Debug)]
pub(super) struct CandidatesSeen(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    by_sku: HashMap<Sku, Candidates>,
    /// When all of them are to be read again.
    due: Instant,
}

impl Default for CandidatesSeen {
    fn default() -> Self {
        Self(Mutex::new(Seen { by_sku: HashMap::new(), due: Instant::now() + RENEWED_EVERY }))
    }
}

impl CandidatesSeen {
    /// What is known for each line that names no location.
    fn find(&self, demands: &[Demand]) -> Vec<Option<Candidates>> {
        let seen = self.lock();
        let find = |demand: &Demand| match demand.location_id {
            Some(_) => None,
            None => seen.by_sku.get(&demand.sku).cloned(),
        };
        demands.iter().map(find).collect()
    }

    /// Every SKU that is known, if it is time to read them again. Only the first to ask is told so.
    fn take_due(&self) -> Option<Vec<Sku>> {
        let mut seen = self.lock();
        if Instant::now() < seen.due {
            return None;
        }
        seen.due = Instant::now() + RENEWED_EVERY;
        Some(seen.by_sku.keys().cloned().collect())
    }

    /// Notes what was read of these SKUs: by SKU, best first. What has no level is forgotten.
    fn record(&self, skus: &[Sku], levels: &[InventoryLevel]) {
        let mut seen = self.lock();
        for sku in skus {
            seen.by_sku.remove(sku);
        }
        if seen.by_sku.len() + skus.len() > SKUS_MAX {
            seen.by_sku.clear();
        }
        let candidate = |level: &InventoryLevel| Candidate {
            key: level.key.clone(),
            backorder_limit: level.backorder_limit,
        };
        for of_one in levels.chunk_by(|level, next| level.key.sku == next.key.sku) {
            if let Some(level) = of_one.first() {
                seen.by_sku.insert(level.key.sku.clone(), of_one.iter().map(candidate).collect());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
