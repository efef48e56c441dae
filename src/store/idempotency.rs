//! Idempotency keys: requests that took effect, with the answers they got.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::ids::ClientId;

/// Which request it is: equal for the same client, route and header, and for no others.
#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    client_id: ClientId,
    route: String,
    header: String,
    digest: Uuid,
}

impl IdempotencyKey {
    /// The key of what `client_id` sends to `route`, method and path template, with this `Idempotency-Key` header.
    pub fn new(client_id: ClientId, route: String, header: String) -> Self {
        let client = client_id.uuid().hyphenated();
        let hash = Sha256::digest(format!("{client}\n{route}\n{header}"));
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash[..16]);
        Self { client_id, route, header, digest: Uuid::from_bytes(digest) }
    }

    /// Who sends the request.
    pub fn client_id(&self) -> ClientId {
        self.client_id
    }

    /// Where it goes.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The `Idempotency-Key` header.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// The first half of the SHA-256 of all three: the column `digest`.
    pub fn digest(&self) -> Uuid {
        self.digest
    }
}

/// A request that counts once.
#[derive(Debug, Clone)]
pub struct IdempotentRequest {
    /// Which one.
    pub key: Arc<IdempotencyKey>,
    /// SHA-256 of path and body.
    pub fingerprint: [u8; 32],
    /// Status of the answer if it takes effect.
    pub success_status: u16,
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
        request.key.digest(),
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
    let digests: Vec<Uuid> = requests.iter().map(|request| request.key.digest()).collect();
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
        request.key.digest(),
        request.key.client_id().uuid(),
        request.key.route(),
        request.key.header(),
        &request.fingerprint[..],
        i16::try_from(request.success_status).unwrap_or_default(),
        body,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The same for several requests with the body of each; all or none.
pub async fn insert_all(conn: &mut Conn, answers: &[(&IdempotentRequest, String)]) -> Result<bool, Error> {
    let column = |of: fn(&IdempotencyKey) -> &str| -> Vec<&str> {
        answers.iter().map(|(request, _)| of(&request.key)).collect()
    };
    let digests: Vec<Uuid> = answers.iter().map(|(request, _)| request.key.digest()).collect();
    let clients: Vec<Uuid> = answers.iter().map(|(request, _)| request.key.client_id().uuid()).collect();
    let fingerprints: Vec<&[u8]> = answers.iter().map(|(request, _)| &request.fingerprint[..]).collect();
    let statuses: Vec<i16> = answers
        .iter()
        .map(|(request, _)| i16::try_from(request.success_status).unwrap_or_default())
        .collect();
    let bodies: Vec<&str> = answers.iter().map(|(_, body)| body.as_str()).collect();
    // In the order of the keys: two batches that share some cannot wait for each other.
    let result = sqlx::query!(
        "INSERT INTO idempotency_key (digest, client_id, route, key, fingerprint, status_code, response_body)
         SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::smallint[], $7::text[])
                AS n (digest, client_id, route, key, fingerprint, status_code, response_body)
         ORDER BY digest ON CONFLICT DO NOTHING",
        &digests,
        &clients,
        &column(IdempotencyKey::route) as _,
        &column(IdempotencyKey::header) as _,
        &fingerprints as _,
        &statuses,
        &bodies as _,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == answers.len() as u64)
}
