//! Events become deliveries to the endpoints that want them: the feed of all events is read on from a cursor, part by part,
//! and the cursor moves in the transaction that makes the deliveries. One process at a time does so, whichever comes first.
//!
//! The feed and not the queue of a consumer of its own: that would cost every event of every shop a message and a row of the
//! inbox, whether anybody has an endpoint or not. Here one without endpoints costs a look now and then.

use super::{App, Error};
use crate::store::{
    webhook_deliveries,
    webhook_fan_out::{self, WebhookBacklog},
};

/// How many places of the feed become deliveries in one transaction.
const PART: i64 = 200;

/// How many pending deliveries are canceled in one transaction.
const CANCELED: i64 = 2_000;

impl App {
    /// Makes deliveries of the next events in the feed. Gives whether there are more.
    pub async fn fan_out_webhooks(&self) -> Result<bool, Error> {
        if !webhook_fan_out::is_wanted(&mut *self.store.conn().await?).await? {
            return Ok(false);
        }
        let mut tx = self.store.begin("fan_out_webhooks").await?;
        let Some(part) = webhook_fan_out::lock_next(&mut tx, PART).await? else { return Ok(false) };
        let wanted = webhook_fan_out::list_wanted(&mut tx, part).await?;
        if !wanted.is_empty() {
            webhook_fan_out::insert(&mut tx, &wanted).await?;
        }
        webhook_fan_out::move_cursor(&mut tx, part).await?;
        tx.commit().await?;
        Ok(part.has_more)
    }

    /// Cancels what is pending for endpoints that were disabled or deleted, a part of it. Gives how many.
    pub async fn cancel_webhook_deliveries(&self) -> Result<u64, Error> {
        Ok(webhook_deliveries::cancel_left(&mut *self.store.conn().await?, CANCELED).await?)
    }

    /// How the deliveries stand.
    pub async fn webhook_backlog(&self) -> Result<WebhookBacklog, Error> {
        Ok(webhook_fan_out::backlog(&mut *self.store.conn().await?).await?)
    }
}
