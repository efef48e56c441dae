//! Expiring orders: an order that was not paid in time gives its stock back.
//!
//! Called by the expiry worker, and by a placement that finds too little stock. Time is PostgreSQL's.

use super::{App, Cause, Error, order_change::order_event, retry::retry, stock_events::move_reservations};
use crate::{
    domain::{
        event::{Event, OrderExpired},
        ids::OrderId,
        reservation::ReservationStatus,
    },
    store::{open_orders, orders, outbox},
};

impl App {
    /// Expires orders whose time has run out: `among` these if given, any if not, at most `limit`. Gives how many.
    ///
    /// An order that another transaction works on is passed over. A payment in flight keeps an order alive for
    /// `payment_pin` beyond its time, and no longer.
    pub async fn expire_orders(
        &self,
        among: Option<&[OrderId]>,
        limit: i64,
        cause: &Cause,
    ) -> Result<usize, Error> {
        retry("expire_orders", || self.expire_once(among, limit, cause)).await
    }

    /// For how long the order has been over its time that is to be expired first, in seconds; 0 where there is none.
    pub async fn overdue_seconds(&self) -> Result<f64, Error> {
        let pin = self.settings.payment_pin.as_secs_f64();
        Ok(orders::find_overdue_seconds(&mut *self.store.conn_by_key().await?, pin).await?)
    }

    async fn expire_once(
        &self,
        among: Option<&[OrderId]>,
        limit: i64,
        cause: &Cause,
    ) -> Result<usize, Error> {
        let mut tx = self.store.begin("expire_orders").await?;
        let pin = self.settings.payment_pin.as_secs_f64();
        let expired = orders::lock_expired(&mut tx, among, pin, limit).await?;
        if expired.is_empty() {
            return Ok(0);
        }
        let ids: Vec<OrderId> = expired.iter().map(|(id, _)| *id).collect();
        move_reservations(&mut tx, &ids, ReservationStatus::Held, ReservationStatus::Expired, cause).await?;
        orders::mark_expired(&mut tx, &ids).await?;
        open_orders::close(&mut tx, &ids).await?;
        let expired_event = |&(id, version): &(OrderId, i64)| {
            order_event(id, version + 1, Event::OrderExpired(OrderExpired { order_id: id }), cause)
        };
        let events: Vec<_> = expired.iter().map(expired_event).collect();
        outbox::insert(&mut tx, &events).await?;
        tx.commit().await?;
        Ok(ids.len())
    }
}
