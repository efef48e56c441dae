//! Rotating an API key: a second live key of the same client, that may do the same. Requests under either are of one
//! client, so what counts once counts once across the change. The old key is revoked by hand, or ends after a grace time.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    App, Conflict, Error, NewApiKey,
    answer::{self, Once},
    create_api_key::OwnKey,
    retry::retry,
};
use crate::{
    domain::{bounds::GraceSeconds, ids::ApiKeyId, validation::Validator},
    store::{
        api_keys::{self, ApiKey},
        idempotency::IdempotentRequest,
    },
};

/// How many live keys a client may have: the one in use, and the one that is to follow it.
const LIVE_KEYS_MAX: i64 = 2;

/// A request to rotate a key.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({}))]
pub struct RotateApiKey {
    /// After how many seconds the old key ends, 1 to 7776000 (90 days). Without it the old key lives until it is revoked.
    #[schema(value_type = Option<GraceSeconds>)]
    pub old_key_expires_in_seconds: Option<i32>,
}

impl App {
    /// Makes a key that follows this one. Nobody repeats what has no `request`.
    ///
    /// # Errors
    /// Unknown key; a key that is not live; a client that has two live keys.
    pub async fn rotate_api_key(
        &self,
        id: ApiKeyId,
        rotate: &RotateApiKey,
        request: Option<&IdempotentRequest>,
    ) -> Result<Once<NewApiKey>, Error> {
        let grace = rotate.old_key_expires_in_seconds;
        let mut check = Validator::default();
        GraceSeconds::require(&mut check, grace.map(i64::from), "/old_key_expires_in_seconds");
        check.finish().map_err(Error::Invalid)?;
        let own = OwnKey::new();
        retry("rotate_api_key", || async {
            let mut tx = self.store.begin("rotate_api_key").await?;
            let old = api_keys::lock_of_client(&mut tx, id).await?;
            // After the lock: an earlier try that has not ended yet holds it.
            if let Some(made) = own.find(&mut tx).await? {
                return Ok(Once::Now(made));
            }
            if let Some(answer) = answer::find_if_keyed(&mut tx, request).await? {
                return Ok(Once::Before(answer));
            }
            let old = old.ok_or_else(|| unknown(id))?;
            if !old.is_live {
                return Err(not_live(&old));
            }
            let key = api_keys::insert_rotated(&mut tx, id, own.id, &own.hash(), LIVE_KEYS_MAX).await?;
            let key = key.ok_or(Conflict::ApiKeyLimitReached { limit: LIVE_KEYS_MAX })?;
            if let Some(seconds) = grace {
                api_keys::mark_expiring(&mut tx, id, seconds).await?;
            }
            let made = own.made(key);
            made.store_answer(&mut tx, request).await?;
            tx.commit().await?;
            Ok(Once::Now(made))
        })
        .await
    }
}

pub(super) fn unknown(id: ApiKeyId) -> Error {
    Error::NotFound { kind: "API key", id: id.to_string() }
}

/// A key that has ended stays ended.
pub(super) fn not_live(key: &ApiKey) -> Error {
    let current_status = if key.revoked_at.is_some() { "revoked" } else { "expired" };
    let allowed = Vec::new();
    Conflict::InvalidStateTransition { kind: "API key", current_status, allowed, is_final: true }.into()
}
