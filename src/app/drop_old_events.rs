//! The history of events is kept for a number of days: the days to come are made ready, those that are too old dropped.

use super::{App, Error};
use crate::store::retention;

impl App {
    /// Makes the partitions of the next days ready, so that no event finds none. Gives how many there were to make.
    pub async fn make_event_days(&self) -> Result<usize, Error> {
        let days = retention::list_missing_event_days(&mut *self.store.conn().await?).await?;
        for day in &days {
            retention::make_event_day(&self.store, *day).await?;
        }
        Ok(days.len())
    }

    /// Drops the events that were made more than `days` days before today, with what consumers know of them. A day with an
    /// event that is not published yet is kept, and so are those after it: consumers would refuse the event. Gives how many
    /// days were dropped.
    pub async fn drop_old_events(&self, days: i32) -> Result<usize, Error> {
        let mut conn = self.store.conn().await?;
        let past = retention::list_past_event_days(&mut conn, days).await?;
        let pending = retention::find_oldest_pending_day(&mut conn).await?;
        drop(conn);
        let droppable = past.iter().filter(|day| pending.is_none_or(|pending| **day < pending)).count();
        if droppable < past.len() {
            let kept = past.len() - droppable;
            tracing::warn!(
                ?pending,
                kept,
                "old days of events are kept: an event of them is not published yet"
            );
        }
        for day in &past[..droppable] {
            retention::drop_event_day(&self.store, *day).await?;
            tracing::info!(%day, "a day of events was dropped");
        }
        Ok(droppable)
    }
}
