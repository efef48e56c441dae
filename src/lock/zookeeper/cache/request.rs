//! Who gets what: the requests that wait, and the claims that are made for them.
//!
//! A request is looked at whenever something changed for one of its keys ([`Table::attempt`]), and then gets its keys, makes
//! a claim, or goes on waiting. The module comment of [`super`] says why that ends.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    flight::Flight,
    table::{Answer, Effects, Held, Node, Reply, Request, Stage, Table, Ticket},
};
use crate::lock::{
    LockOwner,
    zookeeper::{entry::waiting_for, turn::View},
};

/// How many keys are claimed together that no single request asked for.
const TOGETHER_MAX: usize = 256;

/// What a request that cannot have its keys now is to do.
enum Step {
    Wait,
    /// It was not to wait.
    Refuse,
    /// Enter the queues of these keys, the only ones that are missing. What is held may still be there afterwards.
    ClaimMissing(Vec<Arc<str>>),
    /// Enter the queues of all keys at the tail, behind the own nodes that are held.
    ClaimWhole,
}

impl Table {
    /// A request that waits from now on.
    pub(super) fn join(
        &mut self,
        (keys, owner, patient): (Vec<Arc<str>>, LockOwner, bool),
        reply: Reply,
        now: Instant,
        fx: &mut Effects,
    ) -> Ticket {
        let ticket = self.next();
        for name in &keys {
            let key = self.key(name);
            key.sole = (key.waiting.is_empty() || key.sole == Some(owner)).then_some(owner);
            key.waiting.insert(ticket, owner);
        }
        let keys = keys.into();
        let request = Request { keys, owner, since: now, patient, stage: Stage::Fresh, flight: None, reply };
        self.requests.insert(ticket, request);
        fx.agenda.insert(ticket);
        ticket
    }

