//! The relay: reads the outbox, publishes, waits for the confirm, marks as sent under its lease. See
//! `worker/outbox_relay.rs`, `store/outbox.rs`, `store/relay_lease.rs`.
//!
//! One shard. A relay renews its lease before it reads, and does one row at a time: a window is several of these.

use super::{
    Step,
    protocol::{Change, Protocol},
    state::{EventId, State},
};

/// How far a relay is with a row, which it read under the lease of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Relay {
    Idle,
    Read(EventId, usize),
    /// Given to the broker, and not confirmed.
    Published(EventId, usize),
    Confirmed(EventId, usize),
}

/// What a relay does, or meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relaying {
    /// Takes the lease that has ended, or renews its own.
    Claim,
    Read(EventId),
    Publish,
    SeeConfirm,
    MarkSent,
    Crash,
    /// The broker does not get it.
    PublishLost,
    /// The broker has it, and the relay does not learn of it.
    ConfirmLost,
}

pub(super) fn offer(protocol: &Protocol, state: &State, steps: &mut Vec<Step>) {
    let lease = &state.lease;
    for (id, relay) in state.relays.iter().enumerate() {
        match relay {
            Relay::Idle if lease.has_ended => steps.push(Step::Relay(id, Relaying::Claim)),
            Relay::Idle if lease.owner == Some(id) => {
                steps.extend(pending(protocol, state).map(|event| Step::Relay(id, Relaying::Read(event))));
            }
            Relay::Idle => {}
            Relay::Read(..) => steps.push(Step::Relay(id, Relaying::Publish)),
            Relay::Published(..) if protocol.has(Change::MarkBeforeConfirm) => {
                steps.push(Step::Relay(id, Relaying::MarkSent));
            }
            Relay::Published(..) => steps.push(Step::Relay(id, Relaying::SeeConfirm)),
            Relay::Confirmed(..) => steps.push(Step::Relay(id, Relaying::MarkSent)),
        }
    }
}

/// Of each order the first row only.
fn pending(protocol: &Protocol, state: &State) -> impl Iterator<Item = EventId> {
    let is_kept_back = |id: EventId| {
        id.sequence > 0 && state.orders[id.order].events[0].is_pending && !protocol.has(Change::NoOrderOfRows)
    };
    let pending = state.events().filter(|(_, event)| event.is_pending).map(|(id, _)| id);
    pending.filter(move |id| !is_kept_back(*id))
}

pub(super) fn offer_faults(state: &State, steps: &mut Vec<Step>) {
    for (id, relay) in state.relays.iter().enumerate() {
        let faults: &[Relaying] = match relay {
            Relay::Idle => &[],
            Relay::Read(..) => &[Relaying::Crash, Relaying::PublishLost],
            Relay::Published(..) => &[Relaying::Crash, Relaying::ConfirmLost],
            Relay::Confirmed(..) => &[Relaying::Crash],
        };
        steps.extend(faults.iter().map(|fault| Step::Relay(id, *fault)));
    }
}

pub(super) fn take(protocol: &Protocol, state: &mut State, id: usize, relaying: Relaying) {
    if matches!(relaying, Relaying::Crash | Relaying::PublishLost | Relaying::ConfirmLost) {
        state.faults_left -= 1;
    }
    let relay = state.relays[id];
    state.relays[id] = match (relaying, relay) {
        (Relaying::Claim, _) => {
            let lease = &mut state.lease;
            lease.epoch += usize::from(lease.owner != Some(id));
            (lease.owner, lease.has_ended) = (Some(id), false);
            relay
        }
        (Relaying::Read(event), _) => Relay::Read(event, state.lease.epoch),
        (Relaying::Publish, Relay::Read(event, epoch)) => {
            state.event(event).queued += 1;
            Relay::Published(event, epoch)
        }
        (Relaying::SeeConfirm, Relay::Published(event, epoch)) => Relay::Confirmed(event, epoch),
        (Relaying::MarkSent, Relay::Published(event, epoch) | Relay::Confirmed(event, epoch)) => {
            mark_sent(protocol, state, id, (event, epoch));
            Relay::Idle
        }
        (Relaying::Crash, _) => {
            // Who comes after it has another name, and no lease.
            state.lease.owner = state.lease.owner.filter(|owner| *owner != id);
            Relay::Idle
        }
        // In the model of what is marked too early, the message is under way for all that the relay knows.
        (Relaying::PublishLost, Relay::Read(event, epoch)) if protocol.has(Change::MarkBeforeConfirm) => {
            Relay::Published(event, epoch)
        }
        (Relaying::PublishLost | Relaying::ConfirmLost, _) => Relay::Idle,
        (relaying, relay) => unreachable!("{relaying:?} by a relay that is {relay:?}"),
    };
}

/// The one statement that moves a row, if the lease is still the one it was published under.
fn mark_sent(protocol: &Protocol, state: &mut State, id: usize, (event, epoch): (EventId, usize)) {
    if !marks(protocol, state, id, epoch) {
        return;
    }
    let event = state.event(event);
    if event.is_pending || protocol.has(Change::MarkForgets) {
        event.is_pending = false;
        event.sent += 1;
    }
}

/// Whether what a relay published under the lease of an epoch is marked as sent by it.
pub(super) fn marks(protocol: &Protocol, state: &State, id: usize, epoch: usize) -> bool {
    let has_lease = state.lease.owner == Some(id) && state.lease.epoch == epoch;
    has_lease || protocol.has(Change::NoEpochCheck)
}
