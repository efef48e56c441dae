//! Revoking an API key: it is refused by every process within seconds, and for ever.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Error,
    answer::{self, Once},
    retry::{retry, retry_before_commit},
    rotate_api_key::{not_live, unknown},
};
use crate::{
    domain::ids::ApiKeyId,
    store::{
        api_keys::{self, ApiKey},
        idempotency::IdempotentRequest,
    },
};

/// A request to revoke a key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct RevokeApiKey {}

impl App {
    /// Revokes a key. Nobody repeats what has no `request`.
    ///
    /// # Errors
    /// Unknown key; a key that was revoked before.
    pub async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        request: Option<&IdempotentRequest>,
    ) -> Result<Once<ApiKey>, Error> {
        let attempt = || async {
            let mut tx = self.store.begin("revoke_api_key").await?;
            let key = api_keys::lock_of_client(&mut tx, id).await?;
            if let Some(answer) = answer::find_if_keyed(&mut tx, request).await? {
                return Ok(Once::Before(answer));
            }
            let mut key = key.ok_or_else(|| unknown(id))?;
            let revoked_at = api_keys::mark_revoked(&mut tx, id).await?;
            key.revoked_at = Some(revoked_at.ok_or_else(|| not_live(&key))?);
            key.is_live = false;
            if let Some(request) = request {
                answer::store(&mut tx, request, &key).await?;
            }
            tx.commit().await?;
            Ok(Once::Now(key))
        };
        match request {
            Some(_) => retry("revoke_api_key", attempt).await,
            // Without a key it would take its own effect for another's.
            None => retry_before_commit("revoke_api_key", attempt).await,
        }
    }
}
