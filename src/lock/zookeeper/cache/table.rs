//! The lock table of one process: which keys it holds, who uses them, who waits, and which claims are on their way.
//!
//! Synchronous and short: every method runs under the one mutex of [`super::Cache`] and awaits nothing. What has to be done
//! outside is left in [`Effects`]. Pins, sessions and losses are here; `request` decides who gets what, `hand_over` who
//! gives up what.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak},
};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{CacheOptions, flight::Flight};
use crate::lock::{
    FencingToken, LockError, LockGuard, LockOwner, Lost, METRICS, Tokens,
    zookeeper::{session::Session, turn::View},
};

/// The order of arrival of the requests of this process.
pub(super) type Ticket = u64;
/// Newer than every request that waits.
pub(super) const NEW: Ticket = Ticket::MAX;

/// What a request is told. `None`: it was not to wait.
pub(super) type Answer = Result<Option<Tokens>, LockError>;

/// Whom to tell.
pub(super) type Reply = oneshot::Sender<Result<Option<LockGuard>, LockError>>;

/// A node of this process that is the first of its queue.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) session: Arc<Session>,
    pub(super) key: Arc<str>,
    pub(super) queue: String,
    pub(super) path: String,
    /// Identifies the node among all nodes that the key ever had.
    pub(super) czxid: i64,
}

impl Node {
    pub(super) fn name(&self) -> &str {
        &self.path[self.queue.len() + 1..]
    }
}

/// A held key.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) node: Arc<Node>,
    /// Who pins it, while anybody does.
    pub(super) owner: Option<LockOwner>,
    /// Guards that hold it.
    pub(super) pins: u32,
    /// How often it was pinned since it was granted.
    pub(super) uses: u32,
    pub(super) last_used: Instant,
    /// Since when somebody is known to wait in another process.
    pub(super) contended: Option<Instant>,
    /// Gets no more pins, and is given up with its last.
    pub(super) draining: bool,
    /// Must not be given up before this whole claim is over: a claim that waits in one queue keeps its place in the others.
    pub(super) kept: Option<Ticket>,
    /// Guards that want to know when it is lost.
    pub(super) lost: Vec<Weak<CancellationToken>>,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: Arc<str>,
    pub(super) held: Option<Held>,
    /// Claims on their way that have a node in this queue, or are about to.
    pub(super) flights: Vec<Ticket>,
    pub(super) waiting: BTreeMap<Ticket, LockOwner>,
    /// Whose all the waiting requests are; `None` if several owners wait.
    pub(super) sole: Option<LockOwner>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Fresh,
    /// Claims for all that was missing were on their way.
    Claimed,
    /// They landed, or not, and never was everything there at the same time.
    Missed,
}

/// An acquisition that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) keys: Arc<[Arc<str>]>,
    pub(super) owner: LockOwner,
    pub(super) since: Instant,
    /// Whether it waits for others at all.
    pub(super) patient: bool,
    pub(super) stage: Stage,
    /// The claim that is made for this request alone.
    pub(super) flight: Option<Ticket>,
    pub(super) reply: Reply,
}

/// What remains to be done once the mutex is free.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Requests for which something may have changed, to be looked at while the mutex is still held.
    pub(super) agenda: BTreeSet<Ticket>,
    pub(super) replies: Vec<(Reply, Answer)>,
    pub(super) starts: Vec<Arc<Flight>>,
    pub(super) keep: Vec<(Arc<Node>, View)>,
    pub(super) releases: Vec<Arc<Node>>,
    pub(super) lost: Vec<Arc<CancellationToken>>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) options: CacheOptions,
    pub(super) epoch: i32,
    pub(super) keys: HashMap<Arc<str>, Key>,
    pub(super) requests: BTreeMap<Ticket, Request>,
    pub(super) flights: HashMap<Ticket, Arc<Flight>>,
    /// The claim whose nodes are being created. The next ones are made together when it is done.
    pub(super) entering: Option<Ticket>,
    /// What is to be claimed then.
    pub(super) missing: BTreeSet<Arc<str>>,
    /// How many keys are held.
    pub(super) held: usize,
    pub(super) session: Option<Arc<Session>>,
    /// Whether every held node is known to have existed when the session was last connected.
    pub(super) trusted: bool,
    /// When this process was last known to run.
    pub(super) alive: Instant,
    pub(super) closed: bool,
    pub(super) next: Ticket,
}

impl Table {
    pub(super) fn new(options: CacheOptions, epoch: i32) -> Self {
        Self {
            options,
            epoch,
            keys: HashMap::new(),
            requests: BTreeMap::new(),
            flights: HashMap::new(),
            entering: None,
            missing: BTreeSet::new(),
            held: 0,
            session: None,
            trusted: false,
            alive: Instant::now(),
            closed: false,
            next: 0,
        }
    }

    pub(super) fn next(&mut self) -> Ticket {
        self.next += 1;
        self.next
    }

    /// The key's entry, made if there is none.
    pub(super) fn key(&mut self, name: &Arc<str>) -> &mut Key {
        self.keys.entry(name.clone()).or_insert_with_key(|name| Key {
            name: name.clone(),
            held: None,
            flights: Vec::new(),
            waiting: BTreeMap::new(),
            sole: None,
        })
    }

    /// Forgets a key that nobody holds or wants.
    pub(super) fn prune(&mut self, name: &str) {
        let idle = |key: &Key| key.held.is_none() && key.flights.is_empty() && key.waiting.is_empty();
        if self.keys.get(name).is_some_and(idle) {
            self.keys.remove(name);
        }
    }

