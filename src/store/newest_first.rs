//! What lists have in common that go by id, the newest first: their pages, and where ids are UUIDv7, their times. A time is
//! found by the least id that it could have, so no list needs an index of `created_at`.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Encode, Postgres, QueryBuilder, Type};
use uuid::Uuid;

/// The time in an id is that of the process that made it, a moment before `created_at`. Clocks that are further apart would
/// hide rows from a list by time.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// Narrows a list to what was created from `gte` on and before `lt`.
pub(super) fn push_created(
    query: &mut QueryBuilder<Postgres>,
    gte: Option<DateTime<Utc>>,
    lt: Option<DateTime<Utc>>,
) {
    if let Some(time) = gte {
        query.push(" AND created_at >= ").push_bind(time);
        query.push(" AND id >= ").push_bind(first_id(time - CLOCKS_APART));
    }
    if let Some(time) = lt {
        query.push(" AND created_at < ").push_bind(time);
        query.push(" AND id < ").push_bind(first_id(time + CLOCKS_APART));
    }
}

/// Ends a list: so many rows, the newest first, of those before `starting_after` if given.
pub(super) fn push_page<'t, Id: Encode<'t, Postgres> + Type<Postgres>>(
    query: &mut QueryBuilder<Postgres>,
    starting_after: Option<Id>,
    limit: i64,
) {
    if let Some(id) = starting_after {
        query.push(" AND id < ").push_bind(id);
    }
    query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
}

/// The least UUIDv7 of a time.
fn first_id(time: DateTime<Utc>) -> Uuid {
    let milliseconds = u128::try_from(time.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128((milliseconds & 0xffff_ffff_ffff) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_time_begin_at_its_first_id() {
        let time = DateTime::from_timestamp_millis(1_800_000_000_123).expect("a time");
        let first = first_id(time);
        assert_eq!(first.as_u128() >> 80, 1_800_000_000_123);
        assert!(first_id(time - TimeDelta::milliseconds(1)) < first);
        assert_eq!(first_id(DateTime::from_timestamp_millis(-5).expect("a time")), Uuid::nil());
    }
}
