//! Placing orders: the one statement that writes a batch of them, with everything that belongs to them.
//!
//! Levels, orders, lines, reservations, events and stored answers, set-wise: one round trip whatever the size of the
//! batch. It decides nothing, and it trusts nobody: it takes the row locks of the levels in key order, and refuses itself
//! where a level has too little, is unknown, or was written under a newer fencing token than the caller's, and where somebody
//! would have more open orders than he may. So it is safe as a statement of its own, before anything was read, as well as
//! within a transaction that has. What takes more than a look at the levels it leaves to a caller who has decided: by
//! itself it refuses to run a level out or low, which an event has to tell, to sell a SKU that has a purchase limit, and to
//! take on backorder from a level that was chosen for a line, while another level of the SKU has something.
//!
//! A token is compared with what is stored at the levels that are written, and with no other level of their SKU: that all
//! orders of a SKU come under one token, and that none is older than what another of its levels has seen where something has
//! to be decided, the caller sees to.
//!
//! Unique keys are inserted in their order (`columns.rs`), after everything that is locked.
//!
//! All or nothing: where one order of the batch cannot be written, none is.
//!
//! The statement writes one reservation for each line. Lines that are split over locations are rare and known only to who
//! has decided them in a transaction: there their reservations are divided afterwards, in the same transaction.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::Connection as _;

use super::{Conn, Error, Store, idempotency::IdempotentRequest};
use crate::domain::{
    allocation::Allocation, event::EventType, inventory::LevelKey, new_order::OrderDraft,
    open_orders::OpenOrderCaps, trace_parent::TraceParent,
};

mod columns;
mod connections;
mod split;

use columns::{AnswerColumns, LineColumns, OrderColumns, OwnerColumns};
pub(super) use connections::PlacementConnections;

/// Refused: a level is short, unknown, was written under a newer token, would run out or low, which has to be told, or would
/// go on backorder where others come before that.
pub const LEVELS: &str = "placement_levels";
/// Refused: a customer or a client would have more open orders than it may.
pub const OPEN_ORDERS: &str = "placement_open_orders";
/// Refused: a SKU has a purchase limit, and the caller has not compared it.
pub const PURCHASE_LIMITS: &str = "placement_purchase_limits";
/// Refused: the time that was given is more than a second off the database's.
pub const TIME: &str = "placement_time";

/// A request whose key may have been used before.
pub const KEY: &str = "idempotency_key_pkey";
/// A reference that another order has.
pub const REFERENCE: &str = "orders_client_reference_key";

/// A change of `reserved`, with the token of the lock it was decided under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReserveStock {
    /// How many units are reserved in addition, at least 1.
    pub quantity: i64,
    /// `(epoch, sequence)`; `None` leaves the stored token as it is.
    pub fence: Option<(i32, i64)>,
    /// Whether the level was chosen for a line that names no location. Then all of it has to be on the shelf, unless no other
    /// level of the SKU has anything: those that have may come before a backorder at this one. Who has decided has seen to
    /// that.
    pub from_shelf: bool,
}

/// An order to be written.
#[derive(Debug, Clone, Copy)]
pub struct PlacedOrder<'a> {
    /// What is placed.
    pub draft: &'a OrderDraft,
    /// Where each of its lines is taken from.
    pub allocations: &'a [Allocation],
    /// When it was placed: the database's time, at most a second ago.
    pub created_at: DateTime<Utc>,
    /// Until when its stock is held.
    pub expires_at: DateTime<Utc>,
    /// The request that it answers.
    pub request: &'a IdempotentRequest,
    /// The order as JSON: the data of its event, and the body of the answer.
    pub body: &'a str,
    /// The request that began the chain.
    pub correlation_id: Option<&'a str>,
    /// The span that places it, where that is recorded.
    pub trace_parent: Option<TraceParent>,
}

/// Orders that are written together.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The orders, each with an id of its own.
    pub orders: Vec<PlacedOrder<'a>>,
    /// What they take from each level, all of them together.
    pub levels: BTreeMap<&'a LevelKey, ReserveStock>,
    /// How many open orders their customers and clients may have.
    pub caps: OpenOrderCaps,
}

/// What the statement found.
#[derive(Debug)]
pub struct Written {
    /// The database's time.
    pub now: DateTime<Utc>,
    /// What is left of each level, in the order of the batch.
    pub available: Vec<i64>,
}

