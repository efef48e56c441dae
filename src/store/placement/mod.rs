//! Placing orders: the one statement that writes a batch of them, with everything that belongs to them.
//!
//! Levels, orders, lines, reservations, events and stored answers, set-wise: one round trip whatever the size of the
//! batch. It decides nothing, and it trusts nobody: it takes the row locks of the levels in key order, and refuses itself
//! where a level has too little, is unknown, or was written under a newer fencing token than the caller's. So it is safe
//! as a statement of its own, before anything was read, as well as within a transaction that has.
//!
//! All or nothing: where one order of the batch cannot be written, none is.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Conn, Error, Store, idempotency::IdempotentRequest};
use crate::domain::{event::EventType, inventory::LevelKey, new_order::OrderDraft};

mod columns;
mod connections;

use columns::{LineColumns, OrderColumns};
pub(super) use connections::PlacementConnections;

/// Refused: a level is short, unknown, or was written under a newer token.
pub const LEVELS: &str = "placement_levels";
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
}

/// An order to be written.
#[derive(Debug, Clone, Copy)]
pub struct PlacedOrder<'a> {
    /// What is placed.
    pub draft: &'a OrderDraft,
    /// Until when its stock is held.
    pub expires_at: DateTime<Utc>,
    /// The request that it answers.
    pub request: &'a IdempotentRequest,
    /// The order as JSON: the data of its event, and the body of the answer.
    pub body: &'a str,
    /// The request that began the chain.
    pub correlation_id: Option<&'a str>,
}

/// Orders that are written together.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The orders, each with an id of its own.
    pub orders: Vec<PlacedOrder<'a>>,
    /// What they take from each level, all of them together.
    pub levels: BTreeMap<&'a LevelKey, ReserveStock>,
    /// The database's time, at most a second old.
    pub now: DateTime<Utc>,
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
    /// Writes a batch as a transaction of its own, in one round trip.
    pub async fn place(&self, batch: &Batch<'_>) -> Result<Written, Error> {
        let mut conn = self.placements.take().await?;
        match insert(&mut conn, batch).await {
            // The server commits before it answers: without an answer the outcome is unknown.
            Err(Error::Unavailable(reason)) => Err(Error::CommitUnknown { name: "place_orders", reason }),
            answer => {
                self.placements.put_back(conn);
                answer
            }
        }
    }
}

