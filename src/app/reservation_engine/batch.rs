//! One batch of orders, placed in one transaction.
//!
//! First at once: if every level has enough, every order gets what it wants, whatever the order of deciding. So the batch
//! is written in one statement that checks exactly that, and its fencing tokens, and that no key was used before. Where the
//! statement refuses itself, or is known to, the batch is decided under row locks ([`super::super::reserve_stock`]), and
//! each order gets its own answer. An outcome that is unknown is found out there too, by the idempotency keys.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Answer, Engine, Error, METRICS, Placed, Placement, Ticket};
use crate::{
    app::{
        Conflict, answer,
        reserve_stock::{self, Want},
        retry::retry,
    },
    domain::{inventory::LevelKey, reservation::Decision, validation::FieldError},
    store::{
        self, idempotency, orders,
        placement::{self, PlacedOrder},
    },
};

type Outcomes = Vec<Result<Placed, Error>>;

impl Engine {
    /// Places the orders and answers each.
    pub(super) async fn place_batch(&self, tickets: Vec<Ticket>) {
        let began = Instant::now();
        let placed = self.place_together(&tickets).await;
        METRICS.orders.increment(tickets.len() as u64);
        METRICS.duration.record(began.elapsed());
        match placed {
            Ok(outcomes) => answer_all(tickets.into_iter().zip(outcomes)),
            // One order that cannot be written must not take its neighbours with it.
            Err(error) if tickets.len() > 1 && !error.is_transient() => {
                tracing::error!(%error, orders = tickets.len(), "a batch failed, placing its orders one by one");
                for ticket in tickets {
                    let outcome = self.place_together(std::slice::from_ref(&ticket)).await;
                    let outcome =
                        outcome.and_then(|mut outcomes| outcomes.pop().unwrap_or_else(|| Err(undecided())));
                    answer_all([(ticket, outcome)]);
                }
            }
            Err(error) => {
                METRICS.failed.increment(1);
                let errors: Vec<Error> = tickets.iter().map(|_| copy_of(&error)).collect();
                answer_all(tickets.into_iter().zip(errors.into_iter().map(Err)));
            }
        }
    }

    async fn place_together(&self, tickets: &[Ticket]) -> Result<Outcomes, Error> {
        let wants: Vec<Want<'_>> = tickets
            .iter()
            .map(|ticket| Want { demands: ticket.placement.draft.demand(), guard: &ticket.guard })
            .collect();
        let (wants, mut first) = (wants.as_slice(), true);
        retry("place_orders", || {
            let first = std::mem::take(&mut first);
            async move {
                if first && let Some(outcomes) = self.place_at_once(tickets, wants).await? {
                    return Ok(outcomes);
                }
                self.place_under_row_locks(tickets, wants).await
            }
        })
        .await
    }

