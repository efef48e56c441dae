//! One try to place orders together, in one transaction.
//!
//! First at once: if every level has enough, every order gets what it wants, whatever the order of deciding. So the batch
//! is written in one statement that checks exactly that, and its fencing tokens, and that no key was used before. Where the
//! statement refuses itself, or is known to, the batch is decided under row locks ([`super::super::reserve_stock`]), and
//! each order gets its own answer. An outcome that is unknown is found out there too, by the idempotency keys. The statement
//! also refuses itself where a level would run out or low: the event that tells of it is written where both are known, the
//! level before and after.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::{Bounds, Engine, Error, METRICS, Placed, Placement, Rendered, Ticket};
use crate::{
    app::{
        Cause, Conflict, answer,
        reserve_stock::{self, Want},
        retry::retry,
        stock_events,
    },
    domain::{
        inventory::{LevelChange, LevelKey},
        reservation::Decision,
        validation::{FieldError, Invalid, Rule},
    },
    store::{
        self, idempotency, orders,
        outbox::NewEvent,
        placement::{self, PlacedOrder},
    },
};

/// How old the times of an order may be that is written at once: the statement allows a second.
const WAITED_LONG: TimeDelta = TimeDelta::milliseconds(500);

/// What became of each order.
pub(super) type Outcomes = Vec<Result<Placed, Error>>;

impl Engine {
    /// Places the orders, in as many tries as it takes. Gives the outcome of each, or the error of all of them together.
    pub(super) async fn place_together(&self, tickets: &[&Ticket]) -> Result<Outcomes, Error> {
        let wants: Vec<Want<'_>> = tickets
            .iter()
            .map(|ticket| Want { demands: &ticket.placement.demands, guard: &ticket.guard })
            .collect();
        let (wants, mut first) = (wants.as_slice(), true);
        retry("place_orders", || {
            let first = std::mem::take(&mut first);
            async move {
                let attempt = self.attempt(tickets, wants, first);
                // The connection is dropped with the attempt, and its levels are not kept from others for ever.
                let silent = |_| Err(Error::Unknown("PostgreSQL did not answer in time".into()));
                timeout(self.store.patience(), attempt).await.unwrap_or_else(silent)
            }
        })
        .await
    }

