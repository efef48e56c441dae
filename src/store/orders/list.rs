//! Reading orders with their lines and with what became of them.
//!
//! A list is one statement made of the filters that are given, and is planned anew each time, for the values that it has: one
//! plan for all of them would read a whole table where a value is rare. One order is found by its id, always in one way.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{Postgres, QueryBuilder, types::Json};
use uuid::Uuid;

use super::lines::lines_of;
use crate::{
    domain::{
        ids::OrderId,
        inventory::Sku,
        order::{
            FulfillmentStatus, Order, OrderLine, OrderPaymentStatus, OrderProgress, OrderStatus, ReturnStatus,
        },
        payment::PaymentStatus,
    },
    store::{Conn, Error, error::parse, newest_first},
};

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Only orders in this status.
    pub status: Option<OrderStatus>,
    /// Only orders of this customer.
    pub customer_id: Option<String>,
    /// Only the order with this reference.
    pub client_reference: Option<String>,
    /// Only orders with a line of this SKU. Walks through the orders that the other filters leave: a caller bounds them.
    pub sku: Option<Sku>,
    /// Only orders placed at this time or later.
    pub created_gte: Option<DateTime<Utc>>,
    /// Only orders placed before this time.
    pub created_lt: Option<DateTime<Utc>>,
    /// Only the order with this id.
    pub id: Option<OrderId>,
    /// Only orders placed before this one.
    pub starting_after: Option<OrderId>,
}

#[derive(sqlx::FromRow)]
struct OrderRow {
    id: Uuid,
    client_reference: Option<String>,
    customer_id: Option<String>,
    status: String,
    version: i64,
    currency: String,
    total_amount: i64,
    amount_canceled: i64,
    keeps_money: bool,
    extensions: i16,
    capture_method: String,
    metadata: Json<BTreeMap<String, String>>,
    expires_at: DateTime<Utc>,
    canceled_at: Option<DateTime<Utc>>,
    cancel_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// One order with its lines.
pub async fn find(conn: &mut Conn, id: OrderId) -> Result<Option<Order>, Error> {
    let filter = OrderFilter { id: Some(id), ..OrderFilter::default() };
    Ok(list(conn, &filter, 1).await?.pop())
}

/// Whether there is such an order.
pub async fn exists(conn: &mut Conn, id: OrderId) -> Result<bool, Error> {
    let found =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM orders WHERE id = $1) AS "exists!""#, id.uuid());
    Ok(found.fetch_one(conn).await?)
}

/// Orders with their lines, newest first.
pub async fn list(conn: &mut Conn, filter: &OrderFilter, limit: i64) -> Result<Vec<Order>, Error> {
    let mut query = statement(filter, limit);
    let query = query.build_query_as::<OrderRow>().persistent(filter.id.is_some());
    let rows = query.fetch_all(&mut *conn).await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut lines = lines_of(conn, &ids).await?;
    let payments = payment_statuses(conn, &ids).await?;
    rows.into_iter()
        .map(|row| {
            let lines = lines.remove(&row.id).unwrap_or_default();
            let payment = payments.get(&row.id).copied();
            row.into_order(lines, payment)
        })
        .collect()
}

fn statement(filter: &OrderFilter, limit: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(
        "SELECT id, client_reference, customer_id, status, version, currency, total_amount, amount_canceled, keeps_money,
                extensions, capture_method, metadata, expires_at, canceled_at, cancel_reason, created_at, updated_at
         FROM orders o WHERE true",
    );
    if let Some(id) = filter.id {
        query.push(" AND id = ").push_bind(id.uuid());
    }
    if let Some(status) = filter.status {
        query.push(" AND status = ").push_bind(status.as_str());
    }
    if let Some(customer_id) = &filter.customer_id {
        query.push(" AND customer_id = ").push_bind(customer_id.clone());
    }
    if let Some(reference) = &filter.client_reference {
        query.push(" AND client_reference = ").push_bind(reference.clone());
    }
    newest_first::push_created(&mut query, filter.created_gte, filter.created_lt);
    if let Some(sku) = &filter.sku {
        // The offset keeps the planner from reading all lines of the SKU first.
        query.push(" AND EXISTS (SELECT 1 FROM order_line l WHERE l.order_id = o.id AND l.sku = ");
        query.push_bind(sku.as_str().to_owned()).push(" OFFSET 0)");
    }
    newest_first::push_page(&mut query, filter.starting_after.map(OrderId::uuid), limit);
    query
}

/// Where the payment of each order stands: of several, the live one, else the last.
async fn payment_statuses(conn: &mut Conn, ids: &[Uuid]) -> Result<HashMap<Uuid, PaymentStatus>, Error> {
    let rows = sqlx::query!(
        "SELECT DISTINCT ON (order_id) order_id, status FROM payment WHERE order_id = ANY($1)
         ORDER BY order_id, status NOT IN ('voided', 'failed') DESC, id DESC",
        ids,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(|row| Ok((row.order_id, parse(&row.status, "payment.status")?))).collect()
}

impl OrderRow {
    fn into_order(self, lines: Vec<OrderLine>, payment: Option<PaymentStatus>) -> Result<Order, Error> {
        let status: OrderStatus = parse(&self.status, "orders.status")?;
        let amount_due = if status.is_dead() { 0 } else { self.total_amount - self.amount_canceled };
        Ok(Order {
            id: self.id.into(),
            client_reference: self.client_reference,
            customer_id: self.customer_id,
            status,
            version: self.version,
            currency: parse(&self.currency, "orders.currency")?,
            total_amount: self.total_amount,
            capture_method: parse(&self.capture_method, "orders.capture_method")?,
            metadata: self.metadata.0,
            expires_at: self.expires_at,
            canceled_at: self.canceled_at,
            cancel_reason: self.cancel_reason,
            created_at: self.created_at,
            updated_at: self.updated_at,
            progress: OrderProgress {
                amount_canceled: self.amount_canceled,
                amount_due,
                keeps_money: self.keeps_money,
                extensions: self.extensions.into(),
                payment_status: OrderPaymentStatus::of(payment),
                fulfillment_status: FulfillmentStatus::of(&lines),
                return_status: ReturnStatus::of(&lines),
            },
            lines,
        })
    }
}
