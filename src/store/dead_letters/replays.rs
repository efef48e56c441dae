//! Dead letters on their way back to their consumer.
//!
//! A letter is requested, claimed by the process that sends it, sent, and then gone once the inbox has its event. Of each
//! order and consumer one letter is on its way at a time, in the order of the history. A claim that led to nothing is free
//! again after `CLAIM`; a letter may so be sent twice, which the inbox makes harmless.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::super::{Conn, Error, error::parse};
use crate::domain::{
    dead_letter::DeadLetterReason,
    event::{Envelope, EventType},
    ids::EventId,
};

/// How long a claim lasts, in seconds: longer than the broker may take to confirm a message.
const CLAIM: f64 = 30.0;

/// After so many seconds without an end a letter that was sent may be requested anew: it may have been lost again, and where it
/// only waits for a retry, one more copy of it is harmless.
const AGAIN: f64 = 60.0;

/// After so many it may be dropped: the longest wait for a retry, and more.
pub const LOST: f64 = 3600.0;

/// How a letter stands to a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It can be replayed.
    Possible,
    /// It is being replayed.
    OnItsWay,
    /// It is not an event, so nobody would know whether it has taken effect.
    NotAnEvent,
    /// What is known of its day was dropped, so it may have taken effect.
    TooOld,
}

/// How each of these letters stands to a replay. Letters that are gone are left out.
pub async fn list_states(conn: &mut Conn, ids: &[i64]) -> Result<Vec<(i64, ReplayState)>, Error> {
    let rows = sqlx::query!(
        r#"SELECT d.id, d.sequence IS NULL OR d.event_id IS NULL AS "is_no_event!",
                  coalesce(d.event_id < event_id_from(f.kept_since), false) AS "is_too_old!",
                  coalesce(d.replay_requested_at IS NOT NULL
                      AND (d.replay_sent_at IS NULL OR d.replay_sent_at > now() - make_interval(secs => $2)),
                      false) AS "is_on_its_way!"
           FROM dead_letter d CROSS JOIN event_feed f WHERE d.id = ANY($1) AND d.dropped_at IS NULL ORDER BY d.id"#,
        ids,
        AGAIN,
    )
    .fetch_all(conn)
    .await?;
    let state = |no_event, too_old, on_its_way| match (no_event, too_old, on_its_way) {
        (true, ..) => ReplayState::NotAnEvent,
        (_, true, _) => ReplayState::TooOld,
        (_, _, true) => ReplayState::OnItsWay,
        _ => ReplayState::Possible,
    };
    let states =
        rows.into_iter().map(|row| (row.id, state(row.is_no_event, row.is_too_old, row.is_on_its_way)));
    Ok(states.collect())
}

/// Has letters sent to their consumers again: those of them that can be. Gives their ids.
pub async fn mark_requested(conn: &mut Conn, ids: &[i64], by: &str) -> Result<Vec<i64>, Error> {
    let requested = sqlx::query_scalar!(
        "UPDATE dead_letter d
         SET replay_requested_at = now(), replay_requested_by = $2, replay_claimed_at = NULL, replay_sent_at = NULL
         FROM event_feed f
         WHERE d.id = ANY($1) AND d.dropped_at IS NULL AND d.sequence IS NOT NULL
           AND d.event_id >= event_id_from(f.kept_since)
           AND (d.replay_requested_at IS NULL OR d.replay_sent_at <= now() - make_interval(secs => $3))
         RETURNING d.id",
        ids,
        by,
        AGAIN,
    );
    Ok(requested.fetch_all(conn).await?)
}

/// A letter that this process is to send.
#[derive(Debug, Clone)]
pub struct ClaimedReplay {
    /// The letter.
    pub id: i64,
    /// Which claim it is.
    pub claimed_at: DateTime<Utc>,
    /// To whom.
    pub consumer: String,
    /// The event, as it was.
    pub envelope: Envelope,
    /// Why it is a letter.
    pub reason: DeadLetterReason,
}

/// Claims letters that were requested: of each order and consumer the first one. One that this program cannot read, because a newer
/// one knows its type, is not requested any more: it can be requested there, or dropped, and the others go on.
pub async fn claim(conn: &mut Conn, limit: i64) -> Result<Vec<ClaimedReplay>, Error> {
    let rows = sqlx::query!(
        r#"UPDATE dead_letter d SET replay_claimed_at = clock_timestamp()
           FROM (SELECT id FROM dead_letter c
                 WHERE replay_requested_at IS NOT NULL AND replay_sent_at IS NULL
                   AND (replay_claimed_at IS NULL OR replay_claimed_at < now() - make_interval(secs => $2))
                   AND NOT EXISTS (SELECT FROM dead_letter e
                                   WHERE e.consumer = c.consumer AND e.subject = c.subject AND e.sequence < c.sequence
                                     AND e.dropped_at IS NULL AND e.replay_requested_at IS NOT NULL)
                 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) next
           WHERE d.id = next.id
           RETURNING d.id, d.replay_claimed_at AS "claimed_at!", d.consumer, d.event_id AS "event_id!", d.type AS "event_type!",
               d.subject AS "subject!", d.sequence AS "sequence!", d.event_time AS "event_time!", d.correlation_id,
               d.causation_id, d.body, d.reason_code"#,
        limit,
        CLAIM,
    )
    .fetch_all(&mut *conn)
    .await?;
    let (mut claimed, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let (event_type, data, reason) = match read(&row.event_type, &row.body, &row.reason_code) {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(letter = row.id, %error, "a dead letter cannot be replayed by this program");
                unreadable.push(row.id);
                continue;
            }
        };
        claimed.push(ClaimedReplay {
            id: row.id,
            claimed_at: row.claimed_at,
            consumer: row.consumer,
            envelope: Envelope {
                id: row.event_id.into(),
                event_type,
                subject: row.subject,
                sequence: row.sequence,
                time: row.event_time,
                correlation_id: row.correlation_id,
                causation_id: row.causation_id.map(EventId::from),
                // Its trace has ended with the letter.
                trace_parent: None,
                data,
            },
            reason,
        });
    }
    if !unreadable.is_empty() {
        mark_not_requested(conn, &unreadable).await?;
    }
    Ok(claimed)
}

