//! Delivering a message to an endpoint again: at once, and with the whole schedule before it. The message is the same, and so
//! is its `webhook-id`.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Answer, App, Conflict, Error, answer, create_webhook_endpoint::unknown, retry::retry,
    test_webhook_endpoint::require_enabled,
};
use crate::{
    domain::{
        ids::WebhookDeliveryId,
        webhook::{DeliveredType, WebhookDelivery},
    },
    store::{
        Conn, events, idempotency::IdempotentRequest, webhook_deliveries, webhook_endpoints, webhook_log,
    },
};

/// A request to deliver again.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct RedeliverWebhook {}

impl App {
    /// Has a message delivered again, whatever became of it, or at once where it waits for its next attempt.
    ///
    /// # Errors
    /// Unknown delivery; an endpoint that is deleted or disabled; an event that is no longer kept.
    pub async fn redeliver_webhook(
        &self,
        request: &IdempotentRequest,
        id: WebhookDeliveryId,
    ) -> Result<Answer, Error> {
        let missing = || Error::NotFound { kind: "webhook delivery", id: id.to_string() };
        retry("redeliver_webhook", || async {
            let mut tx = self.store.begin("redeliver_webhook").await?;
            let found = webhook_log::find(&mut tx, id).await?.ok_or_else(missing)?;
            let endpoint = webhook_endpoints::lock(&mut tx, found.endpoint_id).await?;
            let delivery = webhook_log::lock(&mut tx, id).await?.ok_or_else(missing)?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            require_enabled(&endpoint.ok_or_else(|| unknown(found.endpoint_id))?)?;
            require_kept(&mut tx, &delivery).await?;
            webhook_deliveries::mark_queued(&mut tx, id).await?;
            let queued = webhook_log::find(&mut tx, id).await?.ok_or_else(missing)?;
            let answer = answer::store(&mut tx, request, &queued).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}

/// That the event is still there to be sent; a test brings its own body.
async fn require_kept(conn: &mut Conn, delivery: &WebhookDelivery) -> Result<(), Error> {
    let is_test = delivery.event_type == DeliveredType::Test;
    if is_test || !events::list_confirmed(conn, &[delivery.event_id]).await?.is_empty() {
        return Ok(());
    }
    let oldest_place = events::find_range(conn).await?.oldest;
    Err(Conflict::EventsNoLongerKept { oldest_place }.into())
}
