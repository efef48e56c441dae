//! One try to place orders together, in one transaction.
//!
//! First at once: if every level has enough, every order gets what it wants, whatever the order of deciding. So the batch
//! is written in one statement that checks exactly that, and its fencing tokens, and that no key was used before. Where the
//! statement refuses itself, or is known to, the batch is decided under row locks ([`super::super::reserve_stock`]), and
//! each order gets its own answer. An outcome that is unknown is found out there too, by the idempotency keys. The statement
//! also refuses itself where a level would run out or low: the event that tells of it is written where both are known, the
//! level before and after.

use std::{borrow::Cow, collections::BTreeMap};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::{Bounds, Engine, Error, METRICS, Placed, Placement, Rendered, Ticket};
use crate::{
    app::{
        Conflict, answer,
        reserve_stock::{self, LockedStock, Want},
        retry::retry,
        stock_events,
    },
    domain::{
        allocation::Allocation,
        inventory::{InventoryLevel, LevelChange, LevelKey},
        new_order::OrderLineDraft,
        reservation::Decision,
        validation::{FieldError, Invalid, Rule},
    },
    store::{
        self, Conn, idempotency, orders,
        outbox::NewEvent,
        placement::{self, PlacedOrder, ReserveStock},
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
            .map(|ticket| Want { wanted: ticket.placement.draft.wanted(), guard: &ticket.guard })
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
        let (Some(levels), Some(now)) = (expected_levels(tickets, wants), self.clock.now()) else {
            return Ok(None);
        };
        if self.seen.is_short(levels.iter().map(|(key, change)| (*key, change.quantity))) {
            return Ok(None);
        }
        if self.limits_seen.is_limited(levels.keys().map(|key| &key.sku)) {
            return Ok(None);
        }
        let expected = tickets.iter().filter_map(|&ticket| Some((ticket, ticket.expected.as_ref()?)));
        let expected = expected.map(|(ticket, allocations)| (ticket, allocations.as_slice()));
        let fresh = |(ticket, allocations)| fresh(ticket, allocations, now);
        let orders: Vec<_> = expected.clone().map(fresh).collect::<Result<_, _>>()?;
        let orders_placed = placed(&orders, expected);
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
        let stock = match reserve_stock::lock(&mut tx, wants).await {
            Ok(stock) => stock,
            Err(error) => {
                // Awaited: what was locked before is free when others are told.
                let _ = tx.rollback().await;
                return Err(error);
            }
        };
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
                Some(Decision::Reserved(allocations)) => reserved.push((index, allocations)),
                Some(Decision::Insufficient(items)) => outcomes[index] = Some(Ok(Placed::Short(items))),
                Some(Decision::Unknown(lines)) => {
                    outcomes[index] = Some(Err(unknown_skus(&tickets[index].placement, &lines)));
                }
            }
        }
        if !reserved.is_empty() {
            let orders =
                self.write_decided(&mut tx, &stock, &decided.levels, (tickets, wants), &reserved).await?;
            tx.commit().await?;
            for ((index, _), order) in reserved.into_iter().zip(orders) {
                outcomes[index] = Some(Ok(order.into_placed(&tickets[index].placement)));
            }
        }
        METRICS.decided.increment(1);
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(undecided()))).collect())
    }

    /// Writes the orders that get their stock, from where they get it, with what has to be told of the levels.
    async fn write_decided(
        &self,
        conn: &mut Conn,
        stock: &LockedStock,
        levels_after: &BTreeMap<LevelKey, InventoryLevel>,
        (tickets, wants): (&[&Ticket], &[Want<'_>]),
        reserved: &[(usize, Vec<Allocation>)],
    ) -> Result<Vec<Rendered>, Error> {
        let winners = reserved.iter().map(|(index, allocations)| (tickets[*index], allocations.as_slice()));
        let render = |(ticket, allocations): (&Ticket, &[Allocation])| {
            Rendered::new(&ticket.placement.draft, allocations, stock.now).map(Cow::Owned)
        };
        let orders: Vec<_> = winners.clone().map(render).collect::<Result<_, _>>()?;
        let taken = reserved.iter().map(|(index, allocations)| (wants[*index], allocations.as_slice()));
        let levels = reserve_stock::sum(taken).ok_or_else(undecided)?;
        let orders_placed = placed(&orders, winners.clone());
        let batch = placement::Batch { orders: orders_placed, levels, caps: self.options.caps };
        placement::insert(conn, &batch).await.map_err(changed_meanwhile)?;
        let changes = batch.levels.keys().filter_map(|key| stock.change(key, levels_after));
        let events = changes.filter_map(|change| crossing_of(&change, winners.clone())).collect();
        stock_events::write(conn, events).await?;
        Ok(orders.into_iter().map(Cow::into_owned).collect())
    }
}

/// What the orders take from each level if they are placed as it is expected. `None` if that is not known of all of them, or
/// they come under different tokens.
fn expected_levels<'a>(
    tickets: &[&'a Ticket],
    wants: &[Want<'a>],
) -> Option<BTreeMap<&'a LevelKey, ReserveStock>> {
    let expected = tickets.iter().map(|ticket| ticket.expected.as_ref());
    if !expected.clone().all(|expected| expected.is_some()) {
        return None;
    }
    let allocations = expected.flatten().map(Vec::as_slice);
    reserve_stock::sum(wants.iter().copied().zip(allocations))
}

/// The order as it came, or rendered now where it came long ago.
fn fresh<'a>(
    ticket: &'a Ticket,
    allocations: &[Allocation],
    now: DateTime<Utc>,
) -> Result<Cow<'a, Rendered>, Error> {
    match &ticket.rendered {
        Some(rendered) if now - rendered.created_at < WAITED_LONG => Ok(Cow::Borrowed(rendered)),
        _ => Rendered::new(&ticket.placement.draft, allocations, now).map(Cow::Owned),
    }
}

fn placed<'a, 't: 'a>(
    orders: &'a [Cow<'t, Rendered>],
    taken: impl Iterator<Item = (&'t Ticket, &'t [Allocation])>,
) -> Vec<PlacedOrder<'a>> {
    let placed = orders.iter().zip(taken);
    placed.map(|(order, (ticket, allocations))| order.order(&ticket.placement, allocations)).collect()
}

/// What has to be told of a level that the orders were placed on. It follows from the last that took from it.
fn crossing_of<'a>(
    change: &LevelChange,
    winners: impl DoubleEndedIterator<Item = (&'a Ticket, &'a [Allocation])>,
) -> Option<NewEvent> {
    change.crossing()?;
    let took = |(_, allocations): &(_, &[Allocation])| {
        allocations.iter().flat_map(Allocation::parts).any(|part| part.level == change.after.key)
    };
    let last = winners.rev().find(took);
    let cause = last.map(|(ticket, _)| ticket.placement.cause.clone()).unwrap_or_default();
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

fn unknown_skus(placement: &Placement, lines: &[usize]) -> Error {
    let errors = lines.iter().filter_map(|&index| {
        let OrderLineDraft { sku, location_id, .. } = placement.draft.lines.get(index)?;
        let at = location_id.as_ref().map(|location_id| format!(" at location {location_id}"));
        Some(FieldError {
            pointer: format!("/lines/{index}/sku"),
            detail: format!("there is no SKU {sku}{}", at.unwrap_or_default()),
        })
    });
    Error::Invalid(Invalid { rule: Rule::UnknownSku, errors: errors.collect() })
}
