//! One try to place orders together, in one transaction.
//!
//! First at once: if every level has enough, every order gets what it wants, whatever the order of deciding. So the batch
//! is written in one statement that checks exactly that, and its fencing tokens, and that no key was used before. Where the
//! statement refuses itself, or is known to, the batch is decided under row locks ([`super::super::reserve_stock`]), and
//! each order gets its own answer. An outcome that is unknown is found out there too, by the idempotency keys.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use super::{Engine, Error, METRICS, Placed, Placement, Rendered, Ticket};
use crate::{
    app::{
        Conflict, answer,
        reserve_stock::{self, Want},
        retry::retry,
    },
    domain::{
        allocation::{Demand, Wanted},
        reservation::Decision,
        validation::FieldError,
    },
    store::{
        self, idempotency, orders,
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
            .map(|ticket| Want { wanted: wanted(&ticket.placement), guard: &ticket.guard })
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
    async fn place_at_once<'a>(
        &self,
        tickets: &[&'a Ticket],
        wants: &[Want<'a>],
    ) -> Result<Option<Outcomes>, Error> {
        let expected = |(want, ticket): (&Want<'a>, &&'a Ticket)| {
            Some((*want, ticket.rendered.as_ref()?.allocations.as_slice()))
        };
        let expected: Option<Vec<_>> = wants.iter().zip(tickets).map(expected).collect();
        let (Some(levels), Some(now)) = (expected.and_then(reserve_stock::sum), self.clock.now()) else {
            return Ok(None);
        };
        if self.seen.is_short(levels.iter().map(|(key, change)| (*key, change.quantity))) {
            return Ok(None);
        }
        let fresh = tickets.iter().filter_map(|ticket| fresh(ticket, now));
        let orders: Vec<_> = fresh.collect::<Result<_, _>>()?;
        let batch = placement::Batch { orders: placed(&orders, tickets.iter().copied()), levels };
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
        let open: Vec<usize> = (0..tickets.len()).filter(|&index| outcomes[index].is_none()).collect();
        let decided = stock.decide(open.iter().map(|&index| &wants[index]));
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
            let (winners, allocations): (Vec<usize>, Vec<_>) = reserved.into_iter().unzip();
            let render = |(&index, allocations): (&usize, _)| {
                Rendered::new(&tickets[index].placement.draft, allocations, stock.now).map(Cow::Owned)
            };
            let orders = winners.iter().zip(allocations).map(render);
            let orders: Vec<Cow<'_, Rendered>> = orders.collect::<Result<_, _>>()?;
            let taken = winners.iter().zip(&orders);
            let levels =
                reserve_stock::sum(taken.map(|(&index, order)| (wants[index], order.allocations.as_slice())));
            let levels = levels.ok_or_else(undecided)?;
            let orders_of = winners.iter().map(|&index| tickets[index]);
            let batch = placement::Batch { orders: placed(&orders, orders_of), levels };
            placement::insert(&mut tx, &batch).await.map_err(changed_meanwhile)?;
            tx.commit().await?;
            for (index, order) in winners.into_iter().zip(orders) {
                outcomes[index] = Some(Ok(order.into_owned().into_placed(&tickets[index].placement)));
            }
        }
        METRICS.decided.increment(1);
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(undecided()))).collect())
    }
}

fn wanted(placement: &Placement) -> Wanted<'_> {
    Wanted { lines: &placement.demands, allow_split: placement.draft.allow_split }
}

/// The order as it came, or rendered now where it came long ago.
fn fresh(ticket: &Ticket, now: DateTime<Utc>) -> Option<Result<Cow<'_, Rendered>, Error>> {
    let rendered = ticket.rendered.as_ref()?;
    if now - rendered.created_at < WAITED_LONG {
        return Some(Ok(Cow::Borrowed(rendered)));
    }
    let again = Rendered::new(&ticket.placement.draft, rendered.allocations.clone(), now);
    Some(again.map(Cow::Owned))
}

fn placed<'a>(
    orders: &'a [Cow<'a, Rendered>],
    tickets: impl IntoIterator<Item = &'a Ticket>,
) -> Vec<PlacedOrder<'a>> {
    orders.iter().zip(tickets).map(|(order, ticket)| order.order(&ticket.placement)).collect()
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
        let Demand { sku, location_id, .. } = placement.demands.get(index)?;
        let at = location_id.as_ref().map(|location_id| format!(" at location {location_id}"));
        Some(FieldError {
            pointer: format!("/lines/{index}/sku"),
            detail: format!("there is no SKU {sku}{}", at.unwrap_or_default()),
        })
    });
    Error::UnknownSku(errors.collect())
}
