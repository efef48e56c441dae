//! The payment of one order, its expiry and its cancellation, with a provider whose outcome may be unknown.
//!
//! Two workers at a time ask the provider, outside any transaction, and record what it said in one. An answer may not come:
//! the request is lost, or arrives whenever it likes. Time runs out, the merchant cancels, the provider lets go of money by
//! itself, a worker dies; all at any step. See `app/authorize_payment.rs`, `app/capture_payment.rs`,
//! `app/record_payment.rs`, `app/release_payment.rs`, `app/expire_orders.rs`, `app/cancel_order.rs`.
//!
//! Not modelled: `requires_action` and what the customer does on an open page; parts of an order or of its money; refunds that
//! fail; payments that the provider never heard of until two days have passed; what is shipped.

use holdfast::domain::{order::OrderStatus, payment::PaymentStatus};
use stateright::{Model, Property};

use self::state::{Job, Payment, Request, State, Time};

mod changes;
mod properties;
mod state;
mod steps;

/// What may be otherwise than in Holdfast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// A time-out of the provider is taken for a refusal.
    TimeOutIsFailure,
    /// An order may have several payments at once.
    NoLiveKey,
    /// Money that is captured for a dead order stays where it is.
    LateMoneyStays,
    /// An order stays as it is when its payment is gone.
    LapseIsIgnored,
    /// Expiry finds its orders in one transaction and ends them in the next, without another look.
    ExpiryLooksOnce,
}

/// The protocol, with the bounds of its exploration.
struct Protocol {
    faults: usize,
    change: Option<Change>,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    StartPayment,
    Cancel,
    TimeRunsOut,
    /// A payment that is not decided has kept the order alive for as long as it may.
    PinRunsOut,
    /// See [`Change::ExpiryLooksOnce`].
    FindExpired,
    Expire,
    /// A worker takes on what is to be done about a payment, and asks the provider.
    Ask(usize, Request),
    /// The payment of a dead order was never asked for, and is not.
    RefuseToAsk(usize),
    /// A dead order writes down the refund of money that nobody gave back.
    WriteRefund(usize),
    /// A payment is looked up, and the provider answers at once.
    LookUp(usize),
    /// The provider answers.
    Arrive(usize),
    /// A request arrives that nobody waits for any more.
    ArriveLate(usize, usize),
    Record(usize),
    /// No answer comes: the request is lost.
    Lost(usize),
    /// No answer comes: the request arrives some time.
    TimeOut(usize),
    CrashBeforeRecord(usize),
    /// The provider gives authorized money free by itself.
    Lapse(usize),
}

impl Step {
    const fn is_fault(self) -> bool {
        matches!(self, Self::Lost(_) | Self::TimeOut(_) | Self::CrashBeforeRecord(_) | Self::Lapse(_))
    }
}

impl Protocol {
    fn has(&self, change: Change) -> bool {
        self.change == Some(change)
    }

    /// Every step but faults, and but what somebody may ask for or not.
    fn work(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.order.may_become(OrderStatus::Expired) {
            match state.time {
                Time::Left => steps.push(Step::TimeRunsOut),
                Time::RunOut if state.is_undecided() => steps.push(Step::PinRunsOut),
                _ if self.has(Change::ExpiryLooksOnce) && !state.is_expiring => steps.push(Step::FindExpired),
                _ => steps.push(Step::Expire),
            }
        } else if state.is_expiring {
            steps.push(Step::Expire);
        }
        for (index, job) in state.jobs.iter().enumerate() {
            steps.push(match job {
                Job::Asked(..) => Step::Arrive(index),
                Job::Told(..) => Step::Record(index),
            });
        }
        for (id, payment) in state.payments.iter().enumerate() {
            steps.extend((0..payment.on_their_way.len()).map(|index| Step::ArriveLate(id, index)));
            if state.jobs.len() < WORKERS {
                steps.extend(self.next_of(state, id, payment));
            }
        }
        steps
    }

    /// What a worker does about a payment, whether an event or a look-up leads it there.
    fn next_of(&self, state: &State, id: usize, payment: &Payment) -> Vec<Step> {
        let is_dead = state.order.is_dead();
        match payment.status {
            status if status.is_undecided() && is_dead && !payment.was_asked => vec![Step::RefuseToAsk(id)],
            status if status.is_undecided() => {
                let unheard = payment.at_provider.is_none();
                let outcomes = [Some(PaymentStatus::Authorized), unheard.then_some(PaymentStatus::Failed)];
                outcomes
                    .into_iter()
                    .flatten()
                    .map(|outcome| Step::Ask(id, Request::Authorize(outcome)))
                    .collect()
            }
            PaymentStatus::Authorized if is_dead => vec![Step::Ask(id, Request::Void)],
            PaymentStatus::Authorized => vec![Step::Ask(id, Request::Capture)],
            PaymentStatus::Captured if payment.is_refund_pending => vec![Step::Ask(id, Request::Refund)],
            PaymentStatus::Captured if is_dead && !self.has(Change::LateMoneyStays) => {
                vec![Step::WriteRefund(id)]
            }
            _ => Vec::new(),
        }
    }
}

/// How many requests are at the provider at a time.
const WORKERS: usize = 2;

/// How many payments the customer tries.
const PAYMENTS: usize = 2;

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.faults)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.append(&mut self.work(state));
        let may_start = !state.has_live_payment() || self.has(Change::NoLiveKey);
        if state.may_be_paid() && may_start && state.payments.len() < PAYMENTS {
            steps.push(Step::StartPayment);
        }
        if state.may_be_canceled() {
            steps.push(Step::Cancel);
        }
        if state.jobs.len() < WORKERS {
            let known = state.payments.iter().enumerate().filter(|(_, payment)| payment.is_looked_up());
            steps.extend(known.map(|(id, _)| Step::LookUp(id)));
        }
        if state.faults_left == 0 {
            return;
        }
        for (index, job) in state.jobs.iter().enumerate() {
            match job {
                Job::Asked(..) => steps.extend([Step::Lost(index), Step::TimeOut(index)]),
                Job::Told(..) => steps.push(Step::CrashBeforeRecord(index)),
            }
        }
        let authorized = |payment: &Payment| payment.at_provider == Some(PaymentStatus::Authorized);
        let payments = state.payments.iter().enumerate();
        steps.extend(payments.filter(|(_, payment)| authorized(payment)).map(|(id, _)| Step::Lapse(id)));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        next.take(self, step);
        next.jobs.sort_by_key(Job::place);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
