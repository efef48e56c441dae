//! Idempotency keys: requests that took effect, with the answers they got.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::ids::ClientId;

/// A request that counts once.
#[derive(Debug, Clone)]
pub struct IdempotentRequest {
    /// Who sends it.
    pub client_id: ClientId,
    /// Method and path template.
    pub route: String,
    /// The `Idempotency-Key` header.
    pub key: String,
    /// SHA-256 of path and body.
    pub fingerprint: [u8; 32],
    /// Status of the answer if it takes effect.
    pub success_status: u16,
}

impl IdempotentRequest {
    /// Which request it is, as the column `digest` has it.
    pub fn digest(&self) -> Uuid {
        digest(self.client_id, &self.route, &self.key)
    }
}

/// The same for the same client, route and key, and different for others.
pub fn digest(client_id: ClientId, route: &str, key: &str) -> Uuid {
    let client = client_id.uuid().hyphenated();
    let hash = Sha256::digest(format!("{client}\n{route}\n{key}"));
    let mut digest = [0; 16];
    digest.copy_from_slice(&hash[..16]);
    Uuid::from_bytes(digest)
}

/// The answer to a request that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Fingerprint of the request that took effect.
    pub fingerprint: Vec<u8>,
    /// Its status.
    pub status: u16,
    /// Its body, byte for byte.
    pub body: String,
}

/// The answer that this key has got, if it took effect.
pub async fn find(conn: &mut Conn, request: &IdempotentRequest) -> Result<Option<StoredAnswer>, Error> {
    let row = sqlx::query!(
        "SELECT fingerprint, status_code, response_body FROM idempotency_key WHERE digest = $1",
        request.digest(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| StoredAnswer {
        fingerprint: row.fingerprint,
        status: u16::try_from(row.status_code).unwrap_or_default(),
        body: row.response_body,
    }))
}

/// What [`find`] gives, for each of several requests.
pub async fn find_all(
    conn: &mut Conn,
    requests: &[&IdempotentRequest],
) -> Result<Vec<Option<StoredAnswer>>, Error> {
    let digests: Vec<Uuid> = requests.iter().map(|request| request.digest()).collect();
    let rows = sqlx::query!(
        r#"SELECT n.place AS "place!", k.fingerprint, k.status_code, k.response_body
           FROM UNNEST($1::uuid[]) WITH ORDINALITY AS n (digest, place) JOIN idempotency_key k USING (digest)"#,
        &digests,
    )
    .fetch_all(conn)
    .await?;
    let mut found: Vec<Option<StoredAnswer>> = vec![None; requests.len()];
    for row in rows {
        let answer = StoredAnswer {
            fingerprint: row.fingerprint,
            status: u16::try_from(row.status_code).unwrap_or_default(),
            body: row.response_body,
        };
        // Places count from 1.
        if let Some(found) = usize::try_from(row.place - 1).ok().and_then(|place| found.get_mut(place)) {
            *found = Some(answer);
        }
    }
    Ok(found)
}

/// Stores the answer in the transaction of the effect. `false`: another transaction with this key took effect first, and
/// this one must be rolled back.
pub async fn insert(conn: &mut Conn, request: &IdempotentRequest, body: &str) -> Result<bool, Error> {
    let result = sqlx::query!(
        "INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        request.digest(),
        request.client_id.uuid(),
        request.route,
        request.key,
        &request.fingerprint[..],
        i16::try_from(request.success_status).unwrap_or_default(),
        body,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}
