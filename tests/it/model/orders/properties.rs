//! What must hold of orders in every state, and what must come about in some.

use holdfast::domain::order::OrderStatus;
use stateright::Property;

use super::{
    protocol::Protocol,
    relay::{Relay, marks},
    request::Request,
    state::{Event, Holder, Order, State},
};

pub(super) const NO_OVERSELL: &str = "no more units are sold than there are";
pub(super) const CONSERVATION: &str = "what is reserved is what is ordered";
pub(super) const FENCE_GROWS: &str = "the tokens that were accepted never fall";
pub(super) const HOLDER_WRITES: &str = "who holds the lock is not taken for an older holder";
pub(super) const ONE_ORDER: &str = "a key has one order at most";
pub(super) const ONE_EFFECT: &str = "an event takes effect once at most";
pub(super) const NO_ORDERLESS_EFFECT: &str = "there is no effect without an order";
pub(super) const EVENTS_IN_ORDER: &str = "an event is published once those of its order before it are sent";
pub(super) const EFFECTS_IN_ORDER: &str = "no effect of an order comes after that of a later event";
pub(super) const SENT_ONCE: &str = "an event is in outbox_sent once at most";
pub(super) const ALL_ANSWERED: &str = "in the end every request is answered";
pub(super) const ALL_SENT: &str = "in the end every event of an order is in outbox_sent";
pub(super) const ALL_TOOK_EFFECT: &str =
    "in the end every event of an order has taken effect, or the order is canceled";

pub(super) const ALL_SOLD: &str = "all units are sold";
pub(super) const OVERTAKEN: &str = "an older holder is refused";
pub(super) const DUPLICATE: &str = "a duplicate is delivered";
pub(super) const FORMER_MARKS_NOTHING: &str = "a former relay marks nothing";
pub(super) const TOO_LATE: &str = "an event comes too late to have an effect";
pub(super) const ALL_DONE: &str = "all is done";

pub(super) fn all() -> Vec<Property<Protocol>> {
    let mut all = vec![
        Property::always(NO_OVERSELL, |protocol: &Protocol, state: &State| {
            state.living() <= protocol.bounds.on_hand
        }),
        Property::always(CONSERVATION, |_, state: &State| state.level.reserved == state.living()),
        Property::always(FENCE_GROWS, |_, state: &State| !state.level.fence_fell),
        Property::always(HOLDER_WRITES, |_, state: &State| {
            let holds = |id| state.lock.holder == Some(Holder::Request(id));
            let is_overtaken = |request: &Request| matches!(request, Request::Overtaken(_));
            !state.requests.iter().enumerate().any(|(id, request)| is_overtaken(request) && holds(id))
        }),
        Property::always(ONE_ORDER, |_, state: &State| {
            let placed_under = |key| {
                let placed = state.orders.iter().filter(|order| order.status.is_some());
                placed.filter(|order| order.key == key).count()
            };
            placed_under(0) <= 1 && placed_under(1) <= 1
        }),
        Property::always(ONE_EFFECT, |_, state: &State| state.events().all(|(_, event)| event.effects <= 1)),
        Property::always(NO_ORDERLESS_EFFECT, |_, state: &State| {
            let has_effects = |order: &Order| order.events.iter().any(|event| event.effects > 0);
            !state.orders.iter().any(|order| order.status.is_none() && has_effects(order))
        }),
        Property::always(EVENTS_IN_ORDER, |_, state: &State| {
            !state.orders.iter().any(|order| order.events[0].is_pending && order.events[1].is_published())
        }),
        Property::always(EFFECTS_IN_ORDER, |_, state: &State| {
            !state.orders.iter().any(|order| order.has_late_effect)
        }),
        Property::always(SENT_ONCE, |_, state: &State| state.events().all(|(_, event)| event.sent <= 1)),
    ];
    all.extend(in_the_end());
    all.extend(somewhere());
    all
}

fn in_the_end() -> [Property<Protocol>; 3] {
    [
        Property::always(ALL_ANSWERED, |protocol: &Protocol, state: &State| {
            let are_answered = state.requests.iter().all(|request| *request == Request::Answered);
            are_answered || !protocol.work(state).is_empty()
        }),
        Property::always(ALL_SENT, |protocol: &Protocol, state: &State| {
            let are_sent = state.orders.iter().flat_map(events).all(|event| event.sent > 0);
            are_sent || !protocol.work(state).is_empty()
        }),
        Property::always(ALL_TOOK_EFFECT, |protocol: &Protocol, state: &State| {
            let took_effect = |order: &Order| {
                let is_ignored = order.status == Some(OrderStatus::Canceled) && order.events[0].is_in_inbox;
                let begun = is_ignored || order.events[0].effects > 0;
                begun && events(order).skip(1).all(|event| event.effects > 0)
            };
            let placed = || state.orders.iter().filter(|order| order.status.is_some());
            placed().all(took_effect) || !protocol.work(state).is_empty()
        }),
    ]
}

/// The events that there must be of an order.
fn events(order: &Order) -> impl Iterator<Item = &Event> {
    let number = match order.status {
        None => 0,
        Some(OrderStatus::Canceled) => 2,
        Some(_) => 1,
    };
    order.events.iter().take(number)
}

/// What the protocol is made for does happen within the bounds.
fn somewhere() -> [Property<Protocol>; 6] {
    [
        Property::sometimes(ALL_SOLD, |protocol: &Protocol, state: &State| {
            state.living() == protocol.bounds.on_hand
        }),
        Property::sometimes(OVERTAKEN, |_, state: &State| {
            state.requests.iter().any(|request| matches!(request, Request::Overtaken(_)))
        }),
        Property::sometimes(DUPLICATE, |_, state: &State| {
            state.events().any(|(_, event)| event.is_in_inbox && event.taken > 0)
        }),
        Property::sometimes(FORMER_MARKS_NOTHING, |protocol: &Protocol, state: &State| {
            state.relays.iter().enumerate().any(|(id, relay)| match *relay {
                Relay::Confirmed(event, epoch) => {
                    let row = &state.orders[event.order].events[event.sequence];
                    row.is_pending && !marks(protocol, state, id, epoch)
                }
                _ => false,
            })
        }),
        Property::sometimes(TOO_LATE, |_, state: &State| {
            state.events().any(|(_, event)| event.is_in_inbox && event.effects == 0)
        }),
        Property::sometimes(ALL_DONE, |protocol: &Protocol, state: &State| {
            let are_answered = state.requests.iter().all(|request| *request == Request::Answered);
            are_answered && !state.orders.is_empty() && protocol.work(state).is_empty()
        }),
    ]
}
