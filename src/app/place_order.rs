//! Placing an order: the locks of its SKUs, then the reservation engine, which writes order, lines, reservations, event
//! and the stored answer in one transaction. All of it or nothing.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Answer, App, Cause, Conflict, Error,
    reservation_engine::{Placed, Placement},
};
use crate::{
    domain::{inventory::LevelKey, new_order::NewOrder, reservation::Shortage},
    store::{idempotency::IdempotentRequest, reservations},
    telemetry::spans,
};

/// How many orders with expired holds a placement ends at a time, as long as it finds too little stock.
const REAP_LIMIT: i64 = 64;

/// Between two tries under a stale token. One more is enough after a pause; where ZooKeeper has lost its data every token
/// is stale until `lock.epoch` is raised, and trying without a pause would only load the database.
const STALE_FENCE_PAUSE: Duration = Duration::from_millis(50);

impl App {
    /// Places an order, or answers what the same request was answered before. What only few orders need is boxed: all would carry
    /// its state.
    ///
    /// # Errors
    /// Invalid fields, unknown SKUs, insufficient stock, a client reference that another order has, an idempotency key
    /// of another request; locks or database unavailable, too many orders waiting. Nothing is written then.
    pub async fn place_order(
        &self,
        request: IdempotentRequest,
        order: NewOrder,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let draft = order.validate(&self.settings.limits).map_err(Error::Invalid)?;
        let admission = match self.backlog.admit().and_then(|()| self.engine.admit()) {
            Ok(admission) => admission,
            Err(refusal) => return Box::pin(self.find_placed(&request, refusal)).await,
        };
        let deadline = Instant::now() + self.settings.lock_timeout;
        let mut keys: Vec<String> = draft.lines.iter().map(|line| line.sku.to_string()).collect();
        keys.sort();
        keys.dedup();
        let placement = Arc::new(Placement { draft, request, cause: cause.clone() });
        loop {
            let span = spans::step("acquire_locks");
            let acquired = self.locks.acquire(&keys, self.engine.lock_owner(), deadline).await;
            drop(span);
            let guard = match acquired {
                Ok(guard) => guard,
                Err(refusal) => {
                    return Box::pin(self.find_placed(&placement.request, refusal.into())).await;
                }
            };
            let span = spans::step("place_in_batch");
            let placed = self.engine.place(placement.clone(), guard, admission.clone()).await;
            let placed = placed.inspect_err(|_| {
                // Only now: what is logged of it is that it failed.
                tracing::Span::current().record("order_id", tracing::field::display(placement.draft.id));
            })?;
            drop(span);
            match placed {
                Placed::Answer(answer) => return Ok(answer),
                Placed::StaleFence => {
                    tracing::info!(order_id = %placement.draft.id, "fencing token is stale, locking again");
                    tokio::time::sleep(STALE_FENCE_PAUSE).await;
                }
                Placed::Short(items) => {
                    // Each try has ended holds, so this comes to an end; the deadline is for crowds of them.
                    if Instant::now() >= deadline || !Box::pin(self.reap_expired(&items, cause)).await? {
                        return Err(Conflict::InsufficientStock { items }.into());
                    }
                }
            }
        }
    }

    /// What the request was answered when it was placed before: that needs no room and no lock. Else why it is refused.
    async fn find_placed(&self, request: &IdempotentRequest, refusal: Error) -> Result<Answer, Error> {
        match self.engine.find_answer(request).await {
            Ok(Some(answer)) => Ok(answer),
            Err(Error::IdempotencyKeyReused) => Err(Error::IdempotencyKeyReused),
            Ok(None) => Err(refusal),
            Err(error) => {
                tracing::warn!(%error, "whether an order was placed before cannot be looked up");
                Err(refusal)
            }
        }
    }

    /// Ends the expired holds on levels that are short, every one that a line could be taken from, without waiting for the
    /// expiry worker (G7).
    async fn reap_expired(&self, items: &[Shortage], cause: &Cause) -> Result<bool, Error> {
        let keys: Vec<LevelKey> = items.iter().flat_map(Shortage::levels).collect();
        let mut conn = self.store.conn_by_key().await?;
        let pin = self.settings.payment_pin.as_secs_f64();
        let expired = reservations::find_expired_orders(&mut conn, &keys, pin, REAP_LIMIT).await?;
        drop(conn);
        Ok(!expired.is_empty() && self.expire_orders(Some(&expired), REAP_LIMIT, cause).await? > 0)
    }
}
