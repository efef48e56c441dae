//! How much waits in the outbox, and what follows from it: events that wait too long make a process say so, and refuse new
//! orders before the outbox grows without end.
//!
//! Read once a second by one task of the process, whoever wants it; no order asks the database. What could not be read for
//! long is not relied on: then nothing is refused.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{Unit, describe_gauge, gauge};
use tokio::time::{Instant, sleep, timeout};

use super::Error;
use crate::store::{
    self, Store,
    outbox::{self, Backlog},
};

/// The rest between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// For how long a look is relied on.
const RELIED_ON: Duration = Duration::from_secs(10);

const ROWS: &str = "holdfast_outbox_rows";
const OLDEST: &str = "holdfast_outbox_oldest_seconds";

/// From when on events are late. `None`: never.
#[derive(Debug, Clone, Copy, Default)]
pub struct BacklogLimits {
    /// A delay that is told of.
    pub told_delay: Option<Duration>,
    /// A delay past which no new orders are taken.
    pub order_delay: Option<Duration>,
    /// So many waiting events, past which no new orders are taken.
    pub order_waiting: Option<i64>,
}

/// See the module. Clones see the same.
#[derive(Debug, Clone)]
pub struct EventBacklog {
    limits: BacklogLimits,
    seen: Arc<Mutex<Option<(Backlog, Instant)>>>,
    /// Held by the task that looks.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl EventBacklog {
    /// Nothing is known yet.
    pub fn new(limits: BacklogLimits) -> Self {
        Self { limits, seen: Arc::default(), looking: Arc::default() }
    }

    /// Looks, again and again. Of several that do in one process one works, and the others take over when it ends.
    pub async fn watch(&self, store: &Store) -> Infallible {
        let _turn = self.looking.lock().await;
        describe_gauge!(
            ROWS,
            Unit::Count,
            "Events that wait for the broker's confirm; beyond 1,000 an estimate."
        );
        describe_gauge!(OLDEST, Unit::Seconds, "For how long the oldest of them has waited.");
        loop {
            match look(store).await {
                Ok(backlog) => {
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 events")]
                    gauge!(ROWS).set(backlog.waiting as f64);
                    gauge!(OLDEST).set(backlog.oldest_seconds);
                    self.tell(backlog);
                }
                Err(error) => tracing::debug!(%error, "the outbox cannot be looked at"),
            }
            sleep(INTERVAL).await;
        }
    }

    fn tell(&self, backlog: Backlog) {
        let before = self.is_delayed();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((backlog, Instant::now()));
        let Backlog { waiting, delay_seconds, .. } = backlog;
        match (before, self.is_delayed()) {
            (false, true) => tracing::warn!(waiting, delay_seconds, "events are delayed"),
            (true, false) => tracing::info!(waiting, delay_seconds, "events are in time again"),
            _ => {}
        }
    }

    fn relied_on(&self) -> Option<Backlog> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.filter(|(_, at)| at.elapsed() < RELIED_ON).map(|(backlog, _)| backlog)
    }

    /// Whether events are so late that it is told.
    pub fn is_delayed(&self) -> bool {
        self.relied_on().is_some_and(|backlog| is_past(backlog.delay_seconds, self.limits.told_delay))
    }

    /// [`Error::EventsDelayed`] if no new order is to be taken.
    pub(super) fn admit(&self) -> Result<(), Error> {
        let Some(Backlog { waiting, delay_seconds, .. }) = self.relied_on() else { return Ok(()) };
        let too_many = self.limits.order_waiting.is_some_and(|most| waiting > most);
        if too_many || is_past(delay_seconds, self.limits.order_delay) {
            return Err(Error::EventsDelayed { waiting, delay_seconds });
        }
        Ok(())
    }
}

fn is_past(seconds: f64, limit: Option<Duration>) -> bool {
    limit.is_some_and(|limit| seconds > limit.as_secs_f64())
}

async fn look(store: &Store) -> Result<Backlog, store::Error> {
    let look = async { outbox::backlog(&mut *store.conn_by_key().await?).await };
    timeout(store.patience(), look).await.map_err(|_| store::Error::Unavailable("it is silent".into()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog(waiting: i64, delay_seconds: f64) -> Backlog {
        Backlog { waiting, oldest_seconds: 9_999.0, delay_seconds }
    }

    fn limited() -> EventBacklog {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let limits = BacklogLimits {
            told_delay: seconds(60),
            order_delay: seconds(900),
            order_waiting: Some(1_000_000),
        };
        EventBacklog::new(limits)
    }

    #[tokio::test(start_paused = true)]
    async fn orders_are_refused_past_a_limit_and_only_then() {
        let events = limited();
        assert!(events.admit().is_ok() && !events.is_delayed());
        for (seen, delayed, admitted) in [
            (backlog(1_000_000, 60.0), false, true),
            (backlog(5, 61.0), true, true),
            (backlog(5, 901.0), true, false),
            (backlog(1_000_001, 1.0), false, false),
        ] {
            events.tell(seen);
            assert_eq!((events.is_delayed(), events.admit().is_ok()), (delayed, admitted), "{seen:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_long_ago_refuses_nothing() {
        let events = limited();
        events.tell(backlog(2_000_000, 5_000.0));
        assert!(events.admit().is_err());
        tokio::time::advance(RELIED_ON).await;
        assert!(events.admit().is_ok() && !events.is_delayed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_is_refused() {
        let events = EventBacklog::new(BacklogLimits::default());
        events.tell(backlog(i64::MAX, 1e9));
        assert!(events.admit().is_ok() && !events.is_delayed());
    }
}
