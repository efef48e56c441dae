//! What each step makes of an order and its payments.

use holdfast::domain::{order::OrderStatus, payment::PaymentStatus, reservation::ReservationStatus};

use super::{
    Change, Protocol, Step,
    state::{Job, Payment, Request, State, Time},
};

impl State {
    pub(super) fn take(&mut self, protocol: &Protocol, step: Step) {
        self.faults_left -= usize::from(step.is_fault());
        match step {
            Step::StartPayment => self.payments.push(Payment::new()),
            Step::Cancel => self.cancel(),
            Step::TimeRunsOut => self.time = Time::RunOut,
            Step::PinRunsOut => self.time = Time::PinRunOut,
            Step::FindExpired => self.is_expiring = true,
            Step::Expire => {
                self.is_expiring = false;
                self.end(OrderStatus::Expired, ReservationStatus::Expired);
            }
            Step::Ask(id, request) => {
                self.payments[id].was_asked = true;
                self.jobs.push(Job::Asked(id, request));
            }
            Step::LookUp(id) => {
                self.jobs.extend(self.payments[id].at_provider.map(|seen| Job::Told(id, seen)));
            }
            Step::RefuseToAsk(id) => self.jobs.push(Job::Told(id, PaymentStatus::Failed)),
            Step::WriteRefund(id) => self.payments[id].is_refund_pending = true,
            Step::Arrive(index) => {
                if let Job::Asked(id, request) = self.jobs[index] {
                    self.jobs[index] = Job::Told(id, self.payments[id].arrive(request));
                }
            }
            Step::ArriveLate(id, index) => {
                let request = self.payments[id].on_their_way.remove(index);
                self.payments[id].arrive(request);
            }
            Step::Record(index) => {
                if let Job::Told(id, seen) = self.jobs.remove(index) {
                    self.record(protocol, id, seen);
                }
            }
            Step::Lost(index) => {
                self.hear_nothing(protocol, index);
            }
            Step::TimeOut(index) => {
                let (id, request) = self.hear_nothing(protocol, index);
                self.payments[id].on_their_way.push(request);
            }
            Step::CrashBeforeRecord(index) => {
                self.jobs.remove(index);
            }
            Step::Lapse(id) => self.payments[id].at_provider = Some(PaymentStatus::Voided),
        }
    }

    /// A worker gives up waiting for the answer to its request, and notes that.
    fn hear_nothing(&mut self, protocol: &Protocol, index: usize) -> (usize, Request) {
        let Job::Asked(id, request) = self.jobs.remove(index) else { unreachable!("nobody was asked") };
        let payment = &mut self.payments[id];
        payment.is_outcome_unknown = true;
        if payment.status.is_undecided() && protocol.has(Change::TimeOutIsFailure) {
            payment.status = PaymentStatus::Failed;
        }
        (id, request)
    }

    /// What the provider said, with everything that follows from it, in one transaction.
    fn record(&mut self, protocol: &Protocol, id: usize, seen: PaymentStatus) {
        let is_refunded = seen == PaymentStatus::Refunded;
        let target = if is_refunded { PaymentStatus::Captured } else { seen };
        for next in self.payments[id].status.path_to(target) {
            self.payments[id].status = next;
            self.payments[id].is_outcome_unknown = false;
            match next {
                PaymentStatus::Authorized if self.order.may_become(OrderStatus::Confirmed) => {
                    self.order = OrderStatus::Confirmed;
                    self.reservation = ReservationStatus::Committed;
                }
                PaymentStatus::Captured if self.order.is_dead() => {
                    self.payments[id].is_refund_pending = !protocol.has(Change::LateMoneyStays);
                }
                PaymentStatus::Voided | PaymentStatus::Failed
                    if self.order == OrderStatus::Confirmed && !protocol.has(Change::LapseIsIgnored) =>
                {
                    self.end(OrderStatus::Canceled, ReservationStatus::Released);
                }
                _ => {}
            }
        }
        let payment = &mut self.payments[id];
        if is_refunded && payment.is_refund_pending {
            (payment.status, payment.is_refund_pending) = (PaymentStatus::Refunded, false);
        }
    }

    fn cancel(&mut self) {
        self.end(OrderStatus::Canceled, ReservationStatus::Released);
        for payment in self.payments.iter_mut().filter(|payment| payment.status == PaymentStatus::Captured) {
            payment.is_refund_pending = true;
        }
    }

    /// The order dies, and its stock is free.
    fn end(&mut self, order: OrderStatus, reservation: ReservationStatus) {
        (self.order, self.reservation) = (order, reservation);
        self.releases += 1;
    }
}
