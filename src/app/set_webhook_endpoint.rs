//! Changing a webhook endpoint: where events are posted to, and which. It counts for what comes in the feed from then on, and
//! the URL for whatever is sent from then on.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Error,
    create_webhook_endpoint::{require_types, require_url, unknown},
    expected_version::ExpectedVersion,
    present::{given, present},
    retry::retry_before_commit,
};
use crate::{
    domain::{
        bounds::{Text, WebUrl},
        event::EventType,
        ids::WebhookEndpointId,
        validation::Validator,
        webhook::WebhookEndpoint,
    },
    store::webhook_endpoints::{self, WebhookEndpointChange},
};

/// A request to change an endpoint. What is absent stays as it is.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "event_types": ["order.created.v1", "order.canceled.v1"] }))]
pub struct SetWebhookEndpoint {
    /// Where events are posted to; unchanged if absent.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = WebUrl, required = false)]
    pub url: Option<String>,
    /// What people call it; nothing if `null`; unchanged if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Text>)]
    pub description: Option<Option<String>>,
    /// Which types of events; all of them if `null`; unchanged if absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<EventType>>, min_items = 1, max_items = 100)]
    pub event_types: Option<Option<Vec<EventType>>>,
}

impl App {
    /// Changes an endpoint, and answers with it.
    ///
    /// # Errors
    /// Invalid fields; unknown endpoint; another version than expected.
    pub async fn set_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        expected: Option<&ExpectedVersion>,
        set: &SetWebhookEndpoint,
    ) -> Result<WebhookEndpoint, Error> {
        let description = set.description.as_ref().map(Option::as_deref);
        let event_types = set.event_types.as_ref().map(Option::as_deref);
        let mut check = Validator::default();
        require_url(&mut check, &self.webhook_sender, set.url.as_deref());
        Text::require(&mut check, description.flatten(), "/description");
        require_types(&mut check, event_types.flatten());
        check.finish().map_err(Error::Invalid)?;
        let change = WebhookEndpointChange { url: set.url.as_deref(), description, event_types };
        retry_before_commit("set_webhook_endpoint", || async {
            let mut tx = self.store.begin("set_webhook_endpoint").await?;
            let endpoint = webhook_endpoints::lock(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
            ExpectedVersion::require(expected, Some(endpoint.version))?;
            webhook_endpoints::update(&mut tx, id, &change).await?;
            let changed = webhook_endpoints::find(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
            tx.commit().await?;
            Ok(changed)
        })
        .await
    }

    /// Deletes an endpoint. What is pending for it is canceled; the log of its deliveries goes with its age.
    ///
    /// # Errors
    /// Unknown endpoint; another version than expected.
    pub async fn delete_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        retry_before_commit("delete_webhook_endpoint", || async {
            let mut tx = self.store.begin("delete_webhook_endpoint").await?;
            let endpoint = webhook_endpoints::lock(&mut tx, id).await?.ok_or_else(|| unknown(id))?;
            ExpectedVersion::require(expected, Some(endpoint.version))?;
            webhook_endpoints::delete(&mut tx, id).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}
