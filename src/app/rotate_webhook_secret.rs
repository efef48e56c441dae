//! Rotating the secret of a webhook endpoint: messages are signed with the new one at once, and for a time with the old one
//! too, so that whoever verifies them can change when it suits.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Conflict, Error,
    answer::{self, Once},
    create_webhook_endpoint::{EndpointWithSecret, OwnSecret, unknown},
    retry::retry,
};
use crate::{
    domain::{
        bounds::SecretGraceSeconds, ids::WebhookEndpointId, validation::Validator, webhook::MAX_SECRETS,
    },
    store::{idempotency::IdempotentRequest, webhook_endpoints, webhook_secrets},
};

/// For how long the old secret lives on where nothing is said: a day.
const GRACE_SECONDS: i32 = 86_400;

/// A request to rotate the secret of an endpoint.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct RotateWebhookSecret {
    /// For how many seconds messages are also signed with the old secret, 0 to 604800 (7 days); a day if absent. 0: it may be
    /// known to others.
    #[schema(value_type = Option<SecretGraceSeconds>)]
    pub old_secret_expires_in_seconds: Option<i32>,
}

impl App {
    /// Makes a secret that follows the current one.
    ///
    /// # Errors
    /// Invalid fields; unknown endpoint; one that has two secrets which have not ended.
    pub async fn rotate_webhook_secret(
        &self,
        id: WebhookEndpointId,
        rotate: &RotateWebhookSecret,
        request: &IdempotentRequest,
    ) -> Result<Once<EndpointWithSecret>, Error> {
        let grace = rotate.old_secret_expires_in_seconds;
        let mut check = Validator::default();
        SecretGraceSeconds::require(&mut check, grace.map(i64::from), "/old_secret_expires_in_seconds");
        check.finish().map_err(Error::Invalid)?;
        let own = OwnSecret::new();
        retry("rotate_webhook_secret", || async {
            let mut tx = self.store.begin("rotate_webhook_secret").await?;
            let endpoint = webhook_endpoints::lock(&mut tx, id).await?;
            // After the lock: an earlier try that has not ended yet holds it.
            if webhook_secrets::exists(&mut tx, own.id).await? {
                return own.made(&mut tx, id).await.map(Once::Now);
            }
            if let Some(answer) = answer::find(&mut tx, request).await? {
                return Ok(Once::Before(answer));
            }
            endpoint.ok_or_else(|| unknown(id))?;
            let left = webhook_secrets::expire(&mut tx, id, grace.unwrap_or(GRACE_SECONDS)).await?;
            if left >= MAX_SECRETS {
                return Err(Conflict::WebhookSecretLimitReached { limit: MAX_SECRETS }.into());
            }
            // When the old secret ends is told of the endpoint.
            webhook_endpoints::mark_changed(&mut tx, id).await?;
            let made = own.make(&mut tx, id, request).await?;
            tx.commit().await?;
            Ok(Once::Now(made))
        })
        .await
    }
}
