//! API keys. Only their hashes are known here.

use chrono::{DateTime, Utc};

use super::{Conn, Error, error::parse};
use crate::domain::{
    access::{Scope, Scopes},
    ids::{ApiKeyId, ClientId},
};

/// An API key, without its secret.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ApiKey {
    /// Its public id.
    pub id: ApiKeyId,
    /// Whose key it is.
    pub client_id: ClientId,
    /// What the operator calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to within a minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
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

/// Who calls: a key that is not revoked.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The key.
    pub api_key_id: ApiKeyId,
    /// Whose key it is.
    pub client_id: ClientId,
    /// What it may do.
    pub scopes: Scopes,
}

/// Stores a new key by its hash.
pub async fn insert(conn: &mut Conn, key: &NewApiKey<'_>) -> Result<(), Error> {
    let scopes: Vec<&str> = key.scopes.iter().map(Scope::as_str).collect();
    sqlx::query!(
        "INSERT INTO api_key (id, client_id, name, scopes, hash) VALUES ($1, $2, $3, $4, $5)",
        key.id.uuid(),
        key.client_id.uuid(),
        key.name,
        &scopes as _,
        &key.hash[..],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whose key has this hash, unless it was revoked.
pub async fn find_by_hash(conn: &mut Conn, hash: &[u8; 32]) -> Result<Option<Caller>, Error> {
    let row = sqlx::query!(
        "SELECT id, client_id, scopes FROM api_key WHERE hash = $1 AND revoked_at IS NULL",
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

/// Every key, oldest first.
pub async fn list(conn: &mut Conn) -> Result<Vec<ApiKey>, Error> {
    let rows = sqlx::query!(
        "SELECT id, client_id, name, scopes, created_at, last_used_at, revoked_at FROM api_key ORDER BY id"
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ApiKey {
                id: row.id.into(),
                client_id: row.client_id.into(),
                name: row.name,
                scopes: parse_scopes(&row.scopes)?,
                created_at: row.created_at,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
            })
        })
        .collect()
}

/// Revokes a key. `false`: there is none with this id that is not revoked already.
pub async fn mark_revoked(conn: &mut Conn, id: ApiKeyId) -> Result<bool, Error> {
    let result =
        sqlx::query!("UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", id.uuid())
            .execute(conn)
            .await?;
    Ok(result.rows_affected() == 1)
}

fn parse_scopes(names: &[String]) -> Result<Scopes, Error> {
    names.iter().map(|name| parse::<Scope>(name, "api_key.scopes")).collect()
}
