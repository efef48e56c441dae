//! Broker and consumer: a delivery is handled in a transaction that begins with the inbox, and acknowledged after that. See
//! `worker/runner.rs`, `store/inbox.rs`.
//!
//! The queue keeps no order and the consumer takes any number of deliveries at a time: retries and concurrency lead to the
//! same.

use holdfast::domain::order::OrderStatus;

use super::{
    Step,
    protocol::{Change, Protocol},
    state::{EventId, State},
};

/// What becomes of a message of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consuming {
    Take,
    Handle,
    Acknowledge,
    /// The consumer dies before its commit.
    CrashBeforeCommit,
    /// The consumer dies after its commit, or the broker does not get what it acknowledges.
    AcknowledgementLost,
    /// The broker believes that the consumer is gone, and delivers again.
    DeliverAgain,
}

pub(super) fn offer(state: &State, steps: &mut Vec<Step>) {
    for (id, event) in state.events() {
        let ways = [
            (event.queued, Consuming::Take),
            (event.taken, Consuming::Handle),
            (event.handled, Consuming::Acknowledge),
        ];
        steps.extend(
            ways.iter().filter(|(messages, _)| *messages > 0).map(|(_, way)| Step::Consume(id, *way)),
        );
    }
}

pub(super) fn offer_faults(state: &State, steps: &mut Vec<Step>) {
    for (id, event) in state.events() {
        if event.taken > 0 {
            steps.push(Step::Consume(id, Consuming::CrashBeforeCommit));
            steps.push(Step::Consume(id, Consuming::DeliverAgain));
        }
        if event.handled > 0 {
            steps.push(Step::Consume(id, Consuming::AcknowledgementLost));
        }
    }
}

pub(super) fn take(protocol: &Protocol, state: &mut State, id: EventId, consuming: Consuming) {
    use Consuming::{AcknowledgementLost, CrashBeforeCommit, DeliverAgain};
    if matches!(consuming, CrashBeforeCommit | AcknowledgementLost | DeliverAgain) {
        state.faults_left -= 1;
    }
    let is_acknowledged_first = protocol.has(Change::AckBeforeCommit);
    let event = state.event(id);
    match consuming {
        Consuming::Take => {
            event.queued -= 1;
            event.taken += 1;
        }
        Consuming::Handle => {
            event.taken -= 1;
            event.handled += usize::from(!is_acknowledged_first);
            handle(protocol, state, id);
        }
        Consuming::Acknowledge => event.handled -= 1,
        Consuming::CrashBeforeCommit => {
            event.taken -= 1;
            event.queued += usize::from(!is_acknowledged_first);
        }
        Consuming::AcknowledgementLost => {
            event.handled -= 1;
            event.queued += 1;
        }
        Consuming::DeliverAgain => event.queued += 1,
    }
}

/// The consumer's transaction: its mark in the inbox, and the effect, if the order is still such that it has one.
fn handle(protocol: &Protocol, state: &mut State, id: EventId) {
    let order = &mut state.orders[id.order];
    let event = &mut order.events[id.sequence];
    if event.is_in_inbox && !protocol.has(Change::NoInbox) {
        return;
    }
    event.is_in_inbox = true;
    let is_begin = id.sequence == 0;
    if is_begin && order.status == Some(OrderStatus::Canceled) && !protocol.has(Change::NoGuard) {
        return;
    }
    event.effects += 1;
    order.has_late_effect |= is_begin && order.events[1].effects > 0;
}