/// Writes a batch.
///
/// # Errors
/// [`Error::Constraint`] with [`LEVELS`], [`TIME`], [`KEY`] or [`REFERENCE`]. Nothing is written then.
pub async fn insert(conn: &mut Conn, batch: &Batch<'_>) -> Result<Written, Error> {
    let (keys, changes): (Vec<&LevelKey>, Vec<ReserveStock>) =
        batch.levels.iter().map(|(k, c)| (*k, *c)).unzip();
    let skus: Vec<&str> = keys.iter().map(|key| key.sku.as_str()).collect();
    let locations: Vec<&str> = keys.iter().map(|key| key.location_id.as_str()).collect();
    let quantities: Vec<i64> = changes.iter().map(|change| change.quantity).collect();
    let epochs: Vec<Option<i32>> = changes.iter().map(|change| change.fence.map(|fence| fence.0)).collect();
    let fences: Vec<Option<i64>> = changes.iter().map(|change| change.fence.map(|fence| fence.1)).collect();
    let orders = OrderColumns::new(&batch.orders);
    let lines = LineColumns::new(&batch.orders);
    let row = sqlx::query!(
        r#"
        WITH wanted AS MATERIALIZED (
            SELECT l.sku, l.location_id, n.quantity, n.epoch, n.fence, n.place,
                   l.available >= n.quantity
                       AND (l.fence_epoch, l.fence) <= (COALESCE(n.epoch, l.fence_epoch), COALESCE(n.fence, l.fence)) AS fits,
                   l.available - n.quantity AS available
            FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[]) WITH ORDINALITY
                 AS n (sku, location_id, quantity, epoch, fence, place)
            -- A row at a time, in this order: transactions that want the same levels cannot deadlock.
            CROSS JOIN LATERAL (
                SELECT i.sku, i.location_id, i.fence_epoch, i.fence,
                       i.on_hand + i.backorder_limit - i.reserved - i.committed - i.safety_stock AS available
                FROM inventory_level i WHERE i.sku = n.sku AND i.location_id = n.location_id FOR UPDATE) l),
        reserved AS (
            UPDATE inventory_level i
            SET reserved = i.reserved + w.quantity, version = i.version + 1,
                fence_epoch = COALESCE(w.epoch, i.fence_epoch), fence = COALESCE(w.fence, i.fence), updated_at = now()
            FROM wanted w
            WHERE i.sku = w.sku AND i.location_id = w.location_id AND w.fits
              AND (i.fence_epoch, i.fence) <= (COALESCE(w.epoch, i.fence_epoch), COALESCE(w.fence, i.fence))
            RETURNING 1),
        new_orders AS (
            INSERT INTO orders (id, client_reference, customer_id, status, version, currency, total_amount, capture_method,
                                metadata, expires_at, created_at, updated_at)
            SELECT id, client_reference, customer_id, 'pending_payment', 1, currency, total_amount, capture_method, metadata,
                   expires_at, $6, $6
            FROM UNNEST($7::uuid[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::jsonb[],
                        $14::timestamptz[])
                 AS n (id, client_reference, customer_id, currency, total_amount, capture_method, metadata, expires_at)),
        new_lines AS (
            INSERT INTO order_line (id, order_id, sku, location_id, quantity, unit_amount)
            SELECT * FROM UNNEST($15::uuid[], $16::uuid[], $17::text[], $18::text[], $19::bigint[], $20::bigint[])),
        new_reservations AS (
            INSERT INTO reservation (id, order_id, order_line_id, sku, location_id, quantity, status, expires_at, created_at,
                                     updated_at)
            SELECT id, order_id, order_line_id, sku, location_id, quantity, 'held', expires_at, $6, $6
            FROM UNNEST($21::uuid[], $16::uuid[], $15::uuid[], $17::text[], $18::text[], $19::bigint[], $22::timestamptz[])
                 AS n (id, order_id, order_line_id, sku, location_id, quantity, expires_at)),
        new_events AS (
            INSERT INTO outbox (event_id, shard, aggregate_id, sequence, type, subject, correlation_id, data)
            SELECT event_id, shard, aggregate_id, 1, $23, subject, correlation_id, data::json
            FROM UNNEST($24::uuid[], $25::smallint[], $7::uuid[], $26::text[], $27::text[], $28::text[])
                 AS n (event_id, shard, aggregate_id, subject, correlation_id, data)),
        new_answers AS (
            INSERT INTO idempotency_key (api_key_id, route, key, fingerprint, status_code, response_body)
            SELECT api_key_id, route, key, fingerprint, status_code, body
            FROM UNNEST($29::uuid[], $30::text[], $31::text[], $32::bytea[], $33::smallint[], $28::text[])
                 AS n (api_key_id, route, key, fingerprint, status_code, body))
        SELECT CASE WHEN (SELECT count(*) FROM reserved) = $34 THEN true ELSE refuse_placement('placement_levels') END
                   AS "levels!",
               CASE WHEN abs(extract(epoch FROM clock_timestamp() - $6)) <= 1 THEN true ELSE refuse_placement('placement_time') END
                   AS "time!",
               clock_timestamp() AS "now!",
               COALESCE((SELECT array_agg(available ORDER BY place) FROM wanted), '{}') AS "available!"
        "#,
        &skus as _,
        &locations as _,
        &quantities,
        &epochs as _,
        &fences as _,
        batch.now,
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
        EventType::OrderCreated.as_str(),
        &orders.event_ids,
        &orders.shards,
        &orders.subjects,
        &orders.correlations as _,
        &orders.bodies as _,
        &orders.callers as _,
        &orders.routes as _,
        &orders.keys as _,
        &orders.fingerprints as _,
        &orders.status_codes as _,
        i64::try_from(keys.len()).unwrap_or(i64::MAX),
    )
    .fetch_one(conn)
    .await?;
    Ok(Written { now: row.now, available: row.available })
}

/// Whether the statement refused itself because of what it met in the database, and nothing was written.
pub fn is_refused(error: &Error) -> bool {
    error.constraint().is_some_and(|name| [LEVELS, TIME, KEY, REFERENCE].contains(&name))
}
