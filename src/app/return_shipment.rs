//! Returning a shipment, whole or in parts: units come back from the customer, and onto the shelf if they can be sold again.
//! Money does not follow by itself: a refund names the units.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Cause, Error,
    order_change::OrderChange,
    retry::retry,
    shipment_change::{Begun, require_transition},
    stock_events::write_crossings,
};
use crate::{
    domain::{
        bounds::Text,
        event::{Event, EventLine, ShipmentReturned},
        ids::ShipmentId,
        inventory::LevelKey,
        line_quantity::{self, LineQuantity, check_left, draw, sum},
        movement::MovementType,
        shipment::{Shipment, ShipmentStatus},
        validation::Validator,
    },
    store::{
        Conn,
        idempotency::IdempotentRequest,
        inventory::{self, CounterMove},
        movements::{self, MovementCause, NewMovement},
        orders::{self, LineCounter},
        shipments::{self, Piece},
    },
};

/// A request to take units of a shipment back.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "restock": true, "reason": "Did not fit" }))]
pub struct ReturnShipment {
    /// Which units; all that have not come back yet if absent.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Option<Vec<LineQuantity>>,
    /// Whether they can be sold again: then `on_hand` of their levels rises.
    pub restock: bool,
    /// Why they came back, in the merchant's words.
    #[schema(value_type = Text)]
    pub reason: String,
}

/// What comes back, and why.
pub(super) struct GiveBack<'a> {
    pub(super) lines: Option<&'a [LineQuantity]>,
    pub(super) restock: bool,
    pub(super) reason: Option<&'a str>,
    pub(super) actor: &'a str,
}

impl App {
    /// Takes units of a shipment back, and answers with the shipment.
    ///
    /// # Errors
    /// Unknown shipment; one that has not left, or is back already; more units than are left.
    pub async fn return_shipment(
        &self,
        request: &IdempotentRequest,
        id: ShipmentId,
        back: &ReturnShipment,
        actor: &str,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let mut check = Validator::default();
        Text::require(&mut check, back.reason.as_str(), "/reason");
        if let Some(lines) = &back.lines {
            line_quantity::validate(&mut check, lines);
        }
        check.finish().map_err(Error::Invalid)?;
        let (lines, reason) = (back.lines.as_deref(), Some(back.reason.as_str()));
        let back = GiveBack { lines, restock: back.restock, reason, actor };
        retry("return_shipment", || async {
            let mut begun = match self.begin_shipment_change("return_shipment", request, id, cause).await? {
                Begun::Answered(answer) => return Ok(answer),
                Begun::New(change) => change,
            };
            give_back(&mut begun.tx, &mut begun.order, &mut begun.shipment, &back).await?;
            begun.finish(request).await
        })
        .await
    }
}

/// Takes units of a shipment back. It is `returned` once all of them are.
pub(super) async fn give_back(
    conn: &mut Conn,
    order: &mut OrderChange,
    shipment: &mut Shipment,
    back: &GiveBack<'_>,
) -> Result<(), Error> {
    require_transition(shipment, ShipmentStatus::Returned)?;
    let order_id = order.order.id;
    let pieces = shipments::list_pieces(conn, order_id, shipment.id).await?;
    let left = |piece: &Piece| piece.quantity - piece.quantity_returned;
    let by_line: BTreeMap<_, _> = sum(pieces.iter().map(|piece| (piece.order_line_id, left(piece))));
    let all = || {
        let lines = by_line.iter().filter(|(_, left)| **left > 0);
        lines.map(|(&line_id, &quantity)| LineQuantity { line_id, quantity }).collect()
    };
    let wanted: Vec<LineQuantity> = back.lines.map_or_else(all, <[LineQuantity]>::to_vec);
    check_left(&wanted, &by_line, "shipment", "return").map_err(Error::Invalid)?;
    let drawn = draw(&wanted, pieces.iter().map(|piece| (piece.order_line_id, left(piece), piece)));
    let parts: Vec<_> = drawn.iter().map(|(piece, quantity)| (piece.reservation_id, *quantity)).collect();
    shipments::add_returned(conn, shipment.id, &parts).await?;
    let quantities = sum(wanted.iter().map(|line| (line.line_id, line.quantity)));
    orders::count_lines(conn, order_id, LineCounter::Returned, &quantities).await?;
    if back.restock {
        restock(conn, order, shipment.id, &drawn, back).await?;
    }
    if by_line.values().sum::<i64>() == wanted.iter().map(|line| line.quantity).sum::<i64>() {
        shipments::mark(conn, shipment.id, shipment.status, ShipmentStatus::Returned, None).await?;
        shipment.status = ShipmentStatus::Returned;
    }
    order.emit(Event::ShipmentReturned(ShipmentReturned {
        order_id,
        shipment_id: shipment.id,
        status: shipment.status,
        lines: EventLine::of(&wanted),
        restock: back.restock,
        reason: back.reason.map(str::to_owned),
    }));
    Ok(())
}

/// Units go back on the shelf that they came from.
async fn restock(
    conn: &mut Conn,
    order: &OrderChange,
    id: ShipmentId,
    drawn: &[(&Piece, i64)],
    back: &GiveBack<'_>,
) -> Result<(), Error> {
    let mut moves = BTreeMap::<LevelKey, CounterMove>::new();
    for (piece, quantity) in drawn {
        moves.entry(piece.level.clone()).or_default().on_hand += quantity;
    }
    let keys: Vec<LevelKey> = moves.keys().cloned().collect();
    inventory::lock_levels(conn, &keys).await?;
    let levels = inventory::move_counters(conn, &moves).await?;
    write_crossings(conn, &levels, order.cause()).await?;
    let cause = MovementCause {
        movement_type: MovementType::Return,
        actor: back.actor.to_owned(),
        reason: back.reason.map(str::to_owned),
        reference: Some(id.to_string()),
    };
    let gained: Vec<_> = levels.iter().filter_map(NewMovement::of).collect();
    Ok(movements::insert(conn, &gained, &cause).await?)
}
