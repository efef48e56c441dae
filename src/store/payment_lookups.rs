//! When payments are looked up at the provider: `payment.next_lookup_at`, and nothing else of a payment.
//!
//! A claim is a lease: it moves the time of the next look-up on, and whoever crashes afterwards has only lost time. The
//! wait doubles with each attempt from [`FIRST_WAIT_SECONDS`] to [`LONGEST_WAIT_SECONDS`], give or take a quarter, so
//! that payments that failed together do not come back together.
//!
//! What is due stays due: a change of the payment that is recorded while an event of the provider asks for a look-up may
//! be older than that event. [`super::payments::mark`] keeps to this too.

use chrono::{DateTime, Utc};

use super::{Conn, Error};
use crate::domain::ids::PaymentId;

/// How long a payment has to be settled by events before it is looked up; also the default of the column.
pub const FIRST_WAIT_SECONDS: f64 = 60.0;

/// The longest wait between two look-ups of a payment, jitter aside.
pub const LONGEST_WAIT_SECONDS: f64 = 900.0;

/// The wait of a payment that is authorized until the merchant captures it: the provider lets go of it after days, and may
/// not say so.
pub const IDLE_WAIT_SECONDS: f64 = 6.0 * 3600.0;

/// A payment that this process is to look up.
#[derive(Debug, Clone, Copy)]
pub struct DuePayment {
    /// Which.
    pub id: PaymentId,
    /// Nothing was recorded of it for [`FIRST_WAIT_SECONDS`]: an event of ours may be lost. Else only the provider's event
    /// asks for the look-up.
    pub is_overdue: bool,
    /// When the look-up begins, and what the provider has told of before is seen by it.
    pub began: DateTime<Utc>,
    /// When it is looked up again if this look-up does not settle it; names the claim.
    pub next_lookup_at: DateTime<Utc>,
}

/// Claims payments whose time has come. What another process claims at the same time is passed over.
pub async fn claim(conn: &mut Conn, limit: i64) -> Result<Vec<DuePayment>, Error> {
    let rows = sqlx::query!(
        r#"UPDATE payment p
           SET lookup_attempts = lookup_attempts + 1,
               next_lookup_at = clock_timestamp() + (0.75 + random() / 2)
                   * make_interval(secs => least($3, $2 * 2 ^ least(lookup_attempts, 16)))
           WHERE p.id IN (SELECT id FROM payment WHERE next_lookup_at <= now()
                          ORDER BY next_lookup_at LIMIT $1 FOR UPDATE SKIP LOCKED)
           RETURNING p.id, p.updated_at <= now() - make_interval(secs => $2) AS "is_overdue!",
                     clock_timestamp() AS "began!", p.next_lookup_at AS "next_lookup_at!""#,
        limit,
        FIRST_WAIT_SECONDS,
        LONGEST_WAIT_SECONDS,
    )
    .fetch_all(conn)
    .await?;
    let due = rows.into_iter().map(|row| DuePayment {
        id: row.id.into(),
        is_overdue: row.is_overdue,
        began: row.began,
        next_lookup_at: row.next_lookup_at,
    });
    Ok(due.collect())
}

/// Makes a payment due now, because the provider has told of it.
pub async fn mark_due(conn: &mut Conn, id: PaymentId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET next_lookup_at = least(next_lookup_at, clock_timestamp()) WHERE id = $1",
        id.uuid(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Has a payment looked up within [`FIRST_WAIT_SECONDS`], whatever was planned.
pub async fn mark_soon(conn: &mut Conn, id: PaymentId) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment SET next_lookup_at = least(next_lookup_at, now() + make_interval(secs => $2)) WHERE id = $1",
        id.uuid(),
        FIRST_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the look-ups of a payment of which nothing is owed any more, or spaces them out where only time can change it. Not
/// where it has become due again meanwhile.
pub async fn mark_settled(conn: &mut Conn, due: &DuePayment) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE payment p SET lookup_attempts = 0,
                next_lookup_at = CASE WHEN status = 'authorized' THEN now() + make_interval(secs => $3) END
         WHERE id = $1 AND next_lookup_at = $2 AND outcome_unknown_since IS NULL
           AND (status IN ('captured', 'partially_refunded', 'refunded', 'voided', 'failed')
                OR (status = 'authorized' AND capture_method = 'manual' AND capture_requested_amount IS NULL
                    AND void_requested_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = p.order_id
                                    AND o.status IN ('expired', 'canceled'))))
           AND NOT EXISTS (SELECT 1 FROM refund r WHERE r.payment_id = p.id AND r.status = 'pending')",
        due.id.uuid(),
        due.next_lookup_at,
        IDLE_WAIT_SECONDS,
    )
    .execute(conn)
    .await?;
    Ok(())
}
