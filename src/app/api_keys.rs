//! API keys: making and revoking them. The secret is shown once, when it is made, and stored nowhere.

use std::fmt::Write as _;

use rand::RngExt as _;
use sha2::{Digest, Sha256};

use super::{App, Error};
use crate::{
    domain::{
        access::Scopes,
        ids::{ApiKeyId, ClientId},
        new_order::require_text,
        validation::Validator,
    },
    store::api_keys,
};

/// A key that was just made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its public id.
    pub id: ApiKeyId,
    /// What a client sends as bearer token.
    pub secret: String,
}

impl App {
    /// Makes a key, of a client of its own.
    pub async fn create_api_key(&self, name: &str, scopes: Scopes) -> Result<NewApiKey, Error> {
        let mut check = Validator::default();
        require_text(&mut check, Some(name), "name");
        check.require(!scopes.is_empty(), "scopes", "must name at least one scope");
        check.finish().map_err(Error::Invalid)?;
        let random: [u8; 32] = rand::rng().random();
        // The prefix lets secret scanners find it in places where it should not be.
        let mut secret = "hf_".to_owned();
        for byte in random {
            // Invariant: writing to a string cannot fail.
            let _ = write!(secret, "{byte:02x}");
        }
        let key = NewApiKey { id: ApiKeyId::new(), secret };
        let mut conn = self.store.conn().await?;
        let (client_id, hash) = (ClientId::from(key.id.uuid()), hash_secret(&key.secret));
        let new = api_keys::NewApiKey { id: key.id, client_id, name, scopes, hash: &hash };
        api_keys::insert(&mut conn, &new).await?;
        Ok(key)
    }

    /// Revokes a key.
    pub async fn revoke_api_key(&self, id: ApiKeyId) -> Result<(), Error> {
        if api_keys::mark_revoked(&mut *self.store.conn().await?, id).await? {
            return Ok(());
        }
        Err(Error::NotFound { kind: "API key", id: id.to_string() })
    }
}

/// What is stored of a secret. It is 256 random bits, so a plain hash cannot be guessed back.
pub fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
