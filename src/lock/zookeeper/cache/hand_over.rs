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
    /// Whether nothing is gained by keeping it while others wait. A key that was used once since it was granted is not
    /// in demand here.
    pub(super) fn is_over(&self, wanted: bool) -> bool {
        self.contended.is_some() && self.pins == 0 && !wanted && self.uses < 2
    }
}

impl Table {
    /// Somebody waits behind `node`, or still does. Gives the key up if it is time.
    pub(super) fn hand_over(&mut self, node: &Node, now: Instant, fx: &mut Effects) -> HandOver {
        let (bound, linger) = (self.options.hand_over, self.options.linger);
        if !self.holds(node) {
            return HandOver::Done;
        }
        let Some(key) = self.keys.get_mut(&node.key) else { return HandOver::Done };
        let wanted = !key.waiting.is_empty();
        let Some(held) = key.held.as_mut() else { return HandOver::Done };
        let end = *held.contended.get_or_insert(now) + bound;
        let lingered = held.last_used + linger;
        if now >= end || held.is_over(wanted) || (held.pins == 0 && !wanted && now >= lingered) {
            held.draining = true;
        }
        if !held.draining {
            let again = if held.pins == 0 && !wanted { lingered } else { now + linger };
            return HandOver::Wait(again.min(end));
        }
        if held.pins > 0 {
            // Who waits here enters the queue now, behind those who wait elsewhere.
            self.serve([&node.key], fx);
            return HandOver::Draining;
        }
        self.give_up(&node.key, fx);
        self.serve([&node.key], fx);
        HandOver::Done
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
