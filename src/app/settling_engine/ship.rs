//! Making shipments of confirmed orders, and sending off those of captured ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{Cause, Error, Handling, create_shipment::may_ship, stock_events::write_crossings},
    Batch, Opened, Subject,
    group::Job,
    outcomes,
};
use crate::{
    domain::{
        event::{Event, OrderFulfilled},
        ids::{OrderId, OrderLineId, ShipmentId},
        inventory::{LevelKey, LocationId},
        order::OrderStatus,
    },
    store::{
        Store, Tx,
        inventory::{self, CounterMove},
        movements::NewMovement,
        order_batch::{
            orders, payments,
            shipments::{self, NewShipment, Part, Unsent},
        },
    },
};

pub(super) struct Plan {
    pub(super) event: Handling,
    pub(super) order_id: OrderId,
}

impl Job for Plan {
    type Outcome = ();

    const NAME: &'static str = "plan_shipments_of_orders";

    fn subject(&self) -> Subject {
        self.order_id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<()>>, Error> {
        let wanted = jobs.iter().map(|job| Handling::of(Some(&job.event), job.order_id));
        let mut batch = Batch::open(store, Self::NAME, wanted).await?;
        let ready = find_ready(&mut batch).await?;
        insert_shipments(&mut batch, &ready).await?;
        let done = batch.commit().await?;
        Ok(outcomes(jobs.len(), done.into_iter().map(|index| (index, ()))))
    }
}

pub(super) struct Ship {
    pub(super) event: Handling,
    pub(super) order_id: OrderId,
}

impl Job for Ship {
    type Outcome = ();

    const NAME: &'static str = "ship_orders";

    fn subject(&self) -> Subject {
        self.order_id.uuid()
    }

