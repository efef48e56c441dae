//! Verifying the invariants of the whole system, each by its own query (G9).

use super::{App, Error};
use crate::store::invariants::{self, INVARIANTS, Violation};

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
}
