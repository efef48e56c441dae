//! Stock events: a level has run low, has run out, is back. Each is written in the transaction of the change that crossed
//! the threshold, under the level's row lock, once for each crossing.
//!
//! One change of a level has one of them at most: a level that runs out has run low too, and the event says so. Its place
//! in the level's history is the version that the change gave the level.

use super::{Cause, Error};
use crate::{
    domain::{
        event::Aggregate,
        ids::{OrderId, ReservationId},
        inventory::LevelChange,
        reservation::{ReservationStatus, Shortage},
    },
    store::{
        Conn,
        outbox::{self, NewEvent},
        reservations::{self, Moved, Step},
    },
};

/// The event of what a change crossed, if it did. `sequence` is the version that the level has from then on.
pub(super) fn crossing_event(change: &LevelChange, sequence: i64, cause: &Cause) -> Option<NewEvent> {
    Some(NewEvent {
        aggregate: Aggregate::InventoryLevel(change.after.key.clone()),
        sequence,
        event: change.crossing()?,
        correlation_id: cause.correlation_id.clone(),
        causation_id: cause.causation_id,
        trace_parent: cause.trace_parent,
    })
}

/// Moves the reservations of orders, with the counters of their levels and what has to be told of these. See
/// [`reservations::transition`].
pub(super) async fn move_reservations(
    conn: &mut Conn,
    orders: &[OrderId],
    from: ReservationStatus,
    to: ReservationStatus,
    cause: &Cause,
) -> Result<(), Error> {
    let levels = reservations::transition(conn, orders, from, to).await?;
    write_crossings(conn, &levels, cause).await
}

/// Moves parts of reservations of one order, with the counters of their levels and what has to be told of these. See
/// [`reservations::take`].
pub(super) async fn take_reservations(
    conn: &mut Conn,
    order_id: OrderId,
    parts: &[(ReservationId, i64)],
    step: Step,
    cause: &Cause,
) -> Result<Result<Moved, Vec<Shortage>>, Error> {
    let moved = match reservations::take(conn, order_id, parts, step).await? {
        Ok(moved) => moved,
        Err(short) => return Ok(Err(short)),
    };
    write_crossings(conn, &moved.levels, cause).await?;
    Ok(Ok(moved))
}

/// Writes what has to be told of levels whose counters have moved, each under the version that it has since then.
pub(super) async fn write_crossings(
    conn: &mut Conn,
    levels: &[LevelChange],
    cause: &Cause,
) -> Result<(), Error> {
    let crossing = |change: &LevelChange| crossing_event(change, change.after.version, cause);
    write(conn, levels.iter().filter_map(crossing).collect()).await
}

/// Writes events, if there are any.
pub(super) async fn write(conn: &mut Conn, events: Vec<NewEvent>) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    Ok(outbox::insert(conn, &events).await?)
}
