//! Creating a shipment: committed stock of one order at one location is set apart for a parcel.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Conflict, Error, ExpectedVersion, answer, order_change::OrderChange, retry::retry,
};
use crate::{
    domain::{
        event::Event,
        ids::{OrderId, ReservationId, ShipmentId},
        inventory::LocationId,
        line_quantity::{self, LineQuantity, check_left, draw},
        order::OrderStatus,
        reservation::ReservationStatus,
        shipment::Tracking,
        validation::{Rule, Validator},
    },
    store::{
        Conn,
        idempotency::IdempotentRequest,
        orders, payments,
        reservations::{self, Reservation},
        shipments,
    },
};

/// A request to create a shipment.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "location_id": "main" }))]
pub struct CreateShipment {
    /// Where it leaves from; may be absent if all of the stock lies at one location.
    pub location_id: Option<LocationId>,
    /// Which units; all of the location that are in no shipment yet if absent.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Option<Vec<LineQuantity>>,
    /// How it can be followed, if that is known already.
    pub tracking: Option<Tracking>,
}

impl App {
    /// Creates a shipment of a paid order, and answers with it.
    ///
    /// # Errors
    /// Unknown order; another version than expected; an order that is not paid or has shipped whole; nothing left to ship; more units than are left.
    pub async fn create_shipment(
        &self,
        request: &IdempotentRequest,
        order_id: OrderId,
        expected: Option<&ExpectedVersion>,
        create: &CreateShipment,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        if let Some(lines) = &create.lines {
            line_quantity::validate(&mut check, lines);
        }
        if let Some(tracking) = &create.tracking {
            tracking.validate(&mut check);
        }
        check.finish().map_err(Error::Invalid)?;
        retry("create_shipment", || async {
            let mut tx = self.store.begin("create_shipment").await?;
            let mut change = OrderChange::lock(&mut tx, order_id, cause).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            change.require_version(expected)?;
            change.require_status(may_ship)?;
            refuse_unpaid(&mut tx, &change).await?;
            let uncovered = list_uncovered(&mut tx, order_id).await?;
            let location_id = choose_location(create.location_id.as_ref(), &uncovered)?;
            let here: Vec<_> =
                uncovered.iter().filter(|held| held.level.location_id == location_id).collect();
            let parts = match &create.lines {
                None => here.iter().map(|held| (held.id, held.quantity)).collect(),
                Some(lines) => {
                    let all = orders::list_lines(&mut tx, order_id).await?;
                    let mut left: BTreeMap<_, _> = all.iter().map(|line| (line.id, 0)).collect();
                    left.extend(line_quantity::sum(
                        here.iter().map(|held| (held.order_line_id, held.quantity)),
                    ));
                    check_left(lines, &left, "order", "ship from there").map_err(Error::Invalid)?;
                    draw(lines, here.iter().map(|held| (held.order_line_id, held.quantity, held.id)))
                }
            };
            let tracking = create.tracking.as_ref();
            let id = insert_shipment(&mut tx, &mut change, &location_id, tracking, &parts).await?;
            change.save(&mut tx).await?;
            let shipment = shipments::find(&mut tx, id).await?;
            let answer = answer::store(&mut tx, request, &shipment).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}

/// Whether the order has stock that was paid and may be in the building.
pub(super) const fn may_ship(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Confirmed | OrderStatus::PartiallyFulfilled)
}

/// Whether the order still has the payment that its stock was committed by. No payment of it changes under its lock.
pub(super) async fn is_paid(conn: &mut Conn, order_id: OrderId) -> Result<bool, Error> {
    let payments = payments::list_of_order(conn, order_id).await?;
    Ok(payments.iter().any(|payment| payment.status.is_live() && !payment.status.is_undecided()))
}

/// Refuses to ship what nobody pays for any more.
pub(super) async fn refuse_unpaid(conn: &mut Conn, change: &OrderChange) -> Result<(), Error> {
    let (order_id, current_status) = (change.order.id, change.order.status.as_str());
    if is_paid(conn, order_id).await? {
        return Ok(());
    }
    Err(Conflict::OrderNotPaid { order_id, current_status }.into())
}

/// The order's committed stock that is in no shipment.
pub(super) async fn list_uncovered(conn: &mut Conn, order_id: OrderId) -> Result<Vec<Reservation>, Error> {
    let mut stock = reservations::list_of_order(conn, order_id, ReservationStatus::Committed).await?;
    stock.retain(|reservation| reservation.shipment.is_none());
    Ok(stock)
}

fn choose_location(asked: Option<&LocationId>, uncovered: &[Reservation]) -> Result<LocationId, Error> {
    let locations: BTreeSet<&LocationId> = uncovered.iter().map(|held| &held.level.location_id).collect();
    let nothing = || Conflict::NothingToShip { location_id: asked.cloned() };
    if let Some(asked) = asked {
        return if locations.contains(asked) { Ok(asked.clone()) } else { Err(nothing().into()) };
    }
    let first = *locations.first().ok_or_else(nothing)?;
    if locations.len() == 1 {
        return Ok(first.clone());
    }
    let names: Vec<&str> = locations.iter().map(|location| location.as_str()).collect();
    let detail = format!("must be one of {}", names.join(", "));
    Err(Error::invalid(Rule::LocationNeeded, "/location_id", detail))
}

/// Sets parts of uncovered reservations apart for a new shipment.
pub(super) async fn insert_shipment(
    conn: &mut Conn,
    change: &mut OrderChange,
    location_id: &LocationId,
    tracking: Option<&Tracking>,
    parts: &[(ReservationId, i64)],
) -> Result<ShipmentId, Error> {
    let (order_id, id) = (change.order.id, ShipmentId::new());
    let committed = ReservationStatus::Committed;
    let apart = reservations::split(conn, order_id, parts, committed, committed).await?;
    shipments::insert(conn, id, order_id, location_id, tracking, &apart).await?;
    change.emit_shipment(Event::ShipmentCreated, id);
    Ok(id)
}
