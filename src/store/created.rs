//! Lists by time. They are in the order of the ids, UUIDv7: so a time is found by the least id that it could have, and no list
//! needs an index of `created_at`.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// The time in an id is that of the process that made it, a moment before `created_at`. Clocks that are further apart would
/// hide rows from a list by time.
const CLOCKS_APART: TimeDelta = TimeDelta::hours(1);

/// Narrows a list to what was created from `gte` on and before `lt`.
pub(super) fn push_range(
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
