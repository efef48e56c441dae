//! Fulfilling an order: a pending shipment once it is confirmed, and, where the deployment ships at once, the packing and
//! shipping once its money is captured.

use super::{
    App, Error, Handling, authorize_payment::Progress, order_change::OrderChange, retry::retry,
    stock_events::move_reservations,
};
use crate::{
    domain::{
        event::EventType, ids::OrderId, order::OrderStatus, reservation::ReservationStatus,
        shipment::ShipmentStatus,
    },
    store::{Conn, inbox, orders, shipments},
};

impl App {
    /// Carries an `order.confirmed` event out: makes the order's shipments, to be packed.
    pub async fn create_shipment(&self, handling: &Handling, order_id: OrderId) -> Result<Progress, Error> {
        retry("create_shipment", || async {
            let mut tx = self.store.begin("create_shipment").await?;
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
    if change.order.status != OrderStatus::Confirmed {
        return Ok(());
    }
    let order_id = change.order.id;
    for shipment_id in shipments::insert_pending(conn, order_id).await? {
        let data = serde_json::json!({ "order_id": order_id, "shipment_id": shipment_id });
        change.emit(EventType::ShipmentCreated, &data)?;
    }
    Ok(())
}

async fn ship_everything(
    conn: &mut Conn,
    change: &mut OrderChange,
    handling: &Handling,
) -> Result<(), Error> {
    if change.order.status != OrderStatus::Confirmed {
        return Ok(());
    }
    let order_id = change.order.id;
    let committed = ReservationStatus::Committed;
    let moved =
        move_reservations(conn, &[order_id], committed, ReservationStatus::Fulfilled, &handling.cause)
            .await?;
    let ids: Vec<_> = moved.iter().map(|reservation| reservation.id.uuid()).collect();
    shipments::insert_ship_movements(conn, order_id, &ids, handling.consumer).await?;
    let lines: Vec<_> = moved.iter().map(|moved| (moved.order_line_id.uuid(), moved.quantity)).collect();
    orders::add_fulfilled(conn, order_id, &lines).await?;
    shipments::mark_of_order(conn, order_id, &[ShipmentStatus::Pending], ShipmentStatus::Packed).await?;
    let shipped =
        shipments::mark_of_order(conn, order_id, &[ShipmentStatus::Packed], ShipmentStatus::Shipped).await?;
    for shipment_id in shipped {
        let data = serde_json::json!({ "order_id": order_id, "shipment_id": shipment_id });
        change.emit(EventType::ShipmentShipped, &data)?;
    }
    change.become_status(OrderStatus::Fulfilled)?;
    change.emit(EventType::OrderFulfilled, &serde_json::json!({ "order_id": order_id }))
}
