//! Placing an order: the locks of its SKUs, then one transaction that reserves its stock and writes order, lines,
//! reservations, event and the stored answer. All of it or nothing.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::{
    Answer, App, Cause, Conflict, Error, answer,
    order_change::order_event,
    reserve_stock::{lock_stock, reserve_stock},
    retry::retry,
};
use crate::{
    domain::{
        event::EventType,
        inventory::LevelKey,
        new_order::{NewOrder, OrderDraft},
        reservation::{Decision, Shortage},
        validation::FieldError,
    },
    lock::{LockGuard, LockOwner},
    store::{self, Conn, idempotency::IdempotentRequest, orders, outbox, reservations},
};

/// How many orders with expired holds one placement ends when it finds too little stock.
const REAP_LIMIT: i64 = 64;

/// Between two tries under a stale token. One more is enough after a pause; where ZooKeeper has lost its data every token
/// is stale until `lock.epoch` is raised, and trying without a pause would only load the database.
const STALE_FENCE_PAUSE: Duration = Duration::from_millis(50);

/// What one try came to.
enum Placed {
    Answer(Answer),
    /// A newer holder of a lock has been here: take the locks again.
    StaleFence,
    Short(Vec<Shortage>),
}

impl App {
    /// Places an order, or answers what the same request was answered before.
    ///
    /// # Errors
    /// Invalid fields, unknown SKUs, insufficient stock, a client reference that another order has, an idempotency key
    /// of another request; locks or database unavailable. Nothing is written then.
    pub async fn place_order(
        &self,
        request: &IdempotentRequest,
        order: NewOrder,
        cause: &Cause,
    ) -> Result<Answer, Error> {
        let draft = order.validate(&self.settings.limits).map_err(Error::Invalid)?;
        let deadline = Instant::now() + self.settings.lock_timeout;
        let mut keys: Vec<String> = draft.lines.iter().map(|line| line.level.sku.to_string()).collect();
        keys.sort();
        keys.dedup();
        let mut reaped = false;
        loop {
            let guard = self.locks.acquire(&keys, LockOwner::new(), deadline).await?;
            let placed = retry("place_order", || self.place_locked(request, &draft, cause, &guard)).await;
            // Released in the background: the client need not wait for that.
            if matches!(placed, Ok(Placed::StaleFence)) {
                guard.fenced();
            } else {
                drop(guard);
            }
            match placed? {
                Placed::Answer(answer) => return Ok(answer),
                Placed::StaleFence => {
                    tracing::info!(order_id = %draft.id, "fencing token is stale, locking again");
                    tokio::time::sleep(STALE_FENCE_PAUSE).await;
                }
                Placed::Short(items) => {
                    if reaped || !self.reap_expired(&items, cause).await? {
                        return Err(Conflict::InsufficientStock { items }.into());
                    }
                    reaped = true;
                }
            }
        }
    }

    /// Ends the expired holds on levels that are short, without waiting for the expiry worker (G7).
    async fn reap_expired(&self, items: &[Shortage], cause: &Cause) -> Result<bool, Error> {
        let keys: Vec<LevelKey> = items.iter().map(|item| item.key.clone()).collect();
        let mut conn = self.store.conn().await?;
        let pin = self.settings.payment_pin.as_secs_f64();
        let expired = reservations::find_expired_orders(&mut conn, &keys, pin, REAP_LIMIT).await?;
        drop(conn);
        Ok(!expired.is_empty() && self.expire_orders(Some(&expired), REAP_LIMIT, cause).await? > 0)
    }

    async fn place_locked(
        &self,
        request: &IdempotentRequest,
        draft: &OrderDraft,
        cause: &Cause,
        guard: &LockGuard,
    ) -> Result<Placed, Error> {
        let mut tx = self.store.begin("place_order").await?;
        let stock = lock_stock(&mut tx, &[draft]).await?;
        // Under the row locks, so that a request waits for its twin instead of competing with it for the last unit.
        if let Some(answer) = answer::find(&mut tx, request).await? {
            return Ok(Placed::Answer(answer));
        }
        check_reference(&mut tx, draft).await?;
        let decisions = match reserve_stock(&mut tx, &stock, guard).await? {
            Ok(decisions) => decisions,
            Err(super::reserve_stock::StaleFence) => return Ok(Placed::StaleFence),
        };
        match decisions.into_iter().next() {
            Some(Decision::Reserved) => {}
            Some(Decision::Insufficient(items)) => return Ok(Placed::Short(items)),
            Some(Decision::Unknown(keys)) => return Err(unknown_skus(draft, &keys)),
            None => return Err(store::Error::Inconsistent("an order was not decided".into()).into()),
        }
        let expires_at = stock.now + TimeDelta::seconds(draft.ttl_seconds);
        let placing = [(draft, expires_at)];
        if orders::insert(&mut tx, &placing, stock.now).await?.is_empty() {
            // Another order took the reference since it was looked up: the next try finds it there.
            return Err(store::Error::Aborted("the client reference was taken meanwhile".into()).into());
        }
        orders::insert_lines(&mut tx, &[draft]).await?;
        reservations::insert_held(&mut tx, &placing, stock.now).await?;
        let order = draft.clone().into_order(stock.now, expires_at);
        let created = order_event(order.id, order.version, EventType::OrderCreated, &order, cause)?;
        outbox::insert(&mut tx, &[created]).await?;
        let answer = answer::store(&mut tx, request, &order).await?;
        tx.commit().await?;
        Ok(Placed::Answer(answer))
    }
}

async fn check_reference(conn: &mut Conn, draft: &OrderDraft) -> Result<(), Error> {
    let Some(reference) = &draft.client_reference else { return Ok(()) };
    match orders::find_by_reference(conn, reference).await? {
        Some(order_id) => Err(Conflict::DuplicateClientReference { order_id }.into()),
        None => Ok(()),
    }
}

fn unknown_skus(draft: &OrderDraft, keys: &[LevelKey]) -> Error {
    let errors =
        draft.lines.iter().enumerate().filter(|(_, line)| keys.contains(&line.level)).map(|(index, line)| {
            let LevelKey { sku, location_id } = &line.level;
            FieldError {
                pointer: format!("/lines/{index}/sku"),
                detail: format!("there is no SKU {sku} at location {location_id}"),
            }
        });
    Error::UnknownSku(errors.collect())
}
