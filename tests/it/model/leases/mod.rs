//! Leases of the relay: two processes, two shards of the outbox. See `store/relay_lease.rs`, `worker/outbox_relay.rs`.
//!
//! A process claims what is its own or has ended, publishes rows of shards that it believes it leases, and marks them as
//! sent under the epochs it knows. Leases end while their owner goes on, the answer to a claim gets lost, a process crashes
//! or gives its leases up, and comes back under another name.
//!
//! Not modelled: the rows themselves, for which see [`orders`](super::orders), and how evenly shards are shared out.

use stateright::{Model, Property};

use self::state::{Lease, PROCESSES, SHARDS, State};

mod changes;
mod state;

/// What may be otherwise than in Holdfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Rows are marked by whoever published them.
    NoEpochCheck,
    /// A lease keeps its epoch when it changes hands, and its owner is not looked at.
    EpochStays,
    /// The lease of a process that is gone stays.
    LeaseWithoutEnd,
}

/// The protocol, with the bounds of its exploration.
struct Protocol {
    /// How many faults there are in one run.
    faults: usize,
    change: Option<Change>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Renews what the process has, and takes what has ended.
    Claim(usize),
    /// Process and shard. The broker confirms it.
    Publish(usize, usize),
    MarkSent(usize),
    /// The lease of a shard ends. Its owner, if it lives, does not notice.
    LeaseEnds(usize),
    /// The claim takes effect, and the process does not learn of it.
    ClaimAnswerLost(usize),
    Crash(usize),
    /// The process stops in good order.
    GiveUp(usize),
}

const ONE_MARKS: &str = "under one epoch one process marks the rows of a shard";
const OWNER_MARKS: &str = "only the owner of a lease marks rows";
const ALL_OWNED: &str = "in the end every shard has an owner that knows of it";
const BOTH_PUBLISH: &str = "each process publishes a shard";
const FORMER_HAS_ROWS: &str = "a former owner has rows to mark";

impl Protocol {
    fn has(&self, change: Change) -> bool {
        self.change == Some(change)
    }

    /// Every step but faults, and but new rows.
    fn work(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, process) in state.processes.iter().enumerate() {
            if !process.is_between_rounds() {
                steps.push(Step::MarkSent(id));
            } else if state.claim_changes(self, id) {
                steps.push(Step::Claim(id));
            }
        }
        if !self.has(Change::LeaseWithoutEnd) {
            let ending = (0..SHARDS).filter(|shard| state.leases[*shard].is_of_gone());
            steps.extend(ending.map(Step::LeaseEnds));
        }
        steps
    }

    /// What only happens so many times in a run.
    fn faults(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, process) in state.processes.iter().enumerate() {
            steps.push(Step::Crash(id));
            if process.is_between_rounds() {
                steps.extend([Step::ClaimAnswerLost(id), Step::GiveUp(id)]);
            }
        }
        let is_held = |lease: &Lease| lease.owner.is_some() && !lease.has_ended;
        if !self.has(Change::LeaseWithoutEnd) {
            let held = (0..SHARDS).filter(|shard| is_held(&state.leases[*shard]));
            steps.extend(held.map(Step::LeaseEnds));
        }
        steps
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.faults)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.append(&mut self.work(state));
        for id in 0..PROCESSES {
            let may_publish = |shard: &usize| state.processes[id].may_publish(*shard);
            steps.extend((0..SHARDS).filter(may_publish).map(|shard| Step::Publish(id, shard)));
        }
        if state.faults_left > 0 {
            steps.append(&mut self.faults(state));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        next.take(self, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_MARKS, |_, state: &State| {
                !state.leases.iter().any(|lease| lease.was_marked_by_two)
            }),
            Property::always(OWNER_MARKS, |_, state: &State| {
                !state.leases.iter().any(|lease| lease.was_marked_by_former)
            }),
            Property::always(ALL_OWNED, |protocol: &Protocol, state: &State| {
                let is_owned = |(shard, lease): (usize, &Lease)| {
                    lease.owner.is_some_and(|owner| state.processes[owner].epochs[shard] == Some(lease.epoch))
                };
                state.leases.iter().enumerate().all(is_owned) || !protocol.work(state).is_empty()
            }),
            Property::sometimes(BOTH_PUBLISH, |_, state: &State| {
                let [first, second] = state.leases.map(|lease| lease.marked_by);
                first.is_some() && second.is_some() && first != second
            }),
            Property::sometimes(FORMER_HAS_ROWS, |_, state: &State| {
                let has_former = |(shard, lease): (usize, &Lease)| {
                    let mut processes = state.processes.iter().enumerate();
                    processes.any(|(id, process)| process.confirmed[shard] && lease.owner != Some(id))
                };
                state.leases.iter().enumerate().any(has_former)
            }),
        ]
    }
}
