//! Making an API key, of a client of its own. The secret is shown once, to whoever makes the key, and stored nowhere: the
//! answer that is kept under the idempotency key is without it.

use std::fmt::Write as _;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    App, Error,
    answer::{self, Once},
    retry::retry,
};
use crate::{
    domain::{
        access::{Scope, Scopes},
        bounds::Text,
        ids::{ApiKeyId, ClientId},
        validation::Validator,
    },
    store::{
        self, Conn,
        api_keys::{self, ApiKey},
        idempotency::IdempotentRequest,
    },
};

/// A request to make a key.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "shop", "scopes": ["orders:read", "orders:write", "payments:write"] }))]
pub struct CreateApiKey {
    /// What to call it.
    #[schema(value_type = Text)]
    pub name: String,
    /// What it may do, at least one thing.
    #[schema(min_items = 1)]
    pub scopes: Vec<Scope>,
}

/// A key that was just made.
#[derive(Clone, Serialize, ToSchema)]
pub struct NewApiKey {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// What to send as bearer token. It is in the first answer only: a repetition of the request gets null.
    #[schema(value_type = Option<String>)]
    pub secret: String,
}

/// The key as it is answered again.
#[derive(Serialize)]
struct WithoutSecret<'a> {
    #[serde(flatten)]
    key: &'a ApiKey,
    secret: Option<&'a str>,
}

impl std::fmt::Debug for NewApiKey {
    /// Without the secret: it must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

impl NewApiKey {
    /// Stores the answer without the secret.
    pub(super) async fn store_answer(
        &self,
        conn: &mut Conn,
        request: Option<&IdempotentRequest>,
    ) -> Result<(), Error> {
        let Some(request) = request else { return Ok(()) };
        answer::store(conn, request, &WithoutSecret { key: &self.key, secret: None }).await.map(drop)
    }
}

impl App {
    /// Makes a key. Nobody repeats what has no `request`.
    ///
    /// # Errors
    /// Invalid fields.
    pub async fn create_api_key(
        &self,
        create: &CreateApiKey,
        request: Option<&IdempotentRequest>,
    ) -> Result<Once<NewApiKey>, Error> {
        let scopes: Scopes = create.scopes.iter().copied().collect();
        let mut check = Validator::default();
        Text::require(&mut check, create.name.as_str(), "/name");
        check.require(!scopes.is_empty(), "/scopes", "must name at least one scope");
        check.finish().map_err(Error::Invalid)?;
        let own = OwnKey::new();
        retry("create_api_key", || async {
            let mut tx = self.store.begin("create_api_key").await?;
            if let Some(made) = own.find(&mut tx).await? {
                return Ok(Once::Now(made));
            }
            if let Some(answer) = answer::find_if_keyed(&mut tx, request).await? {
                return Ok(Once::Before(answer));
            }
            // The first key of a client gives it its id.
            let client_id = ClientId::from(own.id.uuid());
            let hash = own.hash();
            let new = api_keys::NewApiKey { id: own.id, client_id, name: &create.name, scopes, hash: &hash };
            let key = api_keys::insert(&mut tx, &new).await?;
            let committed = || store::Error::Aborted("an earlier try has just made the key".into());
            let made = own.made(key.ok_or_else(committed)?);
            made.store_answer(&mut tx, request).await?;
            tx.commit().await?;
            Ok(Once::Now(made))
        })
        .await
    }
}

/// The key that a use case makes: the same in all its tries. So it knows what an earlier one made whose commit was not
/// answered, and gives out its secret, which nobody else can.
pub(super) struct OwnKey {
    pub(super) id: ApiKeyId,
    secret: String,
}

impl OwnKey {
    pub(super) fn new() -> Self {
        Self { id: ApiKeyId::new(), secret: new_secret() }
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        hash_secret(&self.secret)
    }

    /// What an earlier try has made.
    pub(super) async fn find(&self, conn: &mut Conn) -> Result<Option<NewApiKey>, Error> {
        Ok(api_keys::lock_of_client(conn, self.id).await?.map(|key| self.made(key)))
    }

    pub(super) fn made(&self, key: ApiKey) -> NewApiKey {
        NewApiKey { key, secret: self.secret.clone() }
    }
}

/// 256 random bits. The prefix lets secret scanners find it in places where it should not be.
fn new_secret() -> String {
    let random: [u8; 32] = rand::rng().random();
    let mut secret = "hf_".to_owned();
    for byte in random {
        // Invariant: writing to a string cannot fail.
        let _ = write!(secret, "{byte:02x}");
    }
    secret
}

/// What is stored of a secret. It is 256 random bits, so a plain hash cannot be guessed back.
pub fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}
