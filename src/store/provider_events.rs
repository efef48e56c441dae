//! The inbox of the payment providers' webhooks.

use chrono::{DateTime, Utc};

use super::{Conn, Error};
use crate::domain::{ids::PaymentId, provider_event::ProviderEvent};

/// Takes the row lock of the payment that an event is about: the one that it names, else the one that has the reference.
pub async fn lock_payment(
    conn: &mut Conn,
    provider: &str,
    event: &ProviderEvent,
) -> Result<Option<PaymentId>, Error> {
    let id = sqlx::query_scalar!(
        "SELECT id FROM payment
         WHERE id = COALESCE((SELECT id FROM payment WHERE id = $2 AND (provider = $1) IS TRUE),
                             (SELECT id FROM payment WHERE provider = $1 AND provider_reference = $3))
         FOR NO KEY UPDATE",
        provider,
        event.payment_id.map(PaymentId::uuid),
        event.provider_reference,
    )
    .fetch_optional(conn)
    .await?;
    Ok(id.map(PaymentId::from))
}

/// Stores an event. `false`: it was stored before, or in a transaction that this one waited for. One that is of no
/// payment of ours has nothing to wait for.
pub async fn insert(
    conn: &mut Conn,
    provider: &str,
    event: &ProviderEvent,
    payment_id: Option<PaymentId>,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "INSERT INTO provider_event (provider, event_id, type, payment_id, provider_reference, created_at, processed_at)
         VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $4::uuid IS NULL THEN now() END) ON CONFLICT DO NOTHING",
        provider,
        event.id,
        event.event_type,
        payment_id.map(PaymentId::uuid),
        event.provider_reference,
        event.created_at,
    )
    .execute(conn)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The provider's id of a payment, as the newest event says that waits for a look-up.
pub async fn find_reference(conn: &mut Conn, payment_id: PaymentId) -> Result<Option<String>, Error> {
    let reference = sqlx::query_scalar!(
        "SELECT provider_reference FROM provider_event WHERE payment_id = $1 AND processed_at IS NULL
         ORDER BY created_at DESC, received_at DESC LIMIT 1",
        payment_id.uuid(),
    )
    .fetch_optional(conn)
    .await?;
    Ok(reference)
}

/// Marks the events of a payment as processed that came before a look-up of it began.
pub async fn mark_processed(
    conn: &mut Conn,
    payment_id: PaymentId,
    lookup_began: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE provider_event SET processed_at = now()
         WHERE payment_id = $1 AND processed_at IS NULL AND received_at <= $2",
        payment_id.uuid(),
        lookup_began,
    )
    .execute(conn)
    .await?;
    Ok(())
}
