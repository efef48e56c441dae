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

    /// Drops the events that were made more than `days` days before today, with what consumers know of them. Gives how many
    /// days that were.
    pub async fn drop_old_events(&self, days: i32) -> Result<usize, Error> {
        let past = retention::list_past_event_days(&mut *self.store.conn().await?, days).await?;
        for day in &past {
            retention::drop_event_day(&self.store, *day).await?;
            tracing::info!(%day, "a day of events was dropped");
        }
        Ok(past.len())
    }
}
