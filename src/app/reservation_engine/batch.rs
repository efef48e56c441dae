//! What becomes of a batch: each of its orders gets an answer of its own, also where the batch as a whole failed.
//!
//! One order must not take its neighbours with it: neither one that cannot be written, nor one whose level somebody keeps
//! locked.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Engine, Error, METRICS, Placed, Ticket,
    placing::{Outcomes, undecided},
};
use crate::{
    domain::{allocation::Allocation, inventory::LevelKey, new_order::OrderLineDraft},
    store::{self, inventory},
};

pub(super) type Answers = Vec<(Ticket, Result<Placed, Error>)>;

impl Engine {
    /// Places the orders. Gives each with its answer.
    pub(super) async fn place_batch(&self, tickets: Vec<Ticket>) -> Answers {
        let began = Instant::now();
        let all: Vec<&Ticket> = tickets.iter().collect();
        let mut placed = self.place_together(&all).await;
        if let Err(Error::Store(store::Error::LockTimeout(_))) = &placed
            && tickets.len() > 1
        {
            placed = self.place_around_locked(&all).await;
        }
        METRICS.orders.increment(tickets.len() as u64);
        METRICS.batch_orders.record(f64::from(u32::try_from(tickets.len()).unwrap_or(u32::MAX)));
        METRICS.duration.record(began.elapsed());
        match placed {
            Ok(outcomes) => tickets.into_iter().zip(outcomes).collect(),
            // One order that cannot be written must not take its neighbours with it.
            Err(error) if tickets.len() > 1 && !error.is_transient() => {
                tracing::error!(%error, orders = tickets.len(), "a batch failed, placing its orders one by one");
                let mut answers = Vec::with_capacity(tickets.len());
                for ticket in tickets {
                    let outcome = self.place_together(&[&ticket]).await;
                    let outcome =
                        outcome.and_then(|mut outcomes| outcomes.pop().unwrap_or_else(|| Err(undecided())));
                    answers.push((ticket, outcome));
                }
                answers
            }
            Err(error) => {
                METRICS.failed.increment(1);
                tickets.into_iter().map(|ticket| (ticket, Err(copy_of(&error)))).collect()
            }
        }
    }

    /// Somebody keeps the row lock of a level: whoever wants that level is told so, and the others are placed.
    async fn place_around_locked(&self, tickets: &[&Ticket]) -> Result<Outcomes, Error> {
        let lines = tickets.iter().flat_map(|ticket| &ticket.placement.draft.lines);
        let skus: BTreeSet<&str> = lines.map(|line| line.sku.as_str()).collect();
        let mut tx = self.store.begin("find_locked").await?;
        let locked = inventory::find_locked(&mut tx, &skus.into_iter().collect::<Vec<_>>()).await?;
        tx.rollback().await?;
        tracing::warn!(?locked, orders = tickets.len(), "the row locks of levels were not to be had in time");
        let (free, others): (Vec<usize>, Vec<usize>) =
            (0..tickets.len()).partition(|&index| !may_take(tickets[index], &locked));
        let mut outcomes: Vec<Option<Result<Placed, Error>>> = tickets.iter().map(|_| None).collect();
        let of =
            |indexes: &[usize]| -> Vec<&Ticket> { indexes.iter().map(|&index| tickets[index]).collect() };
        // By themselves: only if one of them has to be decided, the lock is in their way after all.
        let hopeful: Vec<usize> =
            others.into_iter().filter(|&index| is_expected_beside(tickets[index], &locked)).collect();
        for indexes in [free, hopeful].into_iter().filter(|indexes| !indexes.is_empty()) {
            let placed = match self.place_together(&of(&indexes)).await {
                Ok(placed) => placed,
                Err(error) if error.is_transient() => indexes.iter().map(|_| Err(copy_of(&error))).collect(),
                Err(error) => return Err(error),
            };
            indexes.into_iter().zip(placed).for_each(|(index, outcome)| outcomes[index] = Some(outcome));
        }
        let busy = || store::Error::LockTimeout("another transaction keeps the row lock of a level".into());
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(busy().into()))).collect())
    }
}

/// Whether the order may be taken from one of these levels, if it has to be decided.
fn may_take(ticket: &Ticket, levels: &[LevelKey]) -> bool {
    let may_take = |line: &OrderLineDraft, key: &LevelKey| {
        line.sku == key.sku && line.location_id.as_ref().is_none_or(|named| *named == key.location_id)
    };
    ticket.placement.draft.lines.iter().any(|line| levels.iter().any(|key| may_take(line, key)))
}

/// Whether the order is expected to be taken from other levels than these.
fn is_expected_beside(ticket: &Ticket, levels: &[LevelKey]) -> bool {
    let expected = ticket.expected.as_ref();
    expected.is_some_and(|expected| {
        !expected.iter().flat_map(Allocation::parts).any(|part| levels.contains(&part.level))
    })
}

/// Tells each client, and releases each order's locks.
pub(super) fn answer_all(answers: Answers) {
    for (ticket, outcome) in answers {
        // Released before the client can know: its next order finds the lock free.
        match &outcome {
            Ok(Placed::StaleFence) => ticket.guard.fenced(),
            _ => drop(ticket.guard),
        }
        // The client may have gone.
        let _ = ticket.reply.send(outcome);
    }
}

/// The error that a whole batch met, for one of its orders.
fn copy_of(error: &Error) -> Error {
    match error {
        Error::Unknown(reason) => Error::Unknown(reason.clone()),
        Error::Store(error) => Error::Store(error.clone()),
        other => store::Error::Inconsistent(other.to_string()).into(),
    }
}
