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
pub(super) async fn retry<T, F, Fut>(name: &'static str, attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    run(name, true, attempt).await
}

/// The same for attempts that nothing tells from those of others: whether one took effect cannot be found out, and another
/// one might undo what has happened since. So an unknown commit stays unknown, and who asked has to look.
pub(super) async fn retry_before_commit<T, F, Fut>(name: &'static str, attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, Error>>,
{
    run(name, false, attempt).await
}

async fn run<T, F, Fut>(name: &'static str, finds_its_effect: bool, mut attempt: F) -> Result<T, Error>
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
            Error::Unknown(_) => finds_its_effect,
            Error::Store(error) => matches!(error, store::Error::Aborted(_) | store::Error::Unavailable(_)),
            _ => false,
        };
        if let Error::Unknown(reason) = &error {
            unknown = Some(reason.clone());
        }
        if !again || tries == ATTEMPTS || began.elapsed() >= PATIENCE {
            // That this try changed nothing says nothing about an earlier one, unless it has decided the request anew.
            return Err(match (error, unknown) {
                (Error::Store(_), Some(reason)) => Error::Unknown(reason),
                (error, _) => error,
            });
        }
        tracing::warn!(use_case = name, tries, %error, "trying again");
        // Spread out, so that transactions that aborted each other do not meet again.
        let jitter = rand::random_range(0..=20_u64);
        tokio::time::sleep(Duration::from_millis(20 * u64::from(tries) + jitter)).await;
        tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn aborted() -> Error {
        store::Error::Aborted("deadlock".into()).into()
    }

    fn unknown() -> Error {
        Error::Unknown("no answer".into())
    }

    /// What a client is answered whose tries end like this, and how many of them there are.
    async fn outcome(finds_its_effect: bool, ends: Vec<Result<(), Error>>) -> (Result<(), Error>, usize) {
        let (count, ends) = (ends.len(), RefCell::new(ends.into_iter()));
        let attempt = || async { ends.borrow_mut().next().expect("no further try") };
        let outcome = run("test", finds_its_effect, attempt).await;
        (outcome, count - ends.into_inner().len())
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_finds_its_effect_is_run_again_after_an_unknown_commit() {
        let (answer, tries) = outcome(true, vec![Err(aborted()), Err(unknown()), Ok(())]).await;
        assert!(answer.is_ok() && tries == 3, "{answer:?} after {tries}");
        let (answer, tries) = outcome(false, vec![Err(aborted()), Err(unknown()), Ok(())]).await;
        assert!(matches!(answer, Err(Error::Unknown(_))) && tries == 2, "{answer:?} after {tries}");
        let (answer, tries) = outcome(false, vec![Err(aborted()), Ok(())]).await;
        assert!(answer.is_ok() && tries == 2, "{answer:?} after {tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_unknown_once_stays_unknown_where_no_try_finds_out() {
        let ends = vec![Err(unknown()), Err(aborted()), Err(aborted()), Err(aborted())];
        let (answer, tries) = outcome(true, ends).await;
        assert!(matches!(answer, Err(Error::Unknown(_))) && tries == 4, "{answer:?} after {tries}");
        let locked = store::Error::LockTimeout("a row".into());
        let (answer, tries) = outcome(true, vec![Err(unknown()), Err(locked.into())]).await;
        assert!(matches!(answer, Err(Error::Unknown(_))) && tries == 2, "{answer:?} after {tries}");
        let gone = || Error::NotFound { kind: "order", id: "1".into() };
        let (answer, _) = outcome(true, vec![Err(unknown()), Err(gone())]).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
}
