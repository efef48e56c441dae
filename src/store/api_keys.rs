//! API keys. Only their hashes are known here.
//!
//! The keys of a client are never deleted, so whoever makes one for it takes the row locks of those that it has: its
//! oldest key is the one row that everybody meets.

use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Conn, Error, error::parse};
use crate::domain::{
    access::{Scope, Scopes},
    ids::{ApiKeyId, ClientId},
};

/// An API key, without its secret.
#[derive(Debug, Clone, serde::Serialize, ToSchema)]
pub struct ApiKey {
    /// Its public id.
    pub id: ApiKeyId,
    /// Whose key it is: a key and those that it was rotated to are of one client.
    pub client_id: ClientId,
    /// What you call it.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From when on it is refused, where it was rotated with a grace time.
    pub expires_at: Option<DateTime<Utc>>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Whether it is accepted.
    pub is_live: bool,
}

/// A key that is to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewApiKey<'a> {
    /// Its public id.
    pub id: ApiKeyId,
    /// Whose key it is.
    pub client_id: ClientId,
    /// What the operator calls it.
    pub name: &'a str,
    /// What it may do, at least one thing.
    pub scopes: Scopes,
    /// SHA-256 of its secret.
    pub hash: &'a [u8; 32],
}

/// Who calls: a key that is live.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The key.
    pub api_key_id: ApiKeyId,
    /// Whose key it is.
    pub client_id: ClientId,
    /// What it may do.
    pub scopes: Scopes,
}

/// A key as the queries of this file give it.
struct Row {
    id: Uuid,
    client_id: Uuid,
    name: String,
    scopes: Vec<String>,
    created_at: DateTime<Utc>,
    last_used_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    is_live: bool,
}

impl TryFrom<Row> for ApiKey {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.id.into(),
            client_id: row.client_id.into(),
            name: row.name,
            scopes: parse_scopes(&row.scopes)?,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            is_live: row.is_live,
        })
    }
}

/// Stores a new key by its hash. `None`: there is one with this id, which another transaction has just made.
pub async fn insert(conn: &mut Conn, key: &NewApiKey<'_>) -> Result<Option<ApiKey>, Error> {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
    let row = sqlx::query_as!(
        Row,
        r#"INSERT INTO api_key (id, client_id, name, scopes, hash) VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT ON CONSTRAINT api_key_pkey DO NOTHING
           RETURNING id, client_id, name, scopes, created_at, last_used_at, expires_at, revoked_at, true AS "is_live!""#,
        key.id.uuid(),
        key.client_id.uuid(),
        key.name,
        &scopes as _,
        &key.hash[..],
    )
    .fetch_optional(conn)
    .await?;
    row.map(ApiKey::try_from).transpose()
}

/// Stores a key that may do what the live key `old` may, for the same client, unless the client has `most` live keys.
///
/// The keys of the client must be locked by this transaction.
pub async fn insert_rotated(
    conn: &mut Conn,
    old: ApiKeyId,
    id: ApiKeyId,
    hash: &[u8; 32],
    most: i64,
) -> Result<Option<ApiKey>, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"INSERT INTO api_key (id, client_id, name, scopes, hash)
           SELECT $2, client_id, name, scopes, $3 FROM api_key o
           WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
             AND $4 > (SELECT count(*) FROM api_key k WHERE k.client_id = o.client_id AND k.revoked_at IS NULL
                         AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp()))
           RETURNING id, client_id, name, scopes, created_at, last_used_at, expires_at, revoked_at, true AS "is_live!""#,
        old.uuid(),
        id.uuid(),
        &hash[..],
        most,
    )
    .fetch_optional(conn)
    .await?;
    row.map(ApiKey::try_from).transpose()
}

/// Whose key has this hash, if it is live.
pub async fn find_by_hash(conn: &mut Conn, hash: &[u8; 32]) -> Result<Option<Caller>, Error> {
    let row = sqlx::query!(
        "SELECT id, client_id, scopes FROM api_key
         WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
        &hash[..]
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        let scopes = parse_scopes(&row.scopes)?;
        Ok(Caller { api_key_id: row.id.into(), client_id: row.client_id.into(), scopes })
    })
    .transpose()
}

/// Takes the row locks of all keys of the client that has this one. Gives this one.
pub async fn lock_of_client(conn: &mut Conn, id: ApiKeyId) -> Result<Option<ApiKey>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, client_id, name, scopes, created_at, last_used_at, expires_at, revoked_at,
                  revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp()) AS "is_live!"
           FROM api_key WHERE client_id = (SELECT client_id FROM api_key WHERE id = $1) ORDER BY id FOR UPDATE"#,
        id.uuid(),
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().find(|row| row.id == id.uuid()).map(ApiKey::try_from).transpose()
}

/// A key.
pub async fn find(conn: &mut Conn, id: ApiKeyId) -> Result<Option<ApiKey>, Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id, client_id, name, scopes, created_at, last_used_at, expires_at, revoked_at,
                  revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS "is_live!"
           FROM api_key WHERE id = $1"#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    row.map(ApiKey::try_from).transpose()
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ApiKeyFilter {
    /// Only keys of this client.
    pub client_id: Option<ClientId>,
    /// Only keys that are accepted, or only those that are not.
    pub is_live: Option<bool>,
    /// Only keys that were given this scope.
    pub scope: Option<Scope>,
    /// Only keys made before this one.
    pub starting_after: Option<ApiKeyId>,
}

/// Keys, the newest first.
pub async fn list(conn: &mut Conn, filter: &ApiKeyFilter, limit: i64) -> Result<Vec<ApiKey>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id, client_id, name, scopes, created_at, last_used_at, expires_at, revoked_at,
                  revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AS "is_live!"
           FROM api_key
           WHERE ($1::uuid IS NULL OR client_id = $1)
             AND ($2::boolean IS NULL
                  OR (revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) = $2)
             AND ($3::text IS NULL OR $3 = ANY(scopes))
             AND ($4::uuid IS NULL OR id < $4)
           ORDER BY id DESC LIMIT $5"#,
        filter.client_id.map(ClientId::uuid),
        filter.is_live,
        filter.scope.map(Scope::as_str),
        filter.starting_after.map(ApiKeyId::uuid),
        limit,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(ApiKey::try_from).collect()
}

/// Lets a key end so many seconds from now, if it does not end before.
pub async fn mark_expiring(conn: &mut Conn, id: ApiKeyId, seconds: i32) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE api_key SET expires_at = LEAST(expires_at, clock_timestamp() + make_interval(secs => $2))
         WHERE id = $1",
        id.uuid(),
        f64::from(seconds),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Revokes a key that this transaction has locked.
pub async fn mark_revoked(conn: &mut Conn, id: ApiKeyId) -> Result<Option<DateTime<Utc>>, Error> {
    let revoked_at = sqlx::query_scalar!(
        r#"UPDATE api_key SET revoked_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL
           RETURNING revoked_at AS "revoked_at!""#,
        id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(revoked_at)
}

/// Notes that keys were used a moment ago. Locks them in order: several processes note the same keys.
pub async fn mark_used(conn: &mut Conn, ids: &[ApiKeyId]) -> Result<(), Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        "WITH used AS MATERIALIZED (SELECT id FROM api_key WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
         UPDATE api_key k SET last_used_at = now() FROM used WHERE k.id = used.id",
        &ids,
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn parse_scopes(names: &[String]) -> Result<Scopes, Error> {
    names.iter().map(|name| parse::<Scope>(name, "api_key.scopes")).collect()
}
