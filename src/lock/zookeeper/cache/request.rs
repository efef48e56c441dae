//! Who gets what: the requests that wait, and the claims that are made for them.
//!
//! A request is looked at whenever something changed for one of its keys ([`Table::attempt`]), and then gets its keys, makes
//! a claim, or goes on waiting. The module comment of [`super`] says why that ends.

use std::sync::{Arc, atomic::AtomicUsize};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    flight::Flight,
    table::{Answer, Effects, Held, InFlight, Node, Reply, Request, Table, Ticket},
};
use crate::lock::{
    LockOwner,
    zookeeper::{entry::waiting_for, path, session::Session, turn::Turn},
};

/// What a request that cannot have its keys now is to do.
enum Step {
    Wait,
    /// It was not to wait.
    Refuse,
    /// Enter the queues of what is missing. The keys that are held may still be there afterwards.
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
        let request = Request { keys, owner, since: now, patient, tried: false, flight: None, reply };
        self.requests.insert(ticket, request);
        fx.agenda.insert(ticket);
        ticket
    }

    /// Something changed for these keys.
    pub(super) fn serve<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>, fx: &mut Effects) {
        let keys = names.into_iter().filter_map(|name| self.keys.get(name));
        fx.agenda.extend(keys.flat_map(|key| key.waiting.keys()));
    }

    /// Looks at every request for which something changed, the oldest first.
    pub(super) fn work(&mut self, now: Instant, fx: &mut Effects) {
        while let Some(ticket) = fx.agenda.pop_first() {
            self.attempt(ticket, now, fx);
        }
    }

    fn attempt(&mut self, ticket: Ticket, now: Instant, fx: &mut Effects) {
        let Some(request) = self.requests.get(&ticket) else { return };
        let (keys, owner) = (request.keys.clone(), request.owner);
        if let Some(tokens) = self.pin(&keys, owner, ticket, now) {
            return self.answer(ticket, Ok(Some(tokens)), fx);
        }
        match self.next_step(ticket, now) {
            Step::Wait => {}
            Step::Refuse => self.answer(ticket, Ok(None), fx),
            Step::ClaimMissing(missing) => self.start(ticket, missing.into(), false, fx),
            Step::ClaimWhole => {
                for name in keys.iter() {
                    self.drain(name, fx);
                }
                self.start(ticket, keys, true, fx);
            }
        }
    }

    fn next_step(&self, ticket: Ticket, now: Instant) -> Step {
        let Some(request) = self.requests.get(&ticket) else { return Step::Wait };
        if request.flight.is_some() || !self.is_open(now) {
            return Step::Wait;
        }
        let (mut blocked, mut missing, mut free) = (false, 0, Vec::new());
        for key in request.keys.iter().filter_map(|name| self.keys.get(name)) {
            blocked |= self.is_blocked(key, request.owner, ticket, now);
            if key.held.as_ref().is_none_or(|held| held.draining) {
                missing += 1;
                if key.flights.is_empty() {
                    free.push(key.name.clone());
                }
            } else if !self.is_free(&key.name, request.owner, ticket, now) {
                // Pinned by another owner here, for a bounded time.
                blocked |= !request.patient;
            }
        }
        if !request.patient && (blocked || free.len() < missing || request.tried) {
            return Step::Refuse;
        }
        if blocked || missing == 0 {
            return Step::Wait;
        }
        if !request.tried && !free.is_empty() {
            return Step::ClaimMissing(free);
        }
        let waited = now.saturating_duration_since(request.since) >= self.options.hand_over;
        if request.tried && (!free.is_empty() || waited) && !self.is_covered(&request.keys) {
            return Step::ClaimWhole;
        }
        Step::Wait
    }

    /// Whether one claim is on its way that brings all of these keys at once.
    fn is_covered(&self, keys: &[Arc<str>]) -> bool {
        let flights = keys.first().and_then(|name| self.keys.get(name)).map(|key| &key.flights);
        flights
            .into_iter()
            .flatten()
            .filter_map(|id| self.flights.get(id))
            .any(|on_its_way| keys.iter().all(|key| on_its_way.flight.keys.binary_search(key).is_ok()))
    }

    fn drain(&mut self, name: &str, fx: &mut Effects) {
        let held = self.keys.get_mut(name).and_then(|key| key.held.as_mut());
        let Some(held) = held else { return };
        held.draining = true;
        if held.pins == 0 {
            self.give_up(name, fx);
        }
    }

    fn start(&mut self, ticket: Ticket, keys: Arc<[Arc<str>]>, whole: bool, fx: &mut Effects) {
        let id = self.next();
        for name in keys.iter() {
            self.key(name).flights.push(id);
        }
        let Some(request) = self.requests.get_mut(&ticket) else { return };
        request.tried = true;
        request.flight = Some(id);
        let flight = Arc::new(Flight {
            id,
            keys,
            patient: request.patient,
            waiting_for: Arc::new(AtomicUsize::new(0)),
            cancel: CancellationToken::new(),
        });
        tracing::trace!(id, whole, keys = ?flight.keys, "claim starts");
        self.flights.insert(id, InFlight { flight: flight.clone(), request: ticket });
        fx.starts.push(flight);
    }

    /// Every node of a claim is the first of its queue. `false`: nobody wants it any more, or its session is over.
    pub(super) fn land(
        &mut self,
        flight: &Flight,
        session: &Arc<Session>,
        (nodes, turn): (Vec<(String, String)>, Turn),
        now: Instant,
        fx: &mut Effects,
    ) -> bool {
        let current = self.session.as_ref().is_some_and(|current| Arc::ptr_eq(current, session));
        if !current || !self.flights.contains_key(&flight.id) {
            return false;
        }
        for ((name, (queue, path)), view) in flight.keys.iter().zip(nodes).zip(turn.views) {
            // What was there is not the first any more, so it does not exist any more.
            self.lose(name, fx);
            let contended = path::first(&view.children).is_some_and(|(_, waiting)| waiting > 0);
            let node = Node { session: session.clone(), key: name.clone(), queue, path, czxid: turn.czxid };
            let node = Arc::new(node);
            self.key(name).held = Some(Held {
                node: node.clone(),
                owner: None,
                pins: 0,
                uses: 0,
                last_used: now,
                contended: contended.then_some(now),
                draining: false,
                lost: Vec::new(),
            });
            self.held += 1;
            fx.keep.push((node, view));
        }
        if let Some(request) = self.end_flight(flight.id, fx) {
            // Whole, and so the only one who must have it at once.
            self.attempt(request, now, fx);
        }
        self.work(now, fx);
        self.evict(fx);
        true
    }

    /// A claim came to nothing.
    pub(super) fn fail(&mut self, flight: &Flight, answer: Answer, fx: &mut Effects) {
        if let Some(request) = self.end_flight(flight.id, fx) {
            self.answer(request, answer, fx);
        }
    }

    /// The claim is not on its way any more. Returns whose it was.
    fn end_flight(&mut self, id: Ticket, fx: &mut Effects) -> Option<Ticket> {
        let InFlight { flight, request } = self.flights.remove(&id)?;
        for name in flight.keys.iter() {
            self.key(name).flights.retain(|other| *other != id);
        }
        self.serve(flight.keys.iter(), fx);
        for name in flight.keys.iter() {
            self.prune(name);
        }
        self.requests.get_mut(&request)?.flight = None;
        Some(request)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, fx: &mut Effects) {
        if let Some(request) = self.remove(ticket, fx) {
            fx.replies.push((request.reply, answer));
        }
    }

    /// The request went away, or is answered. Its claim goes to another request that wants all of it, or comes to nothing.
    pub(super) fn remove(&mut self, ticket: Ticket, fx: &mut Effects) -> Option<Request> {
        let request = self.requests.remove(&ticket)?;
        for name in request.keys.iter() {
            let Some(key) = self.keys.get_mut(name) else { continue };
            key.waiting.remove(&ticket);
            // Others may have waited for this request alone.
            if key.sole.is_none() {
                fx.agenda.extend(key.waiting.keys());
            }
        }
        if let Some(id) = request.flight {
            self.pass_on(id, fx);
        }
        for name in request.keys.iter() {
            self.prune(name);
        }
        Some(request)
    }

    fn pass_on(&mut self, id: Ticket, fx: &mut Effects) {
        let Some(flight) = self.flights.get(&id).map(|on_its_way| on_its_way.flight.clone()) else { return };
        let key = flight.keys.first().and_then(|name| self.keys.get(name));
        let heir = key.into_iter().flat_map(|key| key.waiting.keys()).copied().find(|ticket| {
            let wants = |request: &Request| {
                let all = flight.keys.iter().all(|key| request.keys.binary_search(key).is_ok());
                request.flight.is_none() && request.patient && flight.patient && all
            };
            self.requests.get(ticket).is_some_and(wants)
        });
        if let Some((ticket, request)) =
            heir.and_then(|ticket| Some((ticket, self.requests.get_mut(&ticket)?)))
        {
            request.flight = Some(id);
            request.tried = true;
            if let Some(on_its_way) = self.flights.get_mut(&id) {
                on_its_way.request = ticket;
            }
            return;
        }
        self.end_flight(id, fx);
        flight.cancel.cancel();
    }

    /// The key that a request waits for, as far as is known; `None` while the servers owe an answer.
    pub(super) fn obstacle(&self, ticket: Ticket, now: Instant) -> Option<Arc<str>> {
        let request = self.requests.get(&ticket)?;
        if !self.is_open(now) {
            return None;
        }
        request
            .keys
            .iter()
            .find(|name| {
                let Some(key) = self.keys.get(*name) else { return false };
                let flights = || key.flights.iter().filter_map(|id| self.flights.get(id));
                let waits = flights().any(|on_its_way| {
                    let flight = &on_its_way.flight;
                    waiting_for(&flight.keys, &flight.waiting_for)
                        .is_some_and(|key| key == *name || !request.keys.contains(key))
                });
                let held = key.held.is_some() && !self.is_free(name, request.owner, ticket, now);
                waits || held || self.is_blocked(key, request.owner, ticket, now)
            })
            .cloned()
    }
}
