//! Recording what the provider says of payments: authorized, and their orders are confirmed; or captured.

use std::collections::BTreeMap;

use super::{
    super::{
        Cause, Error, Handling,
        record_payment::{advance, confirm, target},
        stock_events::move_reservations,
    },
    Batch, Opened, Subject,
    group::Job,
    outcomes,
};
use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        order::OrderStatus,
        payment::{Payment, PaymentStatus},
        reservation::ReservationStatus,
    },
    provider::ProviderPayment,
    store::{Store, order_batch::payments},
};

pub(super) struct Record {
    pub(super) event: Option<Handling>,
    /// As it was before the provider was asked.
    pub(super) payment: Payment,
    pub(super) seen: ProviderPayment,
}

impl Job for Record {
    /// The payment's status from then on.
    type Outcome = PaymentStatus;

    const NAME: &'static str = "record_payments";

    fn subject(&self) -> Subject {
        self.payment.order_id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<PaymentStatus>>, Error> {
        let wanted = jobs.iter().map(|job| Handling::of(job.event.as_ref(), job.payment.order_id));
        let mut batch = Batch::open(store, Self::NAME, wanted).await?;
        let order_ids = batch.order_ids();
        let locked = payments::lock_of_orders(&mut batch.tx, &order_ids).await?;
        let mut locked: BTreeMap<PaymentId, Payment> =
            locked.into_iter().map(|payment| (payment.id, payment)).collect();
        batch.leave_out_unless(|opened| {
            let job = &jobs[opened.index];
            locked.get(&job.payment.id).is_some_and(|payment| is_plain(opened, payment, &job.seen))
        });
        for next in [PaymentStatus::Authorized, PaymentStatus::Captured] {
            move_all(&mut batch, jobs, &mut locked, next).await?;
        }
        let done = batch.commit().await?;
        Ok(outcomes(jobs.len(), done.into_iter().map(|index| (index, target(&jobs[index].seen)))))
    }
}

/// Whether the batch can do it, as far as is known before its locks.
pub(super) fn may_be_plain(payment: &Payment, seen: &ProviderPayment) -> bool {
    let is_step = matches!(
        (payment.status, target(seen)),
        (PaymentStatus::Processing, PaymentStatus::Authorized)
            | (PaymentStatus::Authorized, PaymentStatus::Captured)
    );
    let is_refunded = seen.amount_refunded != 0 || !seen.refunds.is_empty();
    is_step && !is_refunded && !seen.reference.is_empty()
}

/// Whether recording it is one step of a payment with what always follows from it.
fn is_plain(opened: &Opened, payment: &Payment, seen: &ProviderPayment) -> bool {
    let order = &opened.change.order;
    may_be_plain(payment, seen)
        && payment.void_requested_at.is_none()
        && match payment.status {
            PaymentStatus::Processing => order.status == OrderStatus::PendingPayment,
            // More than is due is refunded, and so is what a dead order has.
            _ => !order.status.is_dead() && seen.amount_captured <= order.amount_due(),
        }
}

/// Moves the payments on whose next status is this, with their orders.
async fn move_all(
    batch: &mut Batch,
    jobs: &[Record],
    locked: &mut BTreeMap<PaymentId, Payment>,
    next: PaymentStatus,
) -> Result<(), Error> {
    let Batch { tx, orders, .. } = batch;
    let mut moved: Vec<(&mut Opened, Payment)> = Vec::new();
    let mut told = None;
    for opened in orders.iter_mut() {
        let job = &jobs[opened.index];
        if target(&job.seen) != next {
            continue;
        }
        let Some(mut payment) = locked.remove(&job.payment.id) else { continue };
        let from = payment.status;
        let Some((event, note)) = advance(&mut payment, next, &job.seen) else { continue };
        opened.change.emit(event((&payment).into()));
        told = Some((from, note));
        moved.push((opened, payment));
    }
    let Some((from, note)) = told else { return Ok(()) };
    let payments: Vec<&Payment> = moved.iter().map(|(_, payment)| payment).collect();
    payments::mark(tx, &payments, from, next, note).await?;
    if next == PaymentStatus::Authorized {
        let orders: Vec<OrderId> = payments.iter().map(|payment| payment.order_id).collect();
        let (held, committed) = (ReservationStatus::Held, ReservationStatus::Committed);
        // What is committed in place of held leaves as much as there was: it crosses nothing that an event would tell of.
        move_reservations(tx, &orders, held, committed, &Cause::default()).await?;
        for (opened, _) in &mut moved {
            confirm(&mut opened.change)?;
        }
    }
    Ok(())
}
