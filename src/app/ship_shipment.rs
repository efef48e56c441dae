//! Shipping a shipment: its stock leaves the building, and the order is fulfilled, whole or in part.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error,
    create_shipment::refuse_unpaid,
    order_change::OrderChange,
    pack_shipment::validate_tracking,
    retry::retry,
    shipment_change::{Begun, advance, require_transition},
    stock_events::take_reservations,
};
use crate::{
    domain::{
        event::{Event, OrderFulfilled},
        ids::ShipmentId,
        line_quantity::sum,
        movement::MovementType,
        order::OrderStatus,
        reservation::{ReservationStatus, Shortage},
        shipment::{Shipment, ShipmentStatus, Tracking},
    },
    store::{
        Conn,
        idempotency::IdempotentRequest,
        movements::{self, MovementCause, NewMovement},
        orders::{self, LineCounter},
        reservations::Step,
        shipments,
    },
};

/// A request to ship a shipment.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "tracking": { "carrier": "DHL", "number": "00340434161094042557" } }))]
pub struct ShipShipment {
    /// How it can be followed, if that is known now.
    pub tracking: Option<Tracking>,
}

impl App {
    /// Marks a packed shipment as shipped, and answers with it.
    ///
    /// # Errors
    /// Unknown shipment; one that is not packed; an order whose payment is gone; stock that was sold on backorder and has not come in.
    pub async fn ship_shipment(
        &self,
        request: &IdempotentRequest,
        id: ShipmentId,
        ship: &ShipShipment,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        validate_tracking(ship.tracking.as_ref())?;
        retry("ship_shipment", || async {
            let mut begun = match self.begin_shipment_change("ship_shipment", request, id, cause).await? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::New(change) => change,
            };
            require_transition(&begun.shipment, ShipmentStatus::Shipped)?;
            refuse_unpaid(&mut begun.tx, &begun.order).await?;
            let tracking = ship.tracking.as_ref();
            let sent = send(&mut begun.tx, &mut begun.order, &mut begun.shipment, tracking, actor).await?;
            sent.map_err(|items| Conflict::InsufficientStock { items })?;
            begun.finish(request).await
        })
        .await
    }
}

/// Sends a shipment off, and packs it before if nobody has. Where its units are not in the building, nothing happens, and that
/// is the answer.
pub(super) async fn send(
    conn: &mut Conn,
    order: &mut OrderChange,
    shipment: &mut Shipment,
    tracking: Option<&Tracking>,
    actor: &str,
) -> Result<Result<(), Vec<Shortage>>, Error> {
    let order_id = order.order.id;
    let pieces = shipments::list_pieces(conn, order_id, shipment.id).await?;
    let parts: Vec<_> = pieces.iter().map(|piece| (piece.reservation_id, piece.quantity)).collect();
    let step = Step::leaving(ReservationStatus::Committed, ReservationStatus::Fulfilled);
    let moved = match take_reservations(conn, order_id, &parts, step, order.cause()).await? {
        Ok(moved) => moved,
        Err(short) => return Ok(Err(short)),
    };
    if shipment.status == ShipmentStatus::Pending {
        let (next, event) = (ShipmentStatus::Packed, Event::ShipmentPacked);
        advance(conn, order, shipment, next, None, event).await?;
    }
    let (next, event) = (ShipmentStatus::Shipped, Event::ShipmentShipped);
    advance(conn, order, shipment, next, tracking, event).await?;
    let cause = MovementCause {
        movement_type: MovementType::Ship,
        actor: actor.to_owned(),
        reason: None,
        reference: Some(shipment.id.to_string()),
    };
    let gone: Vec<_> = moved.levels.iter().filter_map(NewMovement::of).collect();
    movements::insert(conn, &gone, &cause).await?;
    let quantities = sum(moved.reservations.iter().map(|part| (part.order_line_id, part.quantity)));
    orders::count_lines(conn, order_id, LineCounter::Fulfilled, &quantities).await?;
    fulfil(conn, order).await?;
    Ok(Ok(()))
}

/// The order's status after something has shipped.
async fn fulfil(conn: &mut Conn, order: &mut OrderChange) -> Result<(), Error> {
    let order_id = order.order.id;
    if !orders::has_open_lines(conn, order_id).await? {
        order.become_status(OrderStatus::Fulfilled)?;
        order.emit(Event::OrderFulfilled(OrderFulfilled { order_id }));
        return Ok(());
    }
    if order.order.status == OrderStatus::PartiallyFulfilled {
        return Ok(());
    }
    order.become_status(OrderStatus::PartiallyFulfilled)
}