    async fn attempt(&self, tickets: &[&Ticket], wants: &[Want<'_>], first: bool) -> Result<Outcomes, Error> {
        if first && let Some(outcomes) = self.place_at_once(tickets, wants).await? {
            return Ok(outcomes);
        }
        self.place_under_row_locks(tickets, wants).await
    }

    /// Writes the batch in one statement. `None` if that is refused: something has to be decided.
    async fn place_at_once(
        &self,
        tickets: &[&Ticket],
        wants: &[Want<'_>],
    ) -> Result<Option<Outcomes>, Error> {
        let (Some(levels), Some(now)) = (reserve_stock::sum(wants), self.clock.now()) else {
            return Ok(None);
        };
        if self.seen.is_short(levels.iter().map(|(key, change)| (*key, change.quantity))) {
            return Ok(None);
        }
        if self.limits_seen.is_limited(levels.keys().map(|key| &key.sku)) {
            return Ok(None);
        }
        let orders: Vec<_> = tickets.iter().map(|ticket| fresh(ticket, now)).collect::<Result<_, _>>()?;
        let orders_placed = placed(&orders, tickets.iter().copied());
        let caps = self.options.caps;
        let batch = placement::Batch { orders: orders_placed, levels, caps };
        match self.store.place(&batch).await {
            Ok(written) => {
                METRICS.at_once.increment(1);
                self.clock.set(written.now);
                self.seen.record(batch.levels.keys().copied().zip(written.available));
                let answers = orders.into_iter().zip(tickets);
                Ok(Some(
                    answers
                        .map(|(order, ticket)| Ok(order.into_owned().into_placed(&ticket.placement)))
                        .collect(),
                ))
            }
            Err(error) if placement::is_refused(&error) => {
                tracing::debug!(%error, orders = tickets.len(), "a batch has to be decided");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides each order under the row locks of every level, and writes those that get their stock.
    async fn place_under_row_locks(
        &self,
        tickets: &[&Ticket],
        wants: &[Want<'_>],
    ) -> Result<Outcomes, Error> {
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
        let mut open: Vec<usize> = (0..tickets.len()).filter(|&index| outcomes[index].is_none()).collect();
        let placements = open.iter().map(|&index| &*tickets[index].placement);
        let bounds = Bounds::lock(&mut tx, self.options.caps, placements, stock.now).await?;
        self.limits_seen.record(bounds.limited());
        let decided = bounds.decide(&stock, (tickets, wants), &mut open, &mut outcomes);
        self.seen.record(decided.levels.iter().map(|(key, level)| (key, level.available())));
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
            let winners = reserved.iter().map(|&index| tickets[index]);
            let render = |ticket: &Ticket| Rendered::new(&ticket.placement.draft, stock.now).map(Cow::Owned);
            let orders: Vec<_> = winners.clone().map(render).collect::<Result<_, _>>()?;
            let levels = reserve_stock::sum(reserved.iter().map(|&index| &wants[index]));
            let levels = levels.ok_or_else(undecided)?;
            let orders_placed = placed(&orders, winners.clone());
            let batch = placement::Batch { orders: orders_placed, levels, caps: self.options.caps };
            placement::insert(&mut tx, &batch).await.map_err(changed_meanwhile)?;
            let winners: Vec<&Ticket> = winners.collect();
            let changes = batch.levels.keys().filter_map(|key| stock.change(key, &decided.levels));
            let events = changes.filter_map(|change| crossing_of(&change, &winners)).collect();
            stock_events::write(&mut tx, events).await?;
            tx.commit().await?;
            for (index, order) in reserved.into_iter().zip(orders) {
                outcomes[index] = Some(Ok(order.into_owned().into_placed(&tickets[index].placement)));
            }
        }
        METRICS.decided.increment(1);
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(undecided()))).collect())
    }
}

/// The order as it came, or rendered now where it came long ago.
fn fresh(ticket: &Ticket, now: DateTime<Utc>) -> Result<Cow<'_, Rendered>, Error> {
    match &ticket.rendered {
        Some(rendered) if now - rendered.created_at < WAITED_LONG => Ok(Cow::Borrowed(rendered)),
        _ => Rendered::new(&ticket.placement.draft, now).map(Cow::Owned),
    }
}

fn placed<'a>(
    orders: &'a [Cow<'a, Rendered>],
    tickets: impl IntoIterator<Item = &'a Ticket>,
) -> Vec<PlacedOrder<'a>> {
    orders.iter().zip(tickets).map(|(order, ticket)| order.order(&ticket.placement)).collect()
}

/// What has to be told of a level that the orders were placed on. It follows from the last that took from it.
fn crossing_of(change: &LevelChange, winners: &[&Ticket]) -> Option<NewEvent> {
    change.crossing()?;
    let took = |ticket: &&&Ticket| ticket.levels().any(|key| *key == change.after.key);
    let last = winners.iter().rev().find(took);
    let correlation_id = last.and_then(|ticket| ticket.placement.correlation_id.clone());
    let cause = Cause { correlation_id, causation_id: None };
    stock_events::crossing_event(change, change.after.version, &cause)
}

/// What was looked up under the row locks is not what the statement met: the next try finds what is there now.
fn changed_meanwhile(error: store::Error) -> Error {
    if placement::is_refused(&error) {
        return store::Error::Aborted(error.to_string()).into();
    }
    error.into()
}

pub(super) fn undecided() -> Error {
    store::Error::Inconsistent("an order was not decided".into()).into()
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
    Error::Invalid(Invalid { rule: Rule::UnknownSku, errors: errors.collect() })
}
