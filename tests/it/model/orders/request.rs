//! A request for a unit: lock, placement, answer. See `app/place_order.rs`; what it does in the database is
//! [`placement`](super::placement).

use super::{
    Step,
    placement::{decide, place_at_once, read, write},
    protocol::{Change, Protocol},
    state::{EventId, Holder, Order, State, Token, token},
};

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// It has not the lock.
    Waiting,
    /// It has the lock, or had it.
    Locked(Token),
    /// The one statement has refused itself.
    Refused(Token),
    /// It has read the level in a transaction of its own, and decided what to write.
    Decided { token: Token, reserved: usize },
    /// Its event is published, its order is not committed.
    Announced { token: Token, order: usize },
    /// A newer token was there.
    Overtaken(Token),
    /// Its order is committed, its event is not published.
    Unannounced { token: Token, order: usize },
    /// Its order is committed.
    Written(Token),
    /// The client knows.
    Answered,
}

/// What a request does, or meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placing {
    Lock,
    PlaceAtOnce,
    DecideUnderRowLock,
    Read,
    Write,
    Announce,
    LockAgain,
    Answer,
    /// The process dies, and the client sends the request again.
    Crash,
    /// The commit is not answered: whether it took effect is looked up.
    AnswerLost,
}

pub(super) fn offer(protocol: &Protocol, state: &State, steps: &mut Vec<Step>) {
    for (id, request) in state.requests.iter().enumerate() {
        let is_free = state.lock.holder.is_none() || protocol.has(Change::NoLock);
        let next = match request {
            Request::Waiting if is_free => Placing::Lock,
            Request::Waiting | Request::Answered => continue,
            Request::Locked(_) if protocol.has(Change::TwoTransactions) => Placing::Read,
            Request::Locked(_) if protocol.has(Change::PublishBeforeCommit) => Placing::Announce,
            Request::Locked(_) => Placing::PlaceAtOnce,
            Request::Refused(_) | Request::Announced { .. } => Placing::DecideUnderRowLock,
            Request::Decided { .. } => Placing::Write,
            Request::Unannounced { .. } => Placing::Announce,
            Request::Overtaken(_) => Placing::LockAgain,
            Request::Written(_) => Placing::Answer,
        };
        steps.push(Step::Place(id, next));
    }
}

pub(super) fn offer_faults(state: &State, steps: &mut Vec<Step>) {
    for (id, request) in state.requests.iter().enumerate() {
        if !matches!(request, Request::Waiting | Request::Answered) {
            steps.push(Step::Place(id, Placing::Crash));
        }
        if matches!(request, Request::Written(_)) {
            steps.push(Step::Place(id, Placing::AnswerLost));
        }
    }
}

pub(super) fn take(protocol: &Protocol, state: &mut State, id: usize, placing: Placing) {
    if matches!(placing, Placing::Crash | Placing::AnswerLost) {
        state.faults_left -= 1;
    }
    let request = state.requests[id];
    state.requests[id] = match (placing, request) {
        (Placing::Lock, _) => Request::Locked(lock(protocol, state, id)),
        (Placing::PlaceAtOnce, Request::Locked(token)) => place_at_once(protocol, state, id, token),
        (Placing::DecideUnderRowLock, Request::Refused(token)) => decide(protocol, state, id, token, None),
        (Placing::DecideUnderRowLock, Request::Announced { token, order }) => {
            decide(protocol, state, id, token, Some(order))
        }
        (Placing::Read, Request::Locked(token)) => read(protocol, state, id, token),
        (Placing::Write, Request::Decided { token, reserved }) => write(protocol, state, id, token, reserved),
        (Placing::Announce, Request::Locked(token)) => {
            state.orders.push(Order::new(protocol.bounds.keys[id]));
            let order = state.orders.len() - 1;
            state.event(EventId { order, sequence: 0 }).queued += 1;
            Request::Announced { token, order }
        }
        (Placing::Announce, Request::Unannounced { token, order }) => {
            state.event(EventId { order, sequence: 0 }).queued += 1;
            Request::Written(token)
        }
        (Placing::Answer, _) => answer(state, id),
        (Placing::AnswerLost, Request::Written(token)) if protocol.has(Change::TwoTransactions) => {
            Request::Locked(token)
        }
        (Placing::AnswerLost, Request::Written(token)) => Request::Refused(token),
        (Placing::LockAgain, _) => {
            release(state, id);
            Request::Waiting
        }
        (Placing::Crash, _) => {
            if state.lock.holder == Some(Holder::Request(id)) {
                state.lock.holder = Some(Holder::Crashed);
            }
            Request::Waiting
        }
        (placing, request) => unreachable!("{placing:?} of a request that is {request:?}"),
    };
}

fn lock(protocol: &Protocol, state: &mut State, id: usize) -> Token {
    if protocol.has(Change::NoLock) {
        return None;
    }
    state.lock.issued += 1;
    state.lock.holder = Some(Holder::Request(id));
    Some(token(state.lock.issued))
}

fn release(state: &mut State, id: usize) {
    if state.lock.holder == Some(Holder::Request(id)) {
        state.lock.holder = None;
    }
}

/// Locks are free before the client knows.
pub(super) fn answer(state: &mut State, id: usize) -> Request {
    release(state, id);
    Request::Answered
}
