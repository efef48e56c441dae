//! Sending again what its consumer never got, although the broker had confirmed it: its queue was deleted, or the broker has
//! lost its data.
//!
//! What the audit names as lost becomes dead letters that are to be replayed: each is sent to the consumer that lacks it, of each
//! order one after the other, and the inbox decides what takes effect. So it may be asked for at any time, any number of times.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{App, AuditEvents, Error};
use crate::store::{
    audit::{self, Scope},
    dead_letters::lost::{self, LostEvent},
};

/// How many events are looked at in one statement.
const PAGE: i64 = 5_000;

/// How many events are named; all are counted.
const NAMED: usize = 100;

/// What was lost.
#[derive(Debug, Clone)]
pub struct Resent {
    /// From when on it was looked.
    pub since: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Events before this time were dropped, and nobody knows what was lost of them.
    pub kept_since: DateTime<Utc>,
    /// How many events, by consumer and type.
    pub counts: BTreeMap<(String, String), u64>,
    /// The first of them.
    pub named: Vec<LostEvent>,
}

impl App {
    /// Has events sent again to consumers that never got them: those that [`App::audit_events`] finds not handled. `by` is who
    /// asks. `None`: nothing is sent, it is only looked. All of it is one transaction, so it happens as a whole or not at all.
    /// `progress` is told how many seconds of how many are looked at.
    ///
    /// # Errors
    /// A time that ends before it begins.
    pub async fn resend_events(
        &self,
        asked: &AuditEvents,
        by: Option<&str>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Resent, Error> {
        let (scope, now, kept_since) = self.find_scope(asked).await?;
        let (since, until) = (scope.since, scope.until);
        let seconds = |to: DateTime<Utc>| (to - since).num_seconds().try_into().unwrap_or(0);
        let (mut counts, mut named) = (BTreeMap::new(), Vec::new());
        let mut tx = audit::begin(&self.store, "resend_events").await?;
        tx.plan_each_statement().await?;
        let mut from = since.max(kept_since.min(until));
        while from < until {
            progress(seconds(from), seconds(until));
            let rest = Scope { since: from, ..scope.clone() };
            let to = lost::find_page_end(&mut tx, &rest, PAGE).await?.unwrap_or(until);
            let page = Scope { until: to, ..rest };
            let found = match by {
                Some(by) => lost::insert(&mut tx, &page, by).await?,
                None => lost::list(&mut tx, &page).await?,
            };
            for event in found {
                *counts.entry((event.consumer.clone(), event.event_type.clone())).or_default() += 1;
                if named.len() < NAMED {
                    named.push(event);
                }
            }
            from = to;
        }
        tx.commit().await?;
        progress(seconds(until), seconds(until));
        Ok(Resent { since, until: until.min(now), kept_since, counts, named })
    }
}
