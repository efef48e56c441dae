//! A batch of orders as columns: one array for each parameter of the statement.
//!
//! Whoever inserts a unique key waits for others that have inserted the same one and are not through. So what has a unique
//! key is inserted in the order of these keys: two batches that share several wait for each other in one direction only.
//! Sorted here, where it costs nothing to speak of: in the statement whole rows would be sorted, bodies included.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::{borrow::Cow, collections::BTreeMap};
use uuid::Uuid;

use super::PlacedOrder;
use crate::{
    domain::{
        event::Aggregate,
        ids::{EventId, ReservationId},
        open_orders::{OpenOrderCaps, OrderOwner},
    },
    store::outbox,
};

/// One element for each order: its row, in the order of the references.
pub(super) struct OrderColumns<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) clients: Vec<Uuid>,
    pub(super) references: Vec<Option<&'a str>>,
    pub(super) customers: Vec<Option<&'a str>>,
    pub(super) currencies: Vec<&'a str>,
    pub(super) totals: Vec<i64>,
    pub(super) captures: Vec<&'a str>,
    pub(super) metadata: Vec<Json<&'a BTreeMap<String, String>>>,
    pub(super) created: Vec<DateTime<Utc>>,
    pub(super) expiries: Vec<DateTime<Utc>>,
}

/// One element for each order: its event and its answer, in the order of the keys.
pub(super) struct AnswerColumns<'a> {
    pub(super) order_ids: Vec<Uuid>,
    pub(super) event_ids: Vec<Uuid>,
    pub(super) shards: Vec<i16>,
    pub(super) subjects: Vec<String>,
    pub(super) correlations: Vec<Option<&'a str>>,
    pub(super) traces: Vec<Option<String>>,
    pub(super) bodies: Vec<&'a str>,
    pub(super) digests: Vec<Uuid>,
    pub(super) clients: Vec<Uuid>,
    pub(super) routes: Vec<&'a str>,
    pub(super) keys: Vec<&'a str>,
    pub(super) fingerprints: Vec<&'a [u8]>,
    pub(super) status_codes: Vec<i16>,
}

/// One element for each line of each order.
#[derive(Default)]
pub(super) struct LineColumns<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) order_ids: Vec<Uuid>,
    pub(super) skus: Vec<&'a str>,
    pub(super) locations: Vec<&'a str>,
    pub(super) quantities: Vec<i64>,
    pub(super) amounts: Vec<i64>,
    pub(super) reservation_ids: Vec<Uuid>,
    pub(super) created: Vec<DateTime<Utc>>,
    pub(super) expiries: Vec<DateTime<Utc>>,
}

impl<'a> OrderColumns<'a> {
    pub(super) fn new(orders: &[PlacedOrder<'a>]) -> Self {
        let orders = sorted(orders, |order| order.draft.client_reference.as_deref());
        Self {
            ids: orders.iter().map(|order| order.draft.id.uuid()).collect(),
            clients: orders.iter().map(|order| order.request.key.client_id().uuid()).collect(),
            references: orders.iter().map(|order| order.draft.client_reference.as_deref()).collect(),
            customers: orders.iter().map(|order| order.draft.customer_id.as_deref()).collect(),
            currencies: orders.iter().map(|order| order.draft.currency.code()).collect(),
            totals: orders.iter().map(|order| order.draft.total_amount).collect(),
            captures: orders.iter().map(|order| order.draft.capture_method.as_str()).collect(),
            metadata: orders.iter().map(|order| Json(&order.draft.metadata)).collect(),
            created: orders.iter().map(|order| order.created_at).collect(),
            expiries: orders.iter().map(|order| order.expires_at).collect(),
        }
    }
}

impl<'a> AnswerColumns<'a> {
    pub(super) fn new(orders: &[PlacedOrder<'a>]) -> Self {
        let orders = sorted(orders, |order| order.request.key.digest());
        let aggregates = || orders.iter().map(|order| Aggregate::Order(order.draft.id));
        let status_code = |order: &&PlacedOrder<'a>| i16::try_from(order.request.success_status);
        Self {
            order_ids: orders.iter().map(|order| order.draft.id.uuid()).collect(),
            event_ids: orders.iter().map(|_| EventId::new().uuid()).collect(),
            shards: aggregates().map(|aggregate| aggregate.shard()).collect(),
            subjects: aggregates().map(|aggregate| aggregate.subject()).collect(),
            correlations: orders.iter().map(|order| order.correlation_id).collect(),
            traces: outbox::trace_parents(orders.iter().map(|order| order.trace_parent)),
            bodies: orders.iter().map(|order| order.body).collect(),
            digests: orders.iter().map(|order| order.request.key.digest()).collect(),
            clients: orders.iter().map(|order| order.request.key.client_id().uuid()).collect(),
            routes: orders.iter().map(|order| order.request.key.route()).collect(),
            keys: orders.iter().map(|order| order.request.key.header()).collect(),
            fingerprints: orders.iter().map(|order| &order.request.fingerprint[..]).collect(),
            status_codes: orders.iter().map(|order| status_code(order).unwrap_or_default()).collect(),
        }
    }
}

fn sorted<'o, 'a, K: Ord>(
    orders: &'o [PlacedOrder<'a>],
    key: impl Fn(&PlacedOrder<'a>) -> K,
) -> Vec<&'o PlacedOrder<'a>> {
    let mut sorted: Vec<_> = orders.iter().collect();
    sorted.sort_by_key(|order| key(order));
    sorted
}

impl<'a> LineColumns<'a> {
    pub(super) fn new(orders: &[PlacedOrder<'a>]) -> Self {
        let mut columns = Self::default();
        for order in orders {
            for (line, allocation) in order.draft.lines.iter().zip(order.allocations) {
                let level = &allocation.first.level;
                columns.ids.push(line.id.uuid());
                columns.order_ids.push(order.draft.id.uuid());
                columns.skus.push(level.sku.as_str());
                columns.locations.push(level.location_id.as_str());
                columns.quantities.push(line.quantity);
                columns.amounts.push(line.unit_amount);
                columns.reservation_ids.push(ReservationId::new().uuid());
                columns.created.push(order.created_at);
                columns.expiries.push(order.expires_at);
            }
        }
        columns
    }
}

/// One element for each customer or client among whose open orders the orders count, in the order of their rows.
pub(super) struct OwnerColumns<'a> {
    pub(super) kinds: Vec<&'a str>,
    pub(super) ids: Vec<Cow<'a, str>>,
    pub(super) added: Vec<i64>,
    pub(super) caps: Vec<i64>,
}

impl<'a> OwnerColumns<'a> {
    pub(super) fn new(orders: &[PlacedOrder<'a>], caps: OpenOrderCaps) -> Self {
        let mut added = BTreeMap::<OrderOwner<'a>, i64>::new();
        for order in orders {
            let customer_id = order.draft.customer_id.as_deref();
            for owner in caps.owners(order.request.key.client_id(), customer_id) {
                *added.entry(owner).or_default() += 1;
            }
        }
        Self {
            kinds: added.keys().map(|owner| owner.kind().as_str()).collect(),
            ids: added.keys().map(|owner| owner.id()).collect(),
            caps: added.keys().map(|owner| caps.cap(*owner).unwrap_or(i64::MAX)).collect(),
            added: added.into_values().collect(),
        }
    }
}
