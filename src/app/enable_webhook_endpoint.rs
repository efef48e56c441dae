//! Enabling and disabling a webhook endpoint. What happens while it is disabled is not made up for: it is in the feed.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{Answer, App, Conflict, Error, answer, create_webhook_endpoint::unknown, retry::retry};
use crate::{
    domain::{
        ids::WebhookEndpointId,
        webhook::{DisabledReason, EndpointStatus},
    },
    store::{idempotency::IdempotentRequest, webhook_endpoints},
};

/// A request to enable an endpoint.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct EnableWebhookEndpoint {}

/// A request to disable an endpoint.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct DisableWebhookEndpoint {}

impl App {
    /// Enables an endpoint: it gets what comes in the feed from then on.
    ///
    /// # Errors
    /// Unknown endpoint; one that is enabled.
    pub async fn enable_webhook_endpoint(
        &self,
        request: &IdempotentRequest,
        id: WebhookEndpointId,
    ) -> Result<Answer, Error> {
        self.turn_webhook_endpoint(request, id, EndpointStatus::Enabled).await
    }

    /// Disables an endpoint. What is pending for it is canceled.
    ///
    /// # Errors
    /// Unknown endpoint; one that is disabled.
    pub async fn disable_webhook_endpoint(
        &self,
        request: &IdempotentRequest,
        id: WebhookEndpointId,
    ) -> Result<Answer, Error> {
        self.turn_webhook_endpoint(request, id, EndpointStatus::Disabled).await
    }

    async fn turn_webhook_endpoint(
        &self,
        request: &IdempotentRequest,
        id: WebhookEndpointId,
        to: EndpointStatus,
    ) -> Result<Answer, Error> {
        retry("turn_webhook_endpoint", || async {
            let mut tx = self.store.begin("turn_webhook_endpoint").await?;
            let endpoint = webhook_endpoints::lock(&mut tx, id).await?;
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(answer);
            }
            let endpoint = endpoint.ok_or_else(|| unknown(id))?;
            let permits = |status: EndpointStatus| status.may_become(to);
            Conflict::require_status("webhook endpoint", endpoint.status, permits)?;
            match to {
                EndpointStatus::Enabled => webhook_endpoints::mark_enabled(&mut tx, id).await?,
                EndpointStatus::Disabled => {
                    webhook_endpoints::mark_disabled(&mut tx, id, DisabledReason::Requested).await?;
                }
            }
            let turned = webhook_endpoints::find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
            let answer = answer::store(&mut tx, request, &turned).await?;
            tx.commit().await?;
            Ok(answer)
        })
        .await
    }
}
