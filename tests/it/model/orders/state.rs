//! What there is in the model of orders: rows, the lock, messages, and how far every process is.

use holdfast::{domain::order::OrderStatus, lock::FencingToken};

use super::{relay::Relay, request::Request};

/// The token of a lock; `None` where there is no lock.
pub(super) type Token = Option<FencingToken>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) level: Level,
    pub(super) orders: Vec<Order>,
    pub(super) lock: Lock,
    pub(super) requests: Vec<Request>,
    pub(super) lease: Lease,
    pub(super) relays: [Relay; 2],
    pub(super) faults_left: usize,
}

/// The row of the level.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Level {
    pub(super) reserved: usize,
    /// The token of the last that wrote it.
    pub(super) fence: FencingToken,
    /// It was written under an older token than before.
    pub(super) fence_fell: bool,
}

/// The lock as ZooKeeper sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lock {
    pub(super) holder: Option<Holder>,
    /// The sequence of the newest token.
    pub(super) issued: i64,
}

/// Whose session holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    Request(usize),
    /// A process that is gone: its session ends by itself.
    Crashed,
}

/// The row of the relays' lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    /// The relay that has it; none where that is gone.
    pub(super) owner: Option<usize>,
    pub(super) epoch: usize,
    pub(super) has_ended: bool,
}

/// The row of an order, with its events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Order {
    /// The idempotency key it was placed under.
    pub(super) key: usize,
    /// `None` where its event was published before it was committed, and it has not been yet.
    pub(super) status: Option<OrderStatus>,
    /// `order.created` and `order.canceled`.
    pub(super) events: [Event; 2],
    /// The effect of an event was committed after that of a later one.
    pub(super) has_late_effect: bool,
}

/// Which event of which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EventId {
    pub(super) order: usize,
    pub(super) sequence: usize,
}

/// An event, wherever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Event {
    /// It has a row in the outbox.
    pub(super) is_pending: bool,
    /// How many rows it has in `outbox_sent`.
    pub(super) sent: usize,
    /// Messages that wait in the queue.
    pub(super) queued: usize,
    /// Messages that a consumer has taken.
    pub(super) taken: usize,
    /// Messages that a consumer has handled and not acknowledged.
    pub(super) handled: usize,
    pub(super) is_in_inbox: bool,
    /// How often its effect was committed.
    pub(super) effects: usize,
}

impl State {
    pub(super) fn new(requests: usize, faults: usize) -> Self {
        Self {
            level: Level { reserved: 0, fence: token(0), fence_fell: false },
            orders: Vec::new(),
            lock: Lock { holder: None, issued: 0 },
            requests: vec![Request::Waiting; requests],
            lease: Lease { owner: Some(0), epoch: 1, has_ended: false },
            relays: [Relay::Idle; 2],
            faults_left: faults,
        }
    }

    pub(super) fn event(&mut self, id: EventId) -> &mut Event {
        &mut self.orders[id.order].events[id.sequence]
    }

    pub(super) fn events(&self) -> impl Iterator<Item = (EventId, &Event)> {
        self.orders.iter().enumerate().flat_map(|(order, row)| {
            let events = row.events.iter().enumerate();
            events.map(move |(sequence, event)| (EventId { order, sequence }, event))
        })
    }

    /// How many orders are placed and not canceled.
    pub(super) fn living(&self) -> usize {
        self.orders.iter().filter(|order| order.status.is_some_and(|status| !status.is_dead())).count()
    }

    pub(super) fn canceled(&self) -> usize {
        self.orders.iter().filter(|order| order.status == Some(OrderStatus::Canceled)).count()
    }
}

impl Lease {
    /// It ends by itself.
    pub(super) fn is_of_crashed(&self) -> bool {
        self.owner.is_none() && !self.has_ended
    }
}

impl Order {
    pub(super) fn new(key: usize) -> Self {
        Self { key, status: None, events: <[Event; 2]>::default(), has_late_effect: false }
    }

    pub(super) fn may_be_canceled(&self) -> bool {
        self.status.is_some_and(|status| status.may_become(OrderStatus::Canceled))
    }

    /// Status and event in one commit.
    pub(super) fn cancel(&mut self) {
        self.status = Some(OrderStatus::Canceled);
        self.events[1].is_pending = true;
    }
}

impl Event {
    /// Whether the broker was given it.
    pub(super) fn is_published(&self) -> bool {
        self.queued + self.taken + self.handled > 0 || self.is_in_inbox
    }
}

pub(super) fn token(sequence: i64) -> FencingToken {
    FencingToken { epoch: 1, sequence }
}
