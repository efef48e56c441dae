//! What messages to webhook endpoints are signed with. A secret is here as it is: a signature needs it.

use uuid::Uuid;

use super::{Conn, Error};
use crate::domain::ids::WebhookEndpointId;

/// Stores the current secret of an endpoint that has none. `false`: it is there already.
pub async fn insert(
    conn: &mut Conn,
    id: Uuid,
    endpoint_id: WebhookEndpointId,
    secret: &[u8],
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "INSERT INTO webhook_secret (id, endpoint_id, secret) VALUES ($1, $2, $3)
         ON CONFLICT ON CONSTRAINT webhook_secret_pkey DO NOTHING",
        id,
        endpoint_id.uuid(),
        secret,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Whether this secret is stored.
pub async fn exists(conn: &mut Conn, id: Uuid) -> Result<bool, Error> {
    let query =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM webhook_secret WHERE id = $1) AS "exists!""#, id);
    Ok(query.fetch_one(conn).await?)
}

/// How many secrets of an endpoint live, or will end so many seconds from now or sooner. Those that have ended go.
pub async fn expire(conn: &mut Conn, endpoint_id: WebhookEndpointId, seconds: i32) -> Result<i64, Error> {
    sqlx::query!(
        "UPDATE webhook_secret
         SET expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $2)) WHERE endpoint_id = $1",
        endpoint_id.uuid(),
        f64::from(seconds),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "DELETE FROM webhook_secret WHERE endpoint_id = $1 AND expires_at <= clock_timestamp()",
        endpoint_id.uuid(),
    )
    .execute(&mut *conn)
    .await?;
    let query = sqlx::query_scalar!(
        r#"SELECT count(*) AS "live!" FROM webhook_secret WHERE endpoint_id = $1"#,
        endpoint_id.uuid(),
    );
    Ok(query.fetch_one(conn).await?)
}

/// The secrets of these endpoints that have not ended, those of one the newest first.
pub async fn list_live(
    conn: &mut Conn,
    endpoint_ids: &[WebhookEndpointId],
) -> Result<Vec<(WebhookEndpointId, Vec<u8>)>, Error> {
    let ids: Vec<Uuid> = endpoint_ids.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        "SELECT endpoint_id, secret FROM webhook_secret
         WHERE endpoint_id = ANY($1) AND (expires_at IS NULL OR expires_at > clock_timestamp())
         ORDER BY endpoint_id, id DESC",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.endpoint_id.into(), row.secret)).collect())
}
