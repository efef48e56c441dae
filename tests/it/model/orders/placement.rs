//! The transactions of a request, each of them one step. See `app/reserve_stock.rs`, `app/reservation_engine/placing.rs`,
//! `store/placement/place.sql`.

use holdfast::domain::order::OrderStatus;

use super::{
    protocol::{Change, Protocol},
    request::{Request, answer},
    state::{Order, State, Token},
};

/// The one statement: refuses itself where it would run the level out, too, for an event has to tell of that.
pub(super) fn place_at_once(protocol: &Protocol, state: &mut State, id: usize, token: Token) -> Request {
    match protocol.reserving[state.level.reserved] {
        Some(reserved)
            if reserved < protocol.bounds.on_hand
                && !is_stale(protocol, state, token)
                && !is_key_used(protocol, state, id) =>
        {
            commit(protocol, state, id, token, reserved, None)
        }
        _ => Request::Refused(token),
    }
}

/// Read, decided and written under the level's row lock, in one transaction.
pub(super) fn decide(
    protocol: &Protocol,
    state: &mut State,
    id: usize,
    token: Token,
    order: Option<usize>,
) -> Request {
    if is_key_used(protocol, state, id) {
        return answer(state, id);
    }
    if is_stale(protocol, state, token) {
        return Request::Overtaken(token);
    }
    match protocol.reserving[state.level.reserved] {
        Some(reserved) => commit(protocol, state, id, token, reserved, order),
        None => answer(state, id),
    }
}

/// The first of two transactions.
pub(super) fn read(protocol: &Protocol, state: &mut State, id: usize, token: Token) -> Request {
    if is_key_used(protocol, state, id) {
        return answer(state, id);
    }
    if protocol.has(Change::FenceRaisedFirst) {
        if is_stale(protocol, state, token) {
            return Request::Overtaken(token);
        }
        state.level.fence = token.unwrap_or(state.level.fence);
    }
    match protocol.reserving[state.level.reserved] {
        Some(reserved) => Request::Decided { token, reserved },
        None => answer(state, id),
    }
}

/// The second.
pub(super) fn write(
    protocol: &Protocol,
    state: &mut State,
    id: usize,
    token: Token,
    reserved: usize,
) -> Request {
    if is_stale(protocol, state, token) {
        return Request::Overtaken(token);
    }
    if is_key_used(protocol, state, id) {
        return Request::Locked(token);
    }
    commit(protocol, state, id, token, reserved, None)
}

fn is_stale(protocol: &Protocol, state: &State, token: Token) -> bool {
    !protocol.has(Change::NoFence) && token.is_some_and(|mine| mine < state.level.fence)
}

fn is_key_used(protocol: &Protocol, state: &State, id: usize) -> bool {
    let mut placed = state.orders.iter().filter(|order| order.status.is_some());
    !protocol.has(Change::NoIdempotencyKey) && placed.any(|order| order.key == protocol.bounds.keys[id])
}

/// Level, order, key and event in one commit.
fn commit(
    protocol: &Protocol,
    state: &mut State,
    id: usize,
    token: Token,
    reserved: usize,
    order: Option<usize>,
) -> Request {
    let level = &mut state.level;
    level.reserved = reserved;
    if let Some(token) = token {
        level.fence_fell |= token < level.fence;
        level.fence = token;
    }
    let order = order.unwrap_or_else(|| {
        state.orders.push(Order::new(protocol.bounds.keys[id]));
        state.orders.len() - 1
    });
    state.orders[order].status = Some(OrderStatus::PendingPayment);
    if protocol.has(Change::PublishBeforeCommit) {
        return Request::Written(token);
    }
    if protocol.has(Change::PublishAfterCommit) {
        return Request::Unannounced { token, order };
    }
    state.orders[order].events[0].is_pending = true;
    Request::Written(token)
}
