//! Starting payments: for each one row, `processing`, and the event that the payment worker acts on.

use std::collections::HashSet;

use super::{
    super::{
        Answer, Cause, Error, ExpectedVersion,
        answer::{self, to_json},
        start_payment::begin,
    },
    Batch, Subject,
    group::Job,
    outcomes,
};
use crate::{
    domain::{
        event::Event,
        ids::OrderId,
        payment::{NewPayment, Payment},
    },
    store::{
        Store,
        idempotency::{self, IdempotentRequest},
        order_batch::payments,
        payments::now,
    },
};

pub(in crate::app) struct Start {
    pub(in crate::app) request: IdempotentRequest,
    pub(in crate::app) order_id: OrderId,
    pub(in crate::app) expected: Option<ExpectedVersion>,
    pub(in crate::app) new: NewPayment,
    pub(in crate::app) cause: Cause,
    /// Who moves the money.
    pub(in crate::app) provider: &'static str,
}

impl Job for Start {
    type Outcome = Answer;

    const NAME: &'static str = "start_payments";

    fn subject(&self) -> Subject {
        self.order_id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<Answer>>, Error> {
        let wanted = jobs.iter().map(|job| (None, job.order_id, job.cause.clone()));
        let mut batch = Batch::open(store, Self::NAME, wanted).await?;
        let requests: Vec<&IdempotentRequest> = jobs.iter().map(|job| &job.request).collect();
        let answered = idempotency::find_all(&mut batch.tx, &requests).await?;
        // Not even a payment that is over: what became of it is for the use case to look at.
        let order_ids = batch.order_ids();
        let paid = payments::lock_of_orders(&mut batch.tx, &order_ids).await?;
        let paid: HashSet<OrderId> = paid.into_iter().map(|payment| payment.order_id).collect();
        let now = now(&mut batch.tx).await?;
        let mut started: Vec<(usize, Payment)> = Vec::new();
        batch.leave_out_unless(|opened| {
            let (job, order) = (&jobs[opened.index], &opened.change.order);
            let is_plain = answered[opened.index].is_none()
                && !paid.contains(&order.id)
                && opened.change.require_version(job.expected.as_ref()).is_ok();
            let payment = is_plain.then(|| begin(order, &job.new, job.provider, now).ok()).flatten();
            payment.map(|payment| started.push((opened.index, payment))).is_some()
        });
        payments::insert(&mut batch.tx, started.iter().map(|(_, payment)| payment)).await?;
        let mut answers = Vec::with_capacity(started.len());
        for (opened, (index, payment)) in batch.orders.iter_mut().zip(&started) {
            opened.change.emit(Event::PaymentCreated(payment.into()));
            answers.push((&jobs[*index].request, to_json(payment)?));
        }
        answer::store_all(&mut batch.tx, &answers).await?;
        batch.commit().await?;
        let answers = answers.into_iter().map(|(request, body)| Answer::now(request, body));
        Ok(outcomes(jobs.len(), started.iter().map(|(index, _)| *index).zip(answers)))
    }
}