impl Store {
    /// Writes a batch without split lines as a transaction of its own, in one round trip.
    pub async fn place(&self, batch: &Batch<'_>) -> Result<Written, Error> {
        if split::lines(&batch.orders).next().is_some() {
            return Err(Error::Inconsistent("a split line takes a transaction to be written".into()));
        }
        let mut conn = self.placements.take().await?;
        match write(&mut conn, batch, false).await {
            // The server commits before it answers: without an answer the outcome is unknown.
            Err(Error::Unavailable(reason)) => Err(Error::CommitUnknown { name: "place_orders", reason }),
            // The server tells of it before it lets go of the levels that it had locked already, and whoever looks next for
            // what is locked would find those. This answer comes after that.
            Err(Error::LockTimeout(reason)) => {
                if conn.ping().await.is_ok() {
                    self.placements.put_back(conn);
                }
                Err(Error::LockTimeout(reason))
            }
            answer => {
                self.placements.put_back(conn);
                answer
            }
        }
    }
}

/// Writes a batch in the transaction of the caller, who tells of the levels that run out or low.
///
/// # Errors
/// [`Error::Constraint`] with [`LEVELS`], [`OPEN_ORDERS`], [`PURCHASE_LIMITS`], [`TIME`],
/// [`KEY`] or [`REFERENCE`]. The transaction is over then.
pub async fn insert(conn: &mut Conn, batch: &Batch<'_>) -> Result<Written, Error> {
    let written = write(conn, batch, true).await?;
    split::divide(conn, &batch.orders).await?;
    Ok(written)
}

/// Writes a batch as if no line were split: all of each at its first level.
async fn write(conn: &mut Conn, batch: &Batch<'_>, decided: bool) -> Result<Written, Error> {
    let (keys, changes): (Vec<&LevelKey>, Vec<ReserveStock>) =
        batch.levels.iter().map(|(k, c)| (*k, *c)).unzip();
    let skus: Vec<&str> = keys.iter().map(|key| key.sku.as_str()).collect();
    let locations: Vec<&str> = keys.iter().map(|key| key.location_id.as_str()).collect();
    let quantities: Vec<i64> = changes.iter().map(|change| change.quantity).collect();
    let epochs: Vec<Option<i32>> = changes.iter().map(|change| change.fence.map(|fence| fence.0)).collect();
    let fences: Vec<Option<i64>> = changes.iter().map(|change| change.fence.map(|fence| fence.1)).collect();
    let from_shelf: Vec<bool> = changes.iter().map(|change| change.from_shelf).collect();
    let orders = OrderColumns::new(&batch.orders);
    let answers = AnswerColumns::new(&batch.orders);
    let lines = LineColumns::new(&batch.orders);
    let owners = OwnerColumns::new(&batch.orders, batch.caps);
    let row = sqlx::query_file!(
        "src/store/placement/place.sql",
        &skus as _,
        &locations as _,
        &quantities,
        &epochs as _,
        &fences as _,
        &orders.created,
        &orders.ids,
        &orders.references as _,
        &orders.customers as _,
        &orders.currencies as _,
        &orders.totals,
        &orders.captures as _,
        &orders.metadata as _,
        &orders.expiries,
        &lines.ids,
        &lines.order_ids,
        &lines.skus as _,
        &lines.locations as _,
        &lines.quantities,
        &lines.amounts,
        &lines.reservation_ids,
        &lines.expiries,
        &lines.created,
        EventType::OrderCreated.as_str(),
        &answers.event_ids,
        &answers.shards,
        &answers.subjects,
        &answers.correlations as _,
        &answers.bodies as _,
        &answers.digests,
        &answers.clients as _,
        &answers.routes as _,
        &answers.keys as _,
        &answers.fingerprints as _,
        &answers.status_codes as _,
        i64::try_from(keys.len()).unwrap_or(i64::MAX),
        batch.caps.per_client.is_some(),
        &owners.kinds as _,
        &owners.ids as _,
        &owners.added,
        &owners.caps,
        decided,
        &from_shelf,
        &orders.clients,
        &answers.order_ids,
        &answers.traces as _,
    )
    .fetch_one(conn)
    .await?;
    Ok(Written { now: row.now, available: row.available })
}

/// Whether the statement refused itself because of what it met in the database, and nothing was written.
pub fn is_refused(error: &Error) -> bool {
    error
        .constraint()
        .is_some_and(|name| [LEVELS, OPEN_ORDERS, PURCHASE_LIMITS, TIME, KEY, REFERENCE].contains(&name))
}
