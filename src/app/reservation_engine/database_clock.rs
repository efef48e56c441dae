//! The database's time, carried on by the process's monotonic clock between two answers of the database.
//!
//! Lets an order be written in one round trip although its times come from PostgreSQL. Must not be trusted beyond that:
//! the statement compares it with the database's own clock and refuses a second's difference.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use chrono::{DateTime, SubsecRound as _, Utc};

/// The last answer, and when it came.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock(Mutex<Option<(DateTime<Utc>, Instant)>>);

impl DatabaseClock {
    /// The database said that it is `now`.
    pub(super) fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Instant::now()));
    }

    /// What the database would say, in its microseconds; `None` before its first answer.
    pub(super) fn now(&self) -> Option<DateTime<Utc>> {
        let (then, since) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some((then + since.elapsed()).trunc_subsecs(6))
    }
}
