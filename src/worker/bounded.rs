//! Ends what waits for something that is silent. A server whose machine is gone closes no connection, and what waits for its
//! answer may wait for ever: nothing of a worker does.

use std::time::Duration;

use tokio::time::timeout;

use crate::store;

/// How long one step of a worker may take: far longer than any does, whose statements, locks and calls are all bounded where
/// somebody answers.
pub(super) const STEP: Duration = Duration::from_mins(2);

/// What a step gives, or that there was no answer in this time. What it has begun may be done or not.
pub(super) async fn bounded<T, E: From<store::Error>>(
    time: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let silent = |_| Err(store::Error::Unavailable(format!("no answer within {} s", time.as_secs())).into());
    timeout(time, step).await.unwrap_or_else(silent)
}
