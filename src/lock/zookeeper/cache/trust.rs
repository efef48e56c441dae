//! Whether the table may be believed: sessions that begin, are in doubt, verified and over.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::table::{Effects, Node, Table};
use crate::lock::{LockError, zookeeper::session::Session};

impl Table {
    /// Whether new pins may be granted at all.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let Some(session) = &self.session else { return false };
        // A process that was stopped wakes up before its client knows what happened meanwhile.
        let asleep = now.saturating_duration_since(self.alive) > session.longest_pause();
        self.trusted && !asleep && session.is_connected()
    }

    /// A new session: nothing is held.
    pub(super) fn begin(&mut self, session: Arc<Session>, now: Instant, fx: &mut Effects) {
        self.session = Some(session);
        self.trust(now, fx);
    }

    /// Every held node is known to exist.
    pub(super) fn trust(&mut self, now: Instant, fx: &mut Effects) {
        self.trusted = true;
        self.alive = now;
        fx.agenda.extend(self.requests.keys());
    }

    /// The process runs. Whether it was stopped for so long that the session is in doubt.
    pub(super) fn wake(&mut self, longest_pause: Duration, now: Instant) -> bool {
        let doubt = now.saturating_duration_since(self.alive) > longest_pause;
        if !doubt {
            self.alive = now;
        }
        doubt
    }

    /// The session is over: every node is gone.
    pub(super) fn end(&mut self, fx: &mut Effects) {
        self.trusted = false;
        self.session = None;
        let held: Vec<Arc<str>> =
            self.keys.values().filter(|key| key.held.is_some()).map(|key| key.name.clone()).collect();
        for name in held {
            self.lose(&name, fx);
        }
    }

    /// For ever.
    pub(super) fn close(&mut self, fx: &mut Effects) {
        self.closed = true;
        self.end(fx);
        let requests = std::mem::take(&mut self.requests);
        fx.replies.extend(requests.into_values().map(|request| (request.reply, Err(LockError::Closed))));
        self.flights.clear();
        self.missing.clear();
        self.keys.clear();
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.keys.values().filter_map(|key| key.held.as_ref()).map(|held| held.node.clone()).collect()
    }
}
