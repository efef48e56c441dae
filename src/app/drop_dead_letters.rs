//! Giving dead letters up, for good: what they tell of takes no effect at their consumer.

use super::{App, Error};
use crate::store::dead_letters;

impl App {
    /// Drops letters, but not those on their way to their consumer. Who did so and why is kept with them for a time. Gives the
    /// ids of those that it dropped.
    pub async fn drop_dead_letters(&self, ids: &[i64], by: &str, because: &str) -> Result<Vec<i64>, Error> {
        Ok(dead_letters::mark_dropped(&mut *self.store.conn().await?, ids, by, because).await?)
    }
}
