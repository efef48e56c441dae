//! Orders of one SKU, from the request to the effect of their events.
//!
//! Up to three requests, two of them under one idempotency key, want a unit each. A request takes the lock, is placed in one
//! statement or decided in a transaction, and is answered; its order may be canceled. Both write an event into the outbox.
//! Two relays publish under a lease, a broker delivers, twice at times and in any order, and a consumer with an inbox handles.
//!
//! A transaction is one step. Nobody notices that a session or a lease has ended: whoever had it goes on, at any pace, so
//! that a pause, a garbage collection and a partition are all the same. Processes crash, answers and confirms get lost.
//!
//! Not modelled: batches, several SKUs, and several locations; how ZooKeeper makes a lock; retry tiers and dead letters.

use stateright::{Model, Property};

use self::{
    consumer::Consuming,
    protocol::{Change, Protocol},
    relay::Relaying,
    request::Placing,
    state::{EventId, Holder, State},
};

mod changes;
mod consumer;
mod placement;
mod properties;
mod protocol;
mod relay;
mod request;
mod state;

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Place(usize, Placing),
    Relay(usize, Relaying),
    Consume(EventId, Consuming),
    /// The merchant cancels an order.
    Cancel(usize),
    /// The session that holds the lock ends. Its process, if it lives, does not notice.
    SessionEnds,
    TokensRestart,
    /// The lease of the relay ends. Its owner, if it lives, does not notice.
    LeaseEnds,
}

impl Protocol {
    /// Every step but faults, and but cancellations, which nobody has to ask for.
    fn work(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.lock.holder == Some(Holder::Crashed) && !self.has(Change::LockWithoutSession) {
            steps.push(Step::SessionEnds);
        }
        if state.lease.is_of_crashed() && !self.has(Change::LeaseWithoutEnd) {
            steps.push(Step::LeaseEnds);
        }
        request::offer(self, state, &mut steps);
        relay::offer(self, state, &mut steps);
        consumer::offer(state, &mut steps);
        steps
    }

    /// What only happens so many times in a run.
    fn faults(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if matches!(state.lock.holder, Some(Holder::Request(_))) {
            steps.push(Step::SessionEnds);
        }
        if state.lock.holder.is_none() && state.lock.issued > 0 && self.has(Change::TokensRestart) {
            steps.push(Step::TokensRestart);
        }
        if state.lease.owner.is_some() && !state.lease.has_ended {
            steps.push(Step::LeaseEnds);
        }
        request::offer_faults(state, &mut steps);
        relay::offer_faults(state, &mut steps);
        consumer::offer_faults(state, &mut steps);
        steps
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds.keys.len(), self.bounds.faults)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.append(&mut self.work(state));
        if state.canceled() < self.bounds.cancellations {
            let orders = state.orders.iter().enumerate();
            steps.extend(orders.filter(|(_, order)| order.may_be_canceled()).map(|(id, _)| Step::Cancel(id)));
        }
        if state.faults_left > 0 {
            steps.append(&mut self.faults(state));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        match step {
            Step::Place(id, placing) => request::take(self, &mut next, id, placing),
            Step::Relay(id, relaying) => relay::take(self, &mut next, id, relaying),
            Step::Consume(id, consuming) => consumer::take(self, &mut next, id, consuming),
            Step::Cancel(id) => {
                next.orders[id].cancel();
                next.level.reserved -= 1;
            }
            Step::SessionEnds => {
                next.faults_left -= usize::from(next.lock.holder != Some(Holder::Crashed));
                next.lock.holder = None;
            }
            Step::TokensRestart => {
                next.faults_left -= 1;
                next.lock.issued = 0;
            }
            Step::LeaseEnds => {
                next.faults_left -= usize::from(!next.lease.is_of_crashed());
                next.lease.has_ended = true;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