    /// Writes the batch in one statement. `None` if that is refused: something has to be decided.
    async fn place_at_once(&self, tickets: &[Ticket], wants: &[Want<'_>]) -> Result<Option<Outcomes>, Error> {
        let levels = reserve_stock::sum(wants);
        let Some(now) = self.clock.now() else { return Ok(None) };
        if self.seen.is_short(levels.iter().map(|(key, change)| (*key, change.quantity))) {
            return Ok(None);
        }
        let orders = rendered(tickets.iter().map(|ticket| &*ticket.placement), now)?;
        let batch = placement::Batch { orders: placed(&orders), levels, now };
        match self.store.place(&batch).await {
            Ok(written) => {
                METRICS.at_once.increment(1);
                self.clock.set(written.now);
                self.seen.record(batch.levels.keys().copied().zip(written.available));
                Ok(Some(orders.into_iter().map(|order| Ok(order.into_placed())).collect()))
            }
            Err(error) if placement::is_refused(&error) => {
                tracing::debug!(%error, orders = tickets.len(), "a batch has to be decided");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides each order under the row locks of every level, and writes those that get their stock.
    async fn place_under_row_locks(&self, tickets: &[Ticket], wants: &[Want<'_>]) -> Result<Outcomes, Error> {
        let mut tx = self.store.begin("place_orders").await?;
        let stock = reserve_stock::lock(&mut tx, wants).await?;
        self.clock.set(stock.now);
        // Under the row locks, so that a request waits for its twin instead of competing with it for the last unit.
        let requests: Vec<_> = tickets.iter().map(|ticket| &ticket.placement.request).collect();
        let stored = idempotency::find_all(&mut tx, &requests).await?;
        let references =
            tickets.iter().filter_map(|ticket| ticket.placement.draft.client_reference.as_deref());
        let taken = orders::find_by_references(&mut tx, &references.collect::<Vec<_>>()).await?;
        let earlier = tickets.iter().zip(stored).map(|(ticket, stored)| {
            let placement = &ticket.placement;
            let answered =
                stored.map(|stored| answer::replay(&placement.request, stored).map(Placed::Answer));
            let reference = placement.draft.client_reference.as_ref();
            answered.or_else(|| {
                let order_id = *taken.get(reference?)?;
                Some(Err(Conflict::DuplicateClientReference { order_id }.into()))
            })
        });
        let mut outcomes: Vec<Option<Result<Placed, Error>>> = earlier.collect();
        let open: Vec<usize> = (0..tickets.len()).filter(|&index| outcomes[index].is_none()).collect();
        let decided = stock.decide(open.iter().map(|&index| &wants[index]));
        self.seen.record(decided.levels.iter().map(|(key, level)| (key, level.available())));
        METRICS.decided.increment(1);
        let mut reserved = Vec::new();
        for (&index, decision) in open.iter().zip(decided.decisions) {
            match decision {
                None => outcomes[index] = Some(Ok(Placed::StaleFence)),
                Some(Decision::Reserved) => reserved.push(index),
                Some(Decision::Insufficient(items)) => outcomes[index] = Some(Ok(Placed::Short(items))),
                Some(Decision::Unknown(keys)) => {
                    outcomes[index] = Some(Err(unknown_skus(&tickets[index].placement, &keys)));
                }
            }
        }
        if !reserved.is_empty() {
            let orders = rendered(reserved.iter().map(|&index| &*tickets[index].placement), stock.now)?;
            let levels = reserve_stock::sum(reserved.iter().map(|&index| &wants[index]));
            let batch = placement::Batch { orders: placed(&orders), levels, now: stock.now };
            placement::insert(&mut tx, &batch).await.map_err(changed_meanwhile)?;
            tx.commit().await?;
            for (index, order) in reserved.into_iter().zip(orders) {
                outcomes[index] = Some(Ok(order.into_placed()));
            }
        }
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(undecided()))).collect())
    }
}

/// An order with the JSON that tells of it.
struct Rendered<'a> {
    placement: &'a Placement,
    expires_at: DateTime<Utc>,
    body: String,
}

impl Rendered<'_> {
    fn into_placed(self) -> Placed {
        let status = self.placement.request.success_status;
        Placed::Answer(Answer { status, body: self.body, replayed: false })
    }
}

fn rendered<'a>(
    placements: impl Iterator<Item = &'a Placement>,
    now: DateTime<Utc>,
) -> Result<Vec<Rendered<'a>>, Error> {
    let render = |placement: &'a Placement| {
        let expires_at = now + TimeDelta::seconds(placement.draft.ttl_seconds);
        let body = answer::to_json(&placement.draft.clone().into_order(now, expires_at))?;
        Ok(Rendered { placement, expires_at, body })
    };
    placements.map(render).collect()
}

fn placed<'a>(orders: &'a [Rendered<'a>]) -> Vec<PlacedOrder<'a>> {
    let order = |order: &'a Rendered<'a>| PlacedOrder {
        draft: &order.placement.draft,
        expires_at: order.expires_at,
        request: &order.placement.request,
        body: &order.body,
        correlation_id: order.placement.correlation_id.as_deref(),
    };
    orders.iter().map(order).collect()
}

/// What was looked up under the row locks is not what the statement met: the next try finds what is there now.
fn changed_meanwhile(error: store::Error) -> Error {
    if placement::is_refused(&error) {
        return store::Error::Aborted(error.to_string()).into();
    }
    error.into()
}

fn answer_all(answers: impl IntoIterator<Item = (Ticket, Result<Placed, Error>)>) {
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

fn undecided() -> Error {
    store::Error::Inconsistent("an order was not decided".into()).into()
}

/// The error that a whole batch met, for one of its orders.
fn copy_of(error: &Error) -> Error {
    match error {
        Error::Unknown(reason) => Error::Unknown(reason.clone()),
        Error::Store(error) => Error::Store(error.clone()),
        other => store::Error::Inconsistent(other.to_string()).into(),
    }
}

fn unknown_skus(placement: &Placement, keys: &[LevelKey]) -> Error {
    let lines = placement.draft.lines.iter().enumerate().filter(|(_, line)| keys.contains(&line.level));
    let errors = lines.map(|(index, line)| {
        let LevelKey { sku, location_id } = &line.level;
        FieldError {
            pointer: format!("/lines/{index}/sku"),
            detail: format!("there is no SKU {sku} at location {location_id}"),
        }
    });
    Error::UnknownSku(errors.collect())
}
