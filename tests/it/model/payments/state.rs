//! An order, its payments here and at the provider, and what workers are at.

use holdfast::domain::{order::OrderStatus, payment::PaymentStatus, reservation::ReservationStatus};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) order: OrderStatus,
    pub(super) reservation: ReservationStatus,
    /// How often its stock was given back.
    pub(super) releases: usize,
    pub(super) time: Time,
    /// Expiry has found the order, and is going to end it.
    pub(super) is_expiring: bool,
    pub(super) payments: Vec<Payment>,
    pub(super) jobs: Vec<Job>,
    pub(super) faults_left: usize,
}

/// The time to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Time {
    Left,
    RunOut,
    /// For a payment that is not decided, too.
    PinRunOut,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Payment {
    pub(super) status: PaymentStatus,
    /// The provider was going to be asked, at least.
    pub(super) was_asked: bool,
    pub(super) is_outcome_unknown: bool,
    pub(super) is_refund_pending: bool,
    /// Where it stands there, if it has heard of it.
    pub(super) at_provider: Option<PaymentStatus>,
    /// Requests that the provider gets some time, and whose answer nobody waits for.
    pub(super) on_their_way: Vec<Request>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Request {
    /// With what the provider is going to say if it has not heard of the payment.
    Authorize(PaymentStatus),
    Capture,
    Void,
    Refund,
}

/// What a worker is at, with the payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Job {
    Asked(usize, Request),
    /// The provider has said where the payment stands.
    Told(usize, PaymentStatus),
}

impl State {
    pub(super) fn new(faults: usize) -> Self {
        Self {
            order: OrderStatus::PendingPayment,
            reservation: ReservationStatus::Held,
            releases: 0,
            time: Time::Left,
            is_expiring: false,
            payments: Vec::new(),
            jobs: Vec::new(),
            faults_left: faults,
        }
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.payments.iter().any(|payment| payment.status.is_undecided())
    }

    pub(super) fn has_live_payment(&self) -> bool {
        self.payments.iter().any(|payment| payment.status.is_live())
    }

    pub(super) fn may_be_paid(&self) -> bool {
        self.order == OrderStatus::PendingPayment && self.time == Time::Left
    }

    pub(super) fn may_be_canceled(&self) -> bool {
        self.order.may_become(OrderStatus::Canceled) && !self.is_undecided()
    }
}

impl Payment {
    pub(super) fn new() -> Self {
        Self {
            status: PaymentStatus::Processing,
            was_asked: false,
            is_outcome_unknown: false,
            is_refund_pending: false,
            at_provider: None,
            on_their_way: Vec::new(),
        }
    }

    /// The provider gets a request, whenever that is: it does what it can, each thing once. Gives its answer.
    pub(super) fn arrive(&mut self, request: Request) -> PaymentStatus {
        let (from, to) = match request {
            Request::Authorize(outcome) => (None, outcome),
            Request::Capture => (Some(PaymentStatus::Authorized), PaymentStatus::Captured),
            Request::Void => (Some(PaymentStatus::Authorized), PaymentStatus::Voided),
            Request::Refund => (Some(PaymentStatus::Captured), PaymentStatus::Refunded),
        };
        if self.at_provider == from {
            self.at_provider = Some(to);
        }
        self.at_provider.unwrap_or(to)
    }

    /// Whether there is something to find out at the provider, and to find there.
    pub(super) fn is_looked_up(&self) -> bool {
        let is_open = self.status.is_undecided() || self.status == PaymentStatus::Authorized;
        self.at_provider.is_some() && (is_open || self.is_refund_pending)
    }

    /// Whether the provider has set its money aside or taken it.
    pub(super) fn holds_money(&self) -> bool {
        matches!(self.at_provider, Some(PaymentStatus::Authorized | PaymentStatus::Captured))
    }
}

impl Job {
    /// Workers are all the same: their jobs stand in one order, so that it makes no difference who does which.
    pub(super) fn place(&self) -> (usize, usize, usize) {
        match *self {
            Self::Asked(id, Request::Authorize(outcome)) => (id, 0, outcome as usize),
            Self::Asked(id, Request::Capture) => (id, 1, 0),
            Self::Asked(id, Request::Void) => (id, 2, 0),
            Self::Asked(id, Request::Refund) => (id, 3, 0),
            Self::Told(id, seen) => (id, 4, seen as usize),
        }
    }
}
