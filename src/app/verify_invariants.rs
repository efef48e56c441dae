//! Verifying the invariants of the whole system, each by its own query (G9).

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::{App, Error};
use crate::store::invariants::{self, INVARIANTS, Violation, WATCHED};

const BROKEN: &str = "holdfast_invariants_broken";
const UNCHECKED: &str = "holdfast_invariants_unchecked_total";

/// What a verification found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verification {
    /// How many invariants were checked.
    pub checked: usize,
    /// Those that are broken.
    pub violations: Vec<Violation>,
}

impl App {
    /// Checks every invariant. Reads only; safe to run at any time, under load too.
    pub async fn verify_invariants(&self) -> Result<Verification, Error> {
        let mut conn = self.store.conn().await?;
        let mut violations = Vec::new();
        for invariant in INVARIANTS {
            violations.extend(invariants::check(&mut conn, invariant).await?);
        }
        Ok(Verification { checked: INVARIANTS.len(), violations })
    }

    /// Checks those invariants that cost little however many orders there are, and tells monitoring how many rows break each. One
    /// that cannot be checked keeps what was told of it last, and the others are checked all the same.
    pub async fn watch_invariants(&self) {
        describe_gauge!(
            BROKEN,
            Unit::Count,
            "How many rows break an invariant, of those that are watched all the time."
        );
        describe_counter!(
            UNCHECKED,
            Unit::Count,
            "How often an invariant that is watched could not be checked."
        );
        for invariant in INVARIANTS.iter().filter(|invariant| WATCHED.contains(&invariant.id)) {
            let failures = counter!(UNCHECKED, "invariant" => invariant.id);
            let found = match invariants::check_watched(&self.store, invariant).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, invariant = invariant.id, "an invariant cannot be checked, trying again");
                    failures.increment(1);
                    continue;
                }
            };
            if let Some(Violation { id, title, count, rows }) = &found {
                tracing::error!(invariant = id, title, count, ?rows, "an invariant is broken");
            }
            let count = found.map_or(0, |found| u32::try_from(found.count).unwrap_or(u32::MAX));
            gauge!(BROKEN, "invariant" => invariant.id).set(count);
        }
    }
}
