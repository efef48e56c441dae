//! Fulfilling an order without being asked: a pending shipment at each location once it is confirmed, and, where the
//! deployment ships at once, the packing and shipping once its money is captured. By the same steps as on request.

use std::collections::BTreeMap;

use super::{
    App, Error, Handling,
    authorize_payment::Progress,
    create_shipment::{insert_shipment, is_paid, list_uncovered, may_ship},
    order_change::OrderChange,
    retry::retry,
    ship_shipment::send,
};
use crate::{
    domain::{
        ids::{OrderId, ReservationId},
        inventory::LocationId,
        reservation::ReservationStatus,
        shipment::ShipmentStatus,
    },
    store::{Conn, inbox, reservations, shipments},
};

impl App {
    /// Carries an `order.confirmed` event out: makes the order's shipments, to be packed.
    pub async fn plan_shipments(&self, handling: &Handling, order_id: OrderId) -> Result<Progress, Error> {
        if self.settling.plan_shipments(handling, order_id).await.is_some() {
            return Ok(Progress::Done);
        }
        retry("plan_shipments", || async {
            let mut tx = self.store.begin("plan_shipments").await?;
            if inbox::insert(&mut tx, handling.consumer, handling.event_id).await? {
                let mut change = OrderChange::lock(&mut tx, order_id, &handling.cause).await?;
                insert_shipments(&mut tx, &mut change).await?;
                change.save(&mut tx).await?;
                tx.commit().await?;
            }
            Ok(Progress::Done)
        })
        .await
    }

    /// Carries a `payment.captured` event out: packs and ships everything, where the deployment ships at once.
    pub async fn ship_order(&self, handling: &Handling, order_id: OrderId) -> Result<Progress, Error> {
        if self.settings.ship_at_once && self.settling.ship_order(handling, order_id).await.is_some() {
            return Ok(Progress::Done);
        }
        retry("ship_order", || async {
            let mut tx = self.store.begin("ship_order").await?;
            if inbox::insert(&mut tx, handling.consumer, handling.event_id).await? {
                if self.settings.ship_at_once {
                    let mut change = OrderChange::lock(&mut tx, order_id, &handling.cause).await?;
                    // The event of the confirmation may come later than this one.
                    insert_shipments(&mut tx, &mut change).await?;
                    ship_everything(&mut tx, &mut change, handling).await?;
                    change.save(&mut tx).await?;
                }
                tx.commit().await?;
            }
            Ok(Progress::Done)
        })
        .await
    }
}

async fn insert_shipments(conn: &mut Conn, change: &mut OrderChange) -> Result<(), Error> {
    if !may_ship(change.order.status) || !is_paid(conn, change.order.id).await? {
        return Ok(());
    }
    let mut by_location = BTreeMap::<LocationId, Vec<(ReservationId, i64)>>::new();
    for held in list_uncovered(conn, change.order.id).await? {
        by_location.entry(held.level.location_id).or_default().push((held.id, held.quantity));
    }
    for (location_id, parts) in by_location {
        insert_shipment(conn, change, &location_id, None, &parts).await?;
    }
    Ok(())
}

/// Units that were sold on backorder and are not in the building wait in their shipment.
async fn ship_everything(
    conn: &mut Conn,
    change: &mut OrderChange,
    handling: &Handling,
) -> Result<(), Error> {
    let order_id = change.order.id;
    if !may_ship(change.order.status) || !is_paid(conn, order_id).await? {
        return Ok(());
    }
    let mut unsent = shipments::list_of_order(conn, order_id).await?;
    unsent.retain(|shipment| matches!(shipment.status, ShipmentStatus::Pending | ShipmentStatus::Packed));
    if unsent.len() > 1 {
        reservations::lock_levels_of(conn, &[order_id], ReservationStatus::Committed).await?;
    }
    for mut shipment in unsent {
        if let Err(short) = send(conn, change, &mut shipment, None, handling.consumer).await? {
            tracing::info!(shipment_id = %shipment.id, levels = short.len(), "waits for stock that is on backorder");
        }
    }
    Ok(())
}