    async fn carry_out(store: &Store, jobs: &[Self]) -> Result<Vec<Option<()>>, Error> {
        let wanted = jobs.iter().map(|job| Handling::of(Some(&job.event), job.order_id));
        let mut batch = Batch::open(store, Self::NAME, wanted).await?;
        let ready = find_ready(&mut batch).await?;
        // The event of the confirmation may come later than this one.
        insert_shipments(&mut batch, &ready).await?;
        let unsent = shipments::list_unsent(&mut batch.tx, &ready).await?;
        if !unsent.is_empty() {
            send_all(&mut batch, unsent, jobs).await?;
        }
        let done = batch.commit().await?;
        Ok(outcomes(jobs.len(), done.into_iter().map(|index| (index, ()))))
    }
}

/// The orders that may ship: they are paid, and the payment is not gone.
async fn find_ready(batch: &mut Batch) -> Result<Vec<OrderId>, Error> {
    let open = batch.orders.iter().filter(|opened| may_ship(opened.change.order.status));
    let mut ready: Vec<OrderId> = open.map(|opened| opened.change.order.id).collect();
    let statuses = payments::list_statuses(&mut batch.tx, &ready).await?;
    let paid = statuses.into_iter().filter(|(_, status)| status.is_live() && !status.is_undecided());
    let paid: BTreeSet<OrderId> = paid.map(|(order_id, _)| order_id).collect();
    ready.retain(|order_id| paid.contains(order_id));
    Ok(ready)
}

/// A shipment at each location for what is in none.
async fn insert_shipments(batch: &mut Batch, ready: &[OrderId]) -> Result<(), Error> {
    let mut by_location = BTreeMap::<(OrderId, LocationId), Vec<Part>>::new();
    for part in shipments::list_uncovered(&mut batch.tx, ready).await? {
        by_location.entry((part.order_id, part.level.location_id.clone())).or_default().push(part);
    }
    if by_location.is_empty() {
        return Ok(());
    }
    let made = by_location.into_iter().map(|((order_id, location_id), parts)| NewShipment {
        id: ShipmentId::new(),
        order_id,
        location_id,
        parts,
    });
    let made: Vec<NewShipment> = made.collect();
    shipments::insert(&mut batch.tx, &made).await?;
    for shipment in &made {
        if let Some(opened) = find_order(&mut batch.orders, shipment.order_id) {
            opened.change.emit_shipment(Event::ShipmentCreated, shipment.id);
        }
    }
    Ok(())
}

fn find_order(orders: &mut [Opened], id: OrderId) -> Option<&mut Opened> {
    // Invariant: they are in the order of their ids.
    let at = orders.binary_search_by_key(&id, |opened| opened.change.order.id).ok()?;
    orders.get_mut(at)
}

/// Sends off what is in the building. An order that wants more than that is left out, whole.
async fn send_all(batch: &mut Batch, mut unsent: Vec<Unsent>, jobs: &[Ship]) -> Result<(), Error> {
    let keys: BTreeSet<LevelKey> = unsent.iter().map(|unsent| unsent.part.level.clone()).collect();
    let (levels, _) = inventory::lock_levels(&mut batch.tx, &Vec::from_iter(keys)).await?;
    let mut on_hand: BTreeMap<LevelKey, i64> =
        levels.into_iter().map(|(key, locked)| (key, locked.level.on_hand)).collect();
    let mut moves = BTreeMap::<LevelKey, CounterMove>::new();
    let mut ledger = Vec::<(ShipmentId, NewMovement)>::new();
    let mut short = BTreeSet::new();
    for of_order in unsent.chunk_by(|a, b| a.part.order_id == b.part.order_id) {
        if !take_order(of_order, &mut on_hand, &mut moves, &mut ledger) {
            short.insert(of_order[0].part.order_id);
        }
    }
    batch.leave_out_unless(|opened| !short.contains(&opened.change.order.id));
    unsent.retain(|unsent| !short.contains(&unsent.part.order_id));
    if unsent.is_empty() {
        return Ok(());
    }
    let parts: Vec<&Part> = unsent.iter().map(|unsent| &unsent.part).collect();
    shipments::fulfil_reservations(&mut batch.tx, &parts).await?;
    let changed = inventory::move_counters(&mut batch.tx, &moves).await?;
    write_crossings(&mut batch.tx, &changed, &Cause::default()).await?;
    // Invariant: all jobs of a batch come from one consumer.
    shipments::insert_movements(&mut batch.tx, &ledger, jobs[0].event.consumer).await?;
    tell(batch, &unsent).await
}

/// Takes what an order wants from what is on hand. `false`, and nothing is taken, if that is too little.
fn take_order(
    unsent: &[Unsent],
    on_hand: &mut BTreeMap<LevelKey, i64>,
    moves: &mut BTreeMap<LevelKey, CounterMove>,
    ledger: &mut Vec<(ShipmentId, NewMovement)>,
) -> bool {
    let mut wanted = BTreeMap::<&LevelKey, i64>::new();
    for unsent in unsent {
        *wanted.entry(&unsent.part.level).or_default() += unsent.part.quantity;
    }
    if wanted.iter().any(|(key, quantity)| on_hand.get(key).is_none_or(|left| left < quantity)) {
        return false;
    }
    let mut gone = BTreeMap::<(ShipmentId, &LevelKey), i64>::new();
    for unsent in unsent {
        *gone.entry((unsent.shipment_id, &unsent.part.level)).or_default() += unsent.part.quantity;
    }
    for ((shipment_id, key), quantity) in gone {
        let left = on_hand.entry(key.clone()).or_default();
        *left -= quantity;
        let change = moves.entry(key.clone()).or_default();
        change.committed -= quantity;
        change.on_hand -= quantity;
        let movement = NewMovement { key: key.clone(), delta: -quantity, on_hand_after: *left };
        ledger.push((shipment_id, movement));
    }
    true
}

/// Marks shipments and lines, and moves the orders on.
async fn tell(batch: &mut Batch, unsent: &[Unsent]) -> Result<(), Error> {
    let Batch { tx, orders, .. } = batch;
    let mut sent = Vec::new();
    for of_shipment in unsent.chunk_by(|a, b| a.shipment_id == b.shipment_id) {
        let Unsent { shipment_id, is_packed, part } = &of_shipment[0];
        sent.push(*shipment_id);
        let Some(opened) = find_order(orders, part.order_id) else { continue };
        if !is_packed {
            opened.change.emit_shipment(Event::ShipmentPacked, *shipment_id);
        }
        opened.change.emit_shipment(Event::ShipmentShipped, *shipment_id);
    }
    shipments::mark_shipped(tx, &sent).await?;
    let open = fulfil_lines(tx, unsent).await?;
    let shipped: BTreeSet<OrderId> = unsent.iter().map(|unsent| unsent.part.order_id).collect();
    for order_id in shipped {
        let Some(opened) = find_order(orders, order_id) else { continue };
        let change = &mut opened.change;
        if !open.contains(&order_id) {
            change.become_status(OrderStatus::Fulfilled)?;
            change.emit(Event::OrderFulfilled(OrderFulfilled { order_id }));
        } else if change.order.status != OrderStatus::PartiallyFulfilled {
            change.become_status(OrderStatus::PartiallyFulfilled)?;
        }
    }
    Ok(())
}

/// Gives the orders that have units left to ship.
async fn fulfil_lines(tx: &mut Tx, unsent: &[Unsent]) -> Result<Vec<OrderId>, Error> {
    let mut lines = BTreeMap::<(OrderId, OrderLineId), i64>::new();
    for Unsent { part, .. } in unsent {
        *lines.entry((part.order_id, part.order_line_id)).or_default() += part.quantity;
    }
    let lines: Vec<_> =
        lines.into_iter().map(|((order_id, id), quantity)| (order_id, id, quantity)).collect();
    Ok(orders::fulfil_lines(tx, &lines).await?)
}
