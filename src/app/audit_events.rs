//! Auditing the events of a time: that between what was committed, what was published, what was handled and what came of it
//! nothing was lost and nothing doubled.
//!
//! What is on its way is no loss, and is counted by itself. `verify` looks at the rows as they are; this looks at the way from
//! one to the next.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{App, Error};
use crate::{
    domain::{event::EventType, validation::Rule},
    store::audit::{self, BROKEN, CHECKS, Check, Found, IN_FLIGHT, Scope},
};

/// How many violations of one check are described; all are counted.
const DESCRIBED: usize = 20;

/// The clocks of processes may be ahead of the database's by this.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// This one.
    At(DateTime<Utc>),
    /// So long before now, by the database's clock.
    Ago(TimeDelta),
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct AuditEvents {
    /// From when on.
    pub since: Moment,
    /// Until when; `None`: now.
    pub until: Option<Moment>,
    /// For how long an event that was sent may be on its way.
    pub grace: Duration,
    /// Each consumer with one type of events that it has to handle.
    pub required: Vec<(&'static str, EventType)>,
}

/// What an audit found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Audit {
    /// From when on.
    pub since: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Events before this time were dropped: of those nothing can be said.
    pub kept_since: DateTime<Utc>,
    /// What is on its way, waiting for the broker included.
    pub in_flight: i64,
    /// How much is not as it must be.
    pub violations: i64,
    /// What each check found.
    pub checks: Vec<Checked>,
}

/// What one check found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Checked {
    /// Which one.
    pub id: &'static str,
    /// What must hold.
    pub title: &'static str,
    /// How much is not as it must be.
    pub violations: i64,
    /// The first of it.
    pub rows: Vec<String>,
    /// What became of the rest: of how many, and the first of what is on its way.
    pub counts: Vec<(String, i64, Vec<String>)>,
}

impl App {
    /// Audits what was made or changed in a time. Reads only; safe to run at any time. `progress` is told how many of how many
    /// steps are done.
    ///
    /// # Errors
    /// A time that ends before it begins.
    pub async fn audit_events(
        &self,
        asked: &AuditEvents,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Audit, Error> {
        let (scope, now, kept_since) = self.find_scope(asked).await?;
        let (since, until) = (scope.since, scope.until);
        let days = days(since.max(kept_since.min(until)), until);
        let steps = CHECKS.iter().map(|check| if check.by_day { days.len() } else { 1 }).sum();
        let (mut done, mut checks) = (0, Vec::new());
        for check in CHECKS {
            let parts = if check.by_day { days.clone() } else { vec![(since, until)] };
            let mut found = Vec::new();
            for (since, until) in parts {
                progress(done, steps);
                let scope = Scope { since, until, ..scope.clone() };
                found.extend(audit::check(&self.store, check, &scope, DESCRIBED).await?);
                done += 1;
            }
            checks.push(Checked::new(check, audit::add_up(found, DESCRIBED)));
        }
        progress(done, steps);
        let waiting = audit::count_waiting(&mut *self.store.conn().await?, since, until).await?;
        Ok(Audit {
            since,
            until: until.min(now),
            kept_since,
            in_flight: waiting + checks.iter().map(Checked::in_flight).sum::<i64>(),
            violations: checks.iter().map(|check| check.violations).sum(),
            checks,
        })
    }

    /// What is to be looked at, with the database's time and that from when on events are kept.
    pub(super) async fn find_scope(
        &self,
        asked: &AuditEvents,
    ) -> Result<(Scope, DateTime<Utc>, DateTime<Utc>), Error> {
        let (now, kept_since) = audit::find_times(&mut *self.store.conn().await?).await?;
        let at = |moment| match moment {
            Moment::At(time) => Some(time),
            Moment::Ago(ago) => now.checked_sub_signed(ago),
        };
        let since = at(asked.since).filter(|since| *since < now);
        let since = since.ok_or_else(|| Error::invalid(Rule::Together, "/since", "must be in the past"))?;
        let late = || Error::invalid(Rule::Together, "/until", "must be after the time from when on to look");
        let until = match asked.until {
            Some(until) => at(until).filter(|until| *until > since).ok_or_else(late)?.min(now + AHEAD),
            None => now + AHEAD,
        };
        let required = asked.required.iter().map(|(consumer, event)| (*consumer, event.as_str())).collect();
        let (grace, ships_at_once) = (asked.grace, self.settings.ship_at_once);
        Ok((Scope { since, until, grace, required, ships_at_once }, now, kept_since))
    }
}

impl Checked {
    fn new(check: &Check, found: Vec<Found>) -> Self {
        let mut checked =
            Self { id: check.id, title: check.title, violations: 0, rows: Vec::new(), counts: Vec::new() };
        for Found { state, count, rows } in found {
            if state == BROKEN {
                (checked.violations, checked.rows) = (count, rows);
            } else {
                checked.counts.push((state, count, rows));
            }
        }
        checked
    }

    fn in_flight(&self) -> i64 {
        let in_flight = self.counts.iter().filter(|(state, ..)| state.starts_with(IN_FLIGHT));
        in_flight.map(|(_, count, _)| count).sum()
    }
}

/// The days of a time, in UTC, the first and the last as far as they belong to it.
fn days(since: DateTime<Utc>, until: DateTime<Utc>) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let mut days = Vec::new();
    let mut from = since;
    while from < until {
        let next = from.date_naive() + TimeDelta::days(1);
        let end = next.and_time(chrono::NaiveTime::MIN).and_utc().min(until);
        days.push((from, end));
        from = end;
    }
    days
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_at_midnight() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a time");
        let (since, until) = (at("2026-11-27T22:00:00Z"), at("2026-11-29T01:00:00Z"));
        let (first, second) = (at("2026-11-28T00:00:00Z"), at("2026-11-29T00:00:00Z"));
        assert_eq!(days(since, until), [(since, first), (first, second), (second, until)]);
        assert_eq!(days(first, second), [(first, second)]);
        assert_eq!(days(until, since), []);
    }
}
