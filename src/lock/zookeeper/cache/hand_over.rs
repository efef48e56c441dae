//! When a held key is given up: somebody in another process waits for it, nobody has used it for a while, or there are
//! too many.

use std::sync::Arc;

use tokio::time::Instant;

use super::table::{Effects, Held, Node, Table};

/// How a key is held that somebody else waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandOver {
    /// This node is not held any more.
    Done,
    /// Given up with its last pin.
    Draining,
    /// To be looked at again then.
    Wait(Instant),
}

impl Held {
    /// Whether the key does not seem to be in demand here: used once at most since it was granted.
    pub(super) const fn is_single_use(&self) -> bool {
        self.uses < 2
    }
}

impl Table {
    /// Somebody waits behind `node`, or still does. Gives the key up if it is time.
    pub(super) fn hand_over(&mut self, node: &Node, now: Instant, fx: &mut Effects) -> HandOver {
        let (bound, linger) = (self.options.hand_over, self.options.linger);
        let wanted = self.is_wanted(&node.key);
        let key = self.keys.get_mut(&node.key);
        let held = key.and_then(|key| key.held.as_mut()).filter(|held| held.node.czxid == node.czxid);
        let Some(held) = held else { return HandOver::Done };
        let end = *held.contended.get_or_insert(now) + bound;
        if held.kept.is_some() {
            return HandOver::Wait(now + linger);
        }
        let unused = held.pins == 0 && !wanted;
        let lingered = held.last_used + linger;
        if now >= end || (unused && (held.is_single_use() || now >= lingered)) {
            held.draining = true;
        }
        if !held.draining {
            let again = if unused { lingered } else { now + linger };
            return HandOver::Wait(again.min(end));
        }
        let pinned = held.pins > 0;
        if !pinned {
            self.give_up(&node.key, fx);
        }
        // Who waits here enters the queue now, behind those who wait elsewhere.
        self.serve([&node.key], fx);
        if pinned { HandOver::Draining } else { HandOver::Done }
    }

    /// Whether somebody waits here who has no other way to the key: a claim on its way brings it too.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        let Some(key) = self.keys.get(name) else { return false };
        let claimed = |ticket| {
            let flight = self.requests.get(ticket).and_then(|request| request.flight);
            flight.is_some_and(|id| key.flights.contains(&id))
        };
        key.waiting.keys().any(|ticket| !claimed(ticket))
    }

    /// Gives up what was not used for a while.
    pub(super) fn sweep(&mut self, now: Instant, fx: &mut Effects) {
        let idle = self.options.idle;
        let unused = self.unused(|held| now.saturating_duration_since(held.last_used) >= idle);
        for (_, name) in unused {
            self.give_up(&name, fx);
        }
    }

    /// Keeps the number of held keys bounded. A few more than necessary go at once: to find them takes a look at all.
    pub(super) fn evict(&mut self, fx: &mut Effects) {
        let most = self.options.keys_max;
        if self.held <= most {
            return;
        }
        let count = self.held - most + most / 16;
        let mut unused = self.unused(|_| true);
        unused.sort_unstable();
        for (_, name) in unused.into_iter().take(count) {
            self.give_up(&name, fx);
        }
    }

    fn unused(&self, also: impl Fn(&Held) -> bool) -> Vec<(Instant, Arc<str>)> {
        let keys = self.keys.values().filter(|key| key.waiting.is_empty());
        let unused = keys.filter_map(|key| {
            let held = key.held.as_ref().filter(|held| held.pins == 0 && also(held))?;
            Some((held.last_used, key.name.clone()))
        });
        unused.collect()
    }
}
