//! Running a use case again when the database ended its transaction or did not answer.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::Error;
use crate::store;

/// How often a transaction is tried.
const ATTEMPTS: u32 = 4;

/// After this time there is no further try: a client waits a bounded time, and its locks are held no longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs `attempt` until it succeeds, fails for good, or has been tried [`ATTEMPTS`] times. Not again where a lock was waited
/// for in vain: whoever has it has kept it for long.
///
/// Only for attempts that may be run again after an unknown commit: they find their own effect by key, status or inbox.
pub(super) async fn retry<T, F, Fut>(name: &'static str, mut attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    let (mut tries, mut unknown, began) = (1, None, Instant::now());
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let again = match &error {
            Error::Unknown(_) => true,
            Error::Store(error) => matches!(error, store::Error::Aborted(_) | store::Error::Unavailable(_)),
            _ => false,
        };
        if let Error::Unknown(reason) = &error {
            unknown = Some(reason.clone());
        }
        if !again {
            return Err(error);
        }
        if tries == ATTEMPTS || began.elapsed() >= PATIENCE {
            // That this try changed nothing says nothing about an earlier one.
            return Err(unknown.map_or(error, Error::Unknown));
        }
        tracing::warn!(use_case = name, tries, %error, "trying again");
        // Spread out, so that transactions that aborted each other do not meet again.
        let jitter = rand::random_range(0..=20_u64);
        tokio::time::sleep(Duration::from_millis(20 * u64::from(tries) + jitter)).await;
        tries += 1;
    }
}