    /// Since when an earlier request of another owner waits for the key, if one does.
    pub(super) fn blocked_since(&self, key: &Key, owner: LockOwner, ticket: Ticket) -> Option<Instant> {
        if key.waiting.is_empty() || key.sole == Some(owner) {
            return None;
        }
        let (other, _) = key.waiting.range(..ticket).find(|(_, other)| **other != owner)?;
        self.requests.get(other).map(|other| other.since)
    }

    /// Whether `owner` may pin the key now.
    pub(super) fn is_free(&self, name: &str, owner: LockOwner, ticket: Ticket, now: Instant) -> bool {
        let Some(key) = self.keys.get(name) else { return false };
        let Some(held) = key.held.as_ref().filter(|held| !held.draining) else { return false };
        if held.pins > 0 && held.owner != Some(owner) {
            return false;
        }
        // Who holds the key may take it again for a while: the other could not have it yet anyway.
        let again = |since| held.pins > 0 && now.saturating_duration_since(since) < self.options.hand_over;
        self.blocked_since(key, owner, ticket).is_none_or(again)
    }

    /// Pins every key, if each of them is held and free. `keys` are sorted and unique.
    pub(super) fn pin<K: AsRef<str>>(
        &mut self,
        keys: &[K],
        owner: LockOwner,
        ticket: Ticket,
        now: Instant,
    ) -> Option<Tokens> {
        if !self.is_open(now) || !keys.iter().all(|key| self.is_free(key.as_ref(), owner, ticket, now)) {
            return None;
        }
        let mut tokens = Tokens::with_capacity(keys.len());
        for name in keys {
            let key = self.keys.get_mut(name.as_ref())?;
            let held = key.held.as_mut()?;
            held.owner = Some(owner);
            held.pins += 1;
            held.uses = held.uses.saturating_add(1);
            held.last_used = now;
            let token = FencingToken { epoch: self.epoch, sequence: held.node.czxid };
            tokens.push((key.name.clone(), token));
        }
        Some(tokens)
    }

    /// A guard is gone. What it held may have been lost and granted again meanwhile: only its own nodes count.
    pub(super) fn unpin(&mut self, tokens: &Tokens, fenced: bool, now: Instant, fx: &mut Effects) {
        let mut freed = false;
        for (name, token) in tokens {
            let Some(key) = self.keys.get_mut(name) else { continue };
            let Some(held) = key.held.as_mut().filter(|held| held.node.czxid == token.sequence) else {
                continue;
            };
            held.pins -= 1;
            held.last_used = now;
            held.draining |= fenced;
            if held.pins > 0 {
                continue;
            }
            // Its own requests could have had it before.
            freed |= held.draining || (!key.waiting.is_empty() && key.sole != held.owner);
            held.owner = None;
            held.lost.clear();
            let contended = held.contended.is_some();
            if held.draining
                || (contended && held.kept.is_none() && held.is_single_use() && !self.is_wanted(name))
            {
                self.give_up(name, fx);
            }
        }
        if freed {
            self.serve(tokens.iter().map(|(name, _)| name), fx);
        }
    }

    /// One more held key, or one less.
    pub(super) fn count(&mut self, change: isize) {
        self.held = self.held.saturating_add_signed(change);
        #[expect(clippy::cast_precision_loss, reason = "never that many")]
        METRICS.held_keys.set(self.held as f64);
    }

    /// Takes the key's node out of the table, to be deleted.
    pub(super) fn give_up(&mut self, name: &str, fx: &mut Effects) {
        if let Some(held) = self.keys.get_mut(name).and_then(|key| key.held.take()) {
            if held.contended.is_some() {
                METRICS.hand_overs.increment(1);
            }
            self.count(-1);
            fx.releases.push(held.node);
            self.prune(name);
        }
    }

    /// The key's node is gone, and whoever holds it may not be alone.
    pub(super) fn lose(&mut self, name: &str, fx: &mut Effects) {
        if let Some(held) = self.keys.get_mut(name).and_then(|key| key.held.take()) {
            if !self.closed {
                METRICS.lost.increment(1);
            }
            self.count(-1);
            fx.lost.extend(held.lost.iter().filter_map(Weak::upgrade));
            self.prune(name);
        }
    }

    /// As [`Table::lose`], unless the key has another node by now.
    pub(super) fn lose_node(&mut self, node: &Node, fx: &mut Effects) {
        if self.holds(node) {
            tracing::warn!(key = %node.key, "a lock node that this process held is gone");
            self.lose(&node.key, fx);
            self.serve([&node.key], fx);
        }
    }

    pub(super) fn holds(&self, node: &Node) -> bool {
        let held = self.keys.get(&node.key).and_then(|key| key.held.as_ref());
        held.is_some_and(|held| held.node.czxid == node.czxid)
    }

    /// Tells a guard that asks now whether it lost its locks, and later when it does.
    pub(super) fn lost(&mut self, tokens: &Tokens) -> Lost {
        let lost = Lost::default();
        for (name, token) in tokens {
            let held = self.keys.get_mut(name).and_then(|key| key.held.as_mut());
            match held.filter(|held| held.node.czxid == token.sequence) {
                Some(held) => {
                    held.lost.retain(|lost| lost.strong_count() > 0);
                    held.lost.push(lost.downgrade());
                }
                None => lost.fire(),
            }
        }
        lost
    }
}
