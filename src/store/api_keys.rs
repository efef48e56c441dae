//! API keys. Only their hashes are known here.

use chrono::{DateTime, Utc};

use super::{Conn, Error};
use crate::domain::ids::ApiKeyId;

/// An API key, without its secret.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ApiKey {
    /// Its public id.
    pub id: ApiKeyId,
    /// What the operator calls it.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is refused.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Stores a new key by its hash.
pub async fn insert(conn: &mut Conn, id: ApiKeyId, name: &str, hash: &[u8; 32]) -> Result<(), Error> {
    sqlx::query!("INSERT INTO api_key (id, name, hash) VALUES ($1, $2, $3)", id.uuid(), name, &hash[..])
        .execute(conn)
        .await?;
    Ok(())
}

/// The key with this hash, unless it was revoked.
pub async fn find_by_hash(conn: &mut Conn, hash: &[u8; 32]) -> Result<Option<ApiKeyId>, Error> {
    let id = sqlx::query_scalar!("SELECT id FROM api_key WHERE hash = $1 AND revoked_at IS NULL", &hash[..])
        .fetch_optional(conn)
        .await?;
    Ok(id.map(ApiKeyId::from))
}

/// Every key, oldest first.
pub async fn list(conn: &mut Conn) -> Result<Vec<ApiKey>, Error> {
    let rows = sqlx::query!("SELECT id, name, created_at, revoked_at FROM api_key ORDER BY id")
        .fetch_all(conn)
        .await?;
    let keys = rows.into_iter().map(|row| ApiKey {
        id: row.id.into(),
        name: row.name,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
    });
    Ok(keys.collect())
}

/// Revokes a key. `false`: there is none with this id that is not revoked already.
pub async fn mark_revoked(conn: &mut Conn, id: ApiKeyId) -> Result<bool, Error> {
    let result =
        sqlx::query!("UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL", id.uuid())
            .execute(conn)
            .await?;
    Ok(result.rows_affected() == 1)
}
