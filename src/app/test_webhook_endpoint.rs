//! Trying a webhook endpoint: a message of the type `webhook.test.v1` is delivered to it like any event, and to nobody else.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{Answer, App, Conflict, Error, answer, create_webhook_endpoint::unknown, retry::retry};
use crate::{
    domain::{
        event::Envelope,
        ids::{EventId, WebhookDeliveryId, WebhookEndpointId},
        webhook::{DeliveredType, EndpointStatus, WebhookEndpoint},
    },
    store::{idempotency::IdempotentRequest, payments, webhook_deliveries, webhook_endpoints, webhook_log},
};

/// A request to try an endpoint.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct TestWebhookEndpoint {}

impl App {
    /// Has a test delivered to an endpoint, and answers with the delivery.
    ///
    /// # Errors
    /// Unknown endpoint; one that is disabled.
    pub async fn test_webhook_endpoint(
        &self,
        request: &IdempotentRequest,
        id: WebhookEndpointId,
    ) -> Result<Answer, Error> {
        let (delivery_id, event_id) = (WebhookDeliveryId::new(), EventId::new());
        retry("test_webhook_endpoint", || async {
            let mut tx = self.store.begin("test_webhook_endpoint").await?;
            let endpoint = webhook_endpoints::lock(&mut tx, id).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let endpoint = endpoint.ok_or_else(|| unknown(id))?;
            require_enabled(&endpoint)?;
            let time = payments::now(&mut tx).await?;
            let body = test_body(event_id, &endpoint, time);
            webhook_deliveries::insert_test(&mut tx, delivery_id, id, event_id, &body).await?;
            let delivery = webhook_log::find(&mut tx, delivery_id).await?.ok_or_else(|| unknown(id))?;
            let answer = answer::store(&mut tx, request, &delivery).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}

/// Nothing is delivered to an endpoint that is disabled.
pub(super) fn require_enabled(endpoint: &WebhookEndpoint) -> Result<(), Conflict> {
    let permits = |status| status == EndpointStatus::Enabled;
    Conflict::require_status("webhook endpoint", endpoint.status, permits)
}

/// A test has the form of an event (CloudEvents 1.0).
fn test_body(event_id: EventId, endpoint: &WebhookEndpoint, time: DateTime<Utc>) -> String {
    json!({
        "specversion": Envelope::SPECVERSION,
        "id": event_id,
        "source": Envelope::SOURCE,
        "type": DeliveredType::TEST,
        "subject": format!("webhook-endpoint/{}", endpoint.id),
        "time": time,
        "datacontenttype": Envelope::DATACONTENTTYPE,
        "sequence": 1,
        "data": { "endpoint_id": endpoint.id },
    })
    .to_string()
}
