//! The rows of `relay_lease`, what processes know of them, and what each step makes of both.

use super::{Change, Protocol, Step};

pub(super) const SHARDS: usize = 2;
pub(super) const PROCESSES: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) leases: [Lease; SHARDS],
    pub(super) processes: [Process; PROCESSES],
    pub(super) faults_left: usize,
}

/// The row of a shard, and what happened under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    /// None where that process is gone.
    pub(super) owner: Option<usize>,
    pub(super) epoch: usize,
    pub(super) has_ended: bool,
    /// Who has marked rows under this epoch.
    pub(super) marked_by: Option<usize>,
    pub(super) was_marked_by_two: bool,
    /// A process marked rows without having the lease.
    pub(super) was_marked_by_former: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// The epochs of the leases that it knows it has.
    pub(super) epochs: [Option<usize>; SHARDS],
    /// It has published rows of these shards, which are confirmed and not marked.
    pub(super) confirmed: [bool; SHARDS],
}

const NEW: Process = Process { epochs: [None; SHARDS], confirmed: [false; SHARDS] };

impl State {
    pub(super) fn new(faults: usize) -> Self {
        let lease = Lease {
            owner: None,
            epoch: 0,
            has_ended: true,
            marked_by: None,
            was_marked_by_two: false,
            was_marked_by_former: false,
        };
        Self { leases: [lease; SHARDS], processes: [NEW; PROCESSES], faults_left: faults }
    }

    pub(super) fn take(&mut self, protocol: &Protocol, step: Step) {
        if self.is_fault(step) {
            self.faults_left -= 1;
        }
        match step {
            Step::Claim(id) => self.processes[id].epochs = self.claim(protocol, id),
            Step::Publish(id, shard) => self.processes[id].confirmed[shard] = true,
            Step::MarkSent(id) => self.mark_sent(protocol, id),
            Step::LeaseEnds(shard) => self.leases[shard].has_ended = true,
            Step::ClaimAnswerLost(id) => {
                self.claim(protocol, id);
            }
            Step::Crash(id) => {
                self.processes[id] = NEW;
                self.owned_by(id).for_each(|lease| lease.owner = None);
            }
            Step::GiveUp(id) => {
                self.processes[id] = NEW;
                self.owned_by(id).for_each(Lease::give_up);
            }
        }
    }

    fn is_fault(&self, step: Step) -> bool {
        match step {
            Step::Claim(_) | Step::Publish(..) | Step::MarkSent(_) => false,
            Step::LeaseEnds(shard) => !self.leases[shard].is_of_gone(),
            Step::ClaimAnswerLost(_) | Step::Crash(_) | Step::GiveUp(_) => true,
        }
    }

    fn owned_by(&mut self, id: usize) -> impl Iterator<Item = &mut Lease> {
        self.leases.iter_mut().filter(move |lease| lease.owner == Some(id))
    }

    /// `relay_lease::claim`. Gives the epochs.
    fn claim(&mut self, protocol: &Protocol, id: usize) -> [Option<usize>; SHARDS] {
        let claim_one = |lease: &mut Lease| {
            let is_own = lease.owner == Some(id);
            if !is_own && !lease.has_ended {
                return None;
            }
            if !is_own && !protocol.has(Change::EpochStays) {
                lease.raise_epoch();
            }
            (lease.owner, lease.has_ended) = (Some(id), false);
            Some(lease.epoch)
        };
        self.leases.each_mut().map(claim_one)
    }

    /// Whether a claim leads to anything that the table or the process has not yet.
    pub(super) fn claim_changes(&self, protocol: &Protocol, id: usize) -> bool {
        let mut next = self.clone();
        next.claim(protocol, id) != self.processes[id].epochs || next != *self
    }

    /// `outbox::mark_sent`, for all that the process has published.
    fn mark_sent(&mut self, protocol: &Protocol, id: usize) {
        let Process { epochs, confirmed } = self.processes[id];
        self.processes[id].confirmed = [false; SHARDS];
        for shard in (0..SHARDS).filter(|shard| confirmed[*shard]) {
            let lease = &mut self.leases[shard];
            let is_owner = lease.owner == Some(id);
            let may_mark = match protocol.change {
                Some(Change::NoEpochCheck) => true,
                Some(Change::EpochStays) => epochs[shard] == Some(lease.epoch),
                _ => is_owner && epochs[shard] == Some(lease.epoch),
            };
            if may_mark {
                lease.was_marked_by_two |= lease.marked_by.is_some_and(|other| other != id);
                lease.was_marked_by_former |= !is_owner;
                lease.marked_by = Some(id);
            }
        }
    }
}

impl Lease {
    /// Its owner is gone: it ends by itself.
    pub(super) fn is_of_gone(&self) -> bool {
        self.owner.is_none() && !self.has_ended
    }

    /// `relay_lease::release`.
    fn give_up(&mut self) {
        (self.owner, self.has_ended) = (None, true);
        self.raise_epoch();
    }

    fn raise_epoch(&mut self) {
        self.epoch += 1;
        self.marked_by = None;
    }
}

impl Process {
    /// A round begins with the renewal of the leases, and ends with the mark of what was published in it.
    pub(super) fn is_between_rounds(&self) -> bool {
        self.confirmed == [false; SHARDS]
    }

    pub(super) fn may_publish(&self, shard: usize) -> bool {
        self.epochs[shard].is_some() && !self.confirmed[shard]
    }
}
