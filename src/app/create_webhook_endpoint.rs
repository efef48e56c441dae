//! Making a webhook endpoint. Its secret is shown once, to whoever makes it: the answer that is kept under the idempotency
//! key is without it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    App, Conflict, Error,
    answer::{self, Once},
    retry::retry,
};
use crate::{
    domain::{
        bounds::{Text, WebUrl},
        event::EventType,
        ids::WebhookEndpointId,
        validation::{Rule, Validator},
        webhook::{MAX_ENDPOINTS, WebhookEndpoint},
    },
    store::{
        self, Conn,
        idempotency::IdempotentRequest,
        webhook_endpoints::{self, NewWebhookEndpoint},
        webhook_secrets,
    },
    webhook::{SigningSecret, WebhookSender},
};

/// A request to make an endpoint.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "url": "https://shop.example/webhooks", "event_types": ["order.created.v1"] }))]
pub struct CreateWebhookEndpoint {
    /// Where events are posted to: an `https` URL at a public address.
    #[schema(value_type = WebUrl)]
    pub url: String,
    /// What to call it.
    #[schema(value_type = Option<Text>)]
    pub description: Option<String>,
    /// Which types of events; all of them if absent or null.
    #[schema(min_items = 1, max_items = 100)]
    pub event_types: Option<Vec<EventType>>,
}

/// An endpoint with a secret that was just made.
#[derive(Clone, Serialize, ToSchema)]
pub struct EndpointWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: WebhookEndpoint,
    /// What messages are signed with, `whsec_…`. It is in the first answer only: a repetition of the request gets null.
    pub secret: Option<String>,
}

impl std::fmt::Debug for EndpointWithSecret {
    /// Without the secret: it must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointWithSecret").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// The secret that a use case makes: the same in all its tries, so it knows what an earlier one made whose commit was not
/// answered.
pub(super) struct OwnSecret {
    pub(super) id: Uuid,
    pub(super) secret: SigningSecret,
}

impl OwnSecret {
    pub(super) fn new() -> Self {
        Self { id: Uuid::now_v7(), secret: SigningSecret::generate() }
    }

    /// Stores the secret as the current one of an endpoint, and the answer without it. Gives the answer.
    pub(super) async fn make(
        &self,
        conn: &mut Conn,
        id: WebhookEndpointId,
        request: &IdempotentRequest,
    ) -> Result<EndpointWithSecret, Error> {
        if !webhook_secrets::insert(conn, self.id, id, self.secret.bytes()).await? {
            return Err(store::Error::Aborted("an earlier try has just made it".into()).into());
        }
        let made = self.made(conn, id).await?;
        answer::store(conn, request, &EndpointWithSecret { secret: None, ..made.clone() }).await?;
        Ok(made)
    }

    /// The endpoint with this secret, which this transaction or an earlier try has made.
    pub(super) async fn made(
        &self,
        conn: &mut Conn,
        id: WebhookEndpointId,
    ) -> Result<EndpointWithSecret, Error> {
        let endpoint = webhook_endpoints::find(conn, id).await?.ok_or_else(|| unknown(id))?;
        Ok(EndpointWithSecret { endpoint, secret: Some(self.secret.reveal()) })
    }
}

impl App {
    /// Makes an endpoint. It gets what comes in the feed from then on.
    ///
    /// # Errors
    /// Invalid fields; as many endpoints as there may be.
    pub async fn create_webhook_endpoint(
        &self,
        create: &CreateWebhookEndpoint,
        request: &IdempotentRequest,
    ) -> Result<Once<EndpointWithSecret>, Error> {
        let mut check = Validator::default();
        require_url(&mut check, &self.webhook_sender, Some(&create.url));
        Text::require(&mut check, create.description.as_deref(), "/description");
        require_types(&mut check, create.event_types.as_deref());
        check.finish().map_err(Error::Invalid)?;
        let (id, own) = (WebhookEndpointId::new(), OwnSecret::new());
        let new = NewWebhookEndpoint {
            id,
            url: &create.url,
            description: create.description.as_deref(),
            event_types: create.event_types.as_deref(),
        };
        retry("create_webhook_endpoint", || async {
            let mut tx = self.store.begin("create_webhook_endpoint").await?;
            if webhook_secrets::exists(&mut tx, own.id).await? {
                return own.made(&mut tx, id).await.map(Once::Now);
            }
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(Once::Before(answer));
            }
            if !webhook_endpoints::insert(&mut tx, &new, MAX_ENDPOINTS).await? {
                // The earlier try may have ended while this one waited for its turn: then it is one of those that there are.
                if webhook_secrets::exists(&mut tx, own.id).await? {
                    return own.made(&mut tx, id).await.map(Once::Now);
                }
                return Err(Conflict::WebhookEndpointLimitReached { limit: MAX_ENDPOINTS }.into());
            }
            let made = own.make(&mut tx, id, request).await?;
            tx.commit().await?;
            Ok(Once::Now(made))
        })
        .await
    }
}

pub(super) fn unknown(id: WebhookEndpointId) -> Error {
    Error::NotFound { kind: "webhook endpoint", id: id.to_string() }
}

/// Notes what is wrong with a URL: as a field what its schema says, else under a rule of its own.
pub(super) fn require_url(check: &mut Validator, sender: &WebhookSender, url: Option<&str>) {
    WebUrl::require(check, url, "/url");
    if let Some(Err(detail)) = url.map(|url| sender.check_url(url)) {
        check.require_rule(Rule::WebhookUrlRefused, false, "/url", detail);
    }
}

/// Notes what is wrong with the types of events.
pub(super) fn require_types(check: &mut Validator, types: Option<&[EventType]>) {
    let valid = types.is_none_or(|types| (1..=100).contains(&types.len()));
    check.require(valid, "/event_types", "must hold 1 to 100 types; all of them is null");
}