    /// Something changed for these keys.
    pub(super) fn serve<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>, fx: &mut Effects) {
        let keys = names.into_iter().filter_map(|name| self.keys.get(name));
        fx.agenda.extend(keys.flat_map(|key| key.waiting.keys()));
    }

    /// Looks at every request for which something changed, the oldest first, and then claims what they miss.
    pub(super) fn work(&mut self, now: Instant, fx: &mut Effects) {
        while let Some(ticket) = fx.agenda.pop_first() {
            self.attempt(ticket, now, fx);
        }
        if self.entering.is_none() && !self.missing.is_empty() && self.is_open(now) {
            let missing = std::mem::take(&mut self.missing).into_iter();
            let mut keys: Vec<Arc<str>> = missing.filter(|name| self.is_missing(name)).collect();
            self.missing.extend(keys.drain(keys.len().min(TOGETHER_MAX)..));
            if !keys.is_empty() {
                self.entering = self.start(keys.into(), None, true, fx);
            }
        }
    }

    /// Whether the key is wanted, and neither there nor on its way.
    fn is_missing(&self, name: &str) -> bool {
        self.keys.get(name).is_some_and(|key| {
            let there = key.held.as_ref().is_some_and(|held| !held.draining);
            !there && key.flights.is_empty() && !key.waiting.is_empty()
        })
    }

    fn attempt(&mut self, ticket: Ticket, now: Instant, fx: &mut Effects) {
        let Some(request) = self.requests.get(&ticket) else { return };
        let (keys, owner, patient) = (request.keys.clone(), request.owner, request.patient);
        if let Some(tokens) = self.pin(&keys, owner, ticket, now) {
            return self.answer(ticket, Ok(Some(tokens)), fx);
        }
        match self.next_step(ticket, now) {
            Step::Wait => {}
            Step::Refuse => self.answer(ticket, Ok(None), fx),
            Step::ClaimMissing(missing) if patient && missing.len() <= TOGETHER_MAX => {
                self.missing.extend(missing);
            }
            Step::ClaimMissing(missing) => {
                self.start(missing.into(), Some(ticket), patient, fx);
            }
            Step::ClaimWhole => {
                for name in keys.iter() {
                    self.drain(name, fx);
                }
                self.start(keys, Some(ticket), true, fx);
            }
        }
    }

    fn next_step(&mut self, ticket: Ticket, now: Instant) -> Step {
        let open = self.is_open(now);
        let Some(request) = self.requests.get(&ticket) else { return Step::Wait };
        if request.flight.is_some() || !open {
            return Step::Wait;
        }
        let (mut blocked, mut busy, mut missing, mut free) = (false, false, 0, Vec::new());
        for key in request.keys.iter().filter_map(|name| self.keys.get(name)) {
            // A whole claim must not find out later that its request has to wait for another one here.
            blocked |= self.blocked_since(key, request.owner, ticket).is_some();
            if key.held.as_ref().is_none_or(|held| held.draining) {
                missing += 1;
                let on_its_way = !key.flights.is_empty() || self.missing.contains(&key.name);
                busy |= key.held.is_some() || on_its_way;
                if !on_its_way {
                    free.push(key.name.clone());
                }
            } else {
                busy |= !self.is_free(&key.name, request.owner, ticket, now);
            }
        }
        if !request.patient && (blocked || busy || request.stage > Stage::Fresh) {
            return Step::Refuse;
        }
        if blocked || missing == 0 {
            return Step::Wait;
        }
        let stage = match request.stage {
            Stage::Fresh => Stage::Claimed,
            Stage::Claimed if free.is_empty() => Stage::Claimed,
            Stage::Claimed | Stage::Missed => Stage::Missed,
        };
        let step = match stage {
            Stage::Missed if self.may_claim_whole(ticket, &request.keys) => Step::ClaimWhole,
            _ if free.is_empty() => Step::Wait,
            _ => Step::ClaimMissing(free),
        };
        if let Some(request) = self.requests.get_mut(&ticket) {
            request.stage = stage;
        }
        step
    }

    /// Whole claims that overlap are made one after the other, the oldest request first: so each comes to its turn, and a
    /// queue has few nodes of this process.
    fn may_claim_whole(&self, ticket: Ticket, keys: &[Arc<str>]) -> bool {
        let missed = |ticket| self.requests.get(ticket).is_some_and(|other| other.stage == Stage::Missed);
        let whole = |id| self.flights.get(id).is_some_and(|flight| flight.request.is_some());
        keys.iter().filter_map(|name| self.keys.get(name)).all(|key| {
            !key.flights.iter().any(whole) && !key.waiting.range(..ticket).any(|(other, _)| missed(other))
        })
    }

    fn drain(&mut self, name: &str, fx: &mut Effects) {
        let held = self.keys.get_mut(name).and_then(|key| key.held.as_mut());
        let Some(held) = held else { return };
        held.draining = true;
        if held.pins == 0 {
            self.give_up(name, fx);
        }
    }

    fn start(
        &mut self,
        keys: Arc<[Arc<str>]>,
        request: Option<Ticket>,
        patient: bool,
        fx: &mut Effects,
    ) -> Option<Ticket> {
        let (id, session) = (self.next(), self.session.clone()?);
        for name in keys.iter() {
            self.key(name).flights.push(id);
        }
        if let Some(request) = request.and_then(|ticket| self.requests.get_mut(&ticket)) {
            request.flight = Some(id);
        }
        let (waiting_for, cancel) = (Arc::default(), CancellationToken::new());
        let flight = Arc::new(Flight { id, session, keys, request, patient, waiting_for, cancel });
        self.flights.insert(id, flight.clone());
        fx.starts.push(flight);
        Some(id)
    }

    /// The nodes of the claim exist.
    pub(super) fn entered(&mut self, flight: &Flight) {
        if self.entering == Some(flight.id) {
            self.entering = None;
        }
    }

    /// Nodes of a claim that are the first of their queues. `false`: nobody wants it any more.
    pub(super) fn land(
        &mut self,
        flight: &Flight,
        landing: Vec<(Node, View)>,
        now: Instant,
        fx: &mut Effects,
    ) -> bool {
        let current = self.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, &flight.session));
        if !current || !self.flights.contains_key(&flight.id) {
            return false;
        }
        for (node, view) in landing {
            // What was there is not the first any more, so it does not exist any more.
            self.lose(&node.key, fx);
            let node = Arc::new(node);
            let key = self.key(&node.key);
            key.flights.retain(|id| *id != flight.id);
            key.held = Some(Held {
                node: node.clone(),
                owner: None,
                pins: 0,
                uses: 0,
                last_used: now,
                contended: view.is_contended().then_some(now),
                draining: false,
                kept: flight.request.map(|_| flight.id),
                lost: Vec::new(),
            });
            self.count(1);
            self.serve([&node.key], fx);
            fx.keep.push((node, view));
        }
        let on_its_way = |name| self.keys.get(name).is_some_and(|key| key.flights.contains(&flight.id));
        if !flight.keys.iter().any(on_its_way) {
            self.end_flight(flight.id, fx);
        }
        self.work(now, fx);
        self.evict(fx);
        true
    }

    /// A claim came to nothing, or to nothing more. Whoever waited for it gets the answer, or else tries again.
    pub(super) fn fail(&mut self, flight: &Flight, answer: Option<Answer>, fx: &mut Effects) {
        if !self.flights.contains_key(&flight.id) {
            return;
        }
        let keys = flight.keys.iter().filter_map(|name| self.keys.get(name));
        let on_their_way = keys.filter(|key| key.flights.contains(&flight.id));
        let tickets: BTreeSet<Ticket> = match flight.request {
            Some(request) => [request].into(),
            None => on_their_way.flat_map(|key| key.waiting.keys().copied()).collect(),
        };
        self.end_flight(flight.id, fx);
        if let Some(answer) = answer {
            for ticket in tickets {
                self.answer(ticket, answer.clone(), fx);
            }
        }
    }

    /// The claim is not on its way any more.
    fn end_flight(&mut self, id: Ticket, fx: &mut Effects) {
        let Some(flight) = self.flights.remove(&id) else { return };
        self.entered(&flight);
        if let Some(request) = flight.request.and_then(|ticket| self.requests.get_mut(&ticket)) {
            request.flight = None;
        }
        for name in flight.keys.iter() {
            let Some(key) = self.keys.get_mut(name) else { continue };
            key.flights.retain(|other| *other != id);
            if let Some(held) = key.held.as_mut().filter(|held| held.kept == Some(id)) {
                held.kept = None;
            }
            self.prune(name);
        }
        self.serve(flight.keys.iter(), fx);
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, fx: &mut Effects) {
        if let Some(request) = self.remove(ticket, fx) {
            fx.replies.push((request.reply, answer));
        }
    }

    /// The request went away, or is answered. Claims that nobody else waits for come to nothing.
    pub(super) fn remove(&mut self, ticket: Ticket, fx: &mut Effects) -> Option<Request> {
        let request = self.requests.remove(&ticket)?;
        for name in request.keys.iter() {
            let Some(key) = self.keys.get_mut(name) else { continue };
            key.waiting.remove(&ticket);
            // Others may have waited for this request alone.
            if key.sole.is_none() || request.stage == Stage::Missed {
                fx.agenda.extend(key.waiting.keys());
            }
            if key.waiting.is_empty() {
                self.missing.remove(name);
            }
        }
        let on_their_way: BTreeSet<Ticket> = request
            .keys
            .iter()
            .filter_map(|name| self.keys.get(name))
            .flat_map(|key| key.flights.clone())
            .collect();
        for id in on_their_way.into_iter().chain(request.flight) {
            self.cancel_unwanted(id, ticket, fx);
        }
        for name in request.keys.iter() {
            self.prune(name);
        }
        Some(request)
    }

    fn cancel_unwanted(&mut self, id: Ticket, gone: Ticket, fx: &mut Effects) {
        let Some(flight) = self.flights.get(&id).cloned() else { return };
        let keys = || flight.keys.iter().filter_map(|name| self.keys.get(name));
        let wanted = keys().any(|key| key.flights.contains(&id) && !key.waiting.is_empty());
        if flight.request == Some(gone) || !wanted {
            self.end_flight(id, fx);
            flight.cancel.cancel();
        }
    }

    /// The key that a request waits for, as far as is known; `None` while the servers owe an answer.
    pub(super) fn obstacle(&self, ticket: Ticket, now: Instant) -> Option<Arc<str>> {
        let request = self.requests.get(&ticket)?;
        if !self.is_open(now) {
            return None;
        }
        let is_obstacle = |name: &&Arc<str>| {
            let Some(key) = self.keys.get(*name) else { return false };
            let flights = || key.flights.iter().filter_map(|id| self.flights.get(id));
            let waits = flights().any(|flight| {
                let other = waiting_for(&flight.keys, &flight.waiting_for);
                other.is_some_and(|other| other == *name || !request.keys.contains(other))
            });
            let held = key.held.is_some() && !self.is_free(name, request.owner, ticket, now);
            waits || held || self.blocked_since(key, request.owner, ticket).is_some()
        };
        request.keys.iter().find(is_obstacle).cloned()
    }
}