fn read(event_type: &str, body: &[u8], reason: &str) -> Result<(EventType, Value, DeadLetterReason), Error> {
    let data = serde_json::from_slice(body);
    let data = data.map_err(|error| Error::Inconsistent(format!("dead_letter.body: {error}")))?;
    Ok((parse(event_type, "dead_letter.type")?, data, parse(reason, "dead_letter.reason_code")?))
}

/// Takes the request of a letter back that nobody can be sent, and adds why to what is known of it, once.
pub async fn mark_refused(
    conn: &mut Conn,
    id: i64,
    claimed_at: DateTime<Utc>,
    text: &str,
) -> Result<(), Error> {
    let marked = sqlx::query!(
        "UPDATE dead_letter
         SET replay_requested_at = NULL, replay_requested_by = NULL, replay_claimed_at = NULL, last_at = now(),
             reason = split_part(reason, $3, 1) || $3
         WHERE id = $1 AND replay_claimed_at = $2 AND replay_sent_at IS NULL",
        id,
        claimed_at,
        text,
    );
    marked.execute(conn).await?;
    Ok(())
}

/// Takes the request of these letters back.
async fn mark_not_requested(conn: &mut Conn, ids: &[i64]) -> Result<(), Error> {
    let marked = sqlx::query!(
        "UPDATE dead_letter SET replay_requested_at = NULL, replay_requested_by = NULL, replay_claimed_at = NULL
         WHERE id = ANY($1) AND replay_sent_at IS NULL",
        ids,
    );
    marked.execute(conn).await?;
    Ok(())
}

/// Notes that the broker has a letter, unless it is dead again already.
pub async fn mark_sent(conn: &mut Conn, id: i64, claimed_at: DateTime<Utc>) -> Result<(), Error> {
    let sent = sqlx::query!(
        "UPDATE dead_letter SET replay_sent_at = now(), replays = replays + 1
         WHERE id = $1 AND replay_claimed_at = $2",
        id,
        claimed_at,
    );
    sent.execute(conn).await?;
    Ok(())
}

/// Gives a claim up: the letter may be sent at once, by anybody.
pub async fn mark_unclaimed(conn: &mut Conn, id: i64, claimed_at: DateTime<Utc>) -> Result<(), Error> {
    let free = sqlx::query!(
        "UPDATE dead_letter SET replay_claimed_at = NULL
         WHERE id = $1 AND replay_claimed_at = $2 AND replay_sent_at IS NULL",
        id,
        claimed_at,
    );
    free.execute(conn).await?;
    Ok(())
}

/// Deletes the letters whose replay took effect, or that had taken effect before. Gives how many.
pub async fn delete_effective(conn: &mut Conn) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "DELETE FROM dead_letter d USING inbox i
         WHERE d.replay_requested_at IS NOT NULL AND i.consumer = d.consumer AND i.event_id = d.event_id",
    );
    Ok(deleted.execute(conn).await?.rows_affected())
}

/// A letter as somebody who waits for it sees it: whether it is still on its way, and what it is dead of again. Those that are
/// gone have taken effect.
pub async fn list_waited_for(conn: &mut Conn, ids: &[i64]) -> Result<Vec<WaitedFor>, Error> {
    let rows = sqlx::query_as!(
        WaitedFor,
        r#"SELECT id, replay_requested_at IS NOT NULL AS "is_on_its_way!", replay_claimed_at IS NOT NULL AS "is_claimed!",
                  reason_code AS "reason!", reason AS text, last_at, consumer, subject AS "subject!", sequence AS "sequence!"
           FROM dead_letter WHERE id = ANY($1) AND sequence IS NOT NULL ORDER BY id"#,
        ids,
    );
    Ok(rows.fetch_all(conn).await?)
}

/// See [`list_waited_for`].
#[derive(Debug, Clone)]
pub struct WaitedFor {
    /// The letter.
    pub id: i64,
    /// Whether it is still on its way.
    pub is_on_its_way: bool,
    /// Whether a process has begun to send it.
    pub is_claimed: bool,
    /// Why it is a letter.
    pub reason: String,
    /// The same for people.
    pub text: String,
    /// When it was given up for the last time.
    pub last_at: DateTime<Utc>,
    /// Whose.
    pub consumer: String,
    /// Of which order.
    pub subject: String,
    /// Its place in the order's history.
    pub sequence: i64,
}
