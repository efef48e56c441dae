//! Lists that nothing finds but looking through what may belong to them: a time has to say through how much, or where there is
//! none, few of them walk at a time.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::SemaphorePermit, time::timeout};

use super::{ApiState, problem::Problem};
use crate::{
    domain::validation::{Invalid, Rule},
    store,
};

/// The longest time through which such a list looks.
const LONGEST: TimeDelta = TimeDelta::days(31);

/// How many lists walk through a whole table at a time: the connections of the pool are for others too.
pub(super) const WALKS: usize = 2;

/// Waits for the turn of a list that walks through a whole table.
pub(super) async fn turn(state: &ApiState) -> Result<SemaphorePermit<'_>, Problem> {
    let turn = timeout(state.app.store.patience(), state.walks.acquire()).await;
    let busy = || store::Error::Unavailable("too many lists walk through a whole table".into());
    turn.ok().and_then(Result::ok).ok_or_else(|| busy().into())
}

/// Fails unless both ends of the time are given, and are not further apart than [`LONGEST`]. `list` says what is listed.
pub(super) fn require_bounds(
    list: &str,
    created_gte: Option<DateTime<Utc>>,
    created_lt: Option<DateTime<Utc>>,
) -> Result<(), Problem> {
    let wrong =
        |pointer: &str, detail: String| Err(Problem::invalid(Invalid::new(Rule::Together, pointer, detail)));
    match (created_gte, created_lt) {
        (None, _) => wrong("?created_gte", format!("is needed in {list}")),
        (Some(_), None) => wrong("?created_lt", format!("is needed in {list}")),
        (Some(from), Some(to)) if to - from > LONGEST => {
            wrong("?created_lt", format!("must be at most 31 days after created_gte in {list}"))
        }
        _ => Ok(()),
    }
}
