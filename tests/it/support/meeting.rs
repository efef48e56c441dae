//! Two connections that meet in the database, past every line of the program: what is refused here is refused to anybody.

use holdfast::store::Error;
use sqlx::{Connection as _, PgConnection};

use super::{PATIENCE, database::TestDatabase, eventually};

impl TestDatabase {
    /// What becomes of `second`, sent while a transaction that has executed `first` is open, once that is committed: how many
    /// rows it wrote, or the constraint that refuses it.
    pub(crate) async fn meet(&self, first: &'static str, second: &'static str) -> Result<u64, String> {
        let (mut ahead, mut behind) = (self.connect().await, self.connect().await);
        let mut tx = ahead.begin().await.unwrap();
        sqlx::query(first).execute(&mut *tx).await.unwrap();
        let second = tokio::spawn(async move { sqlx::query(second).execute(&mut behind).await });
        self.somebody_waits().await;
        tx.commit().await.unwrap();
        let refused = |error| Error::from(error).constraint().expect("a constraint").to_owned();
        second.await.unwrap().map(|result| result.rows_affected()).map_err(refused)
    }

    /// Waits until a transaction in this database waits for another one's lock.
    pub(crate) async fn somebody_waits(&self) {
        let mut observer: PgConnection = self.connect().await;
        let waiting = "SELECT count(*) > 0 FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waits = async || sqlx::query_scalar(waiting).fetch_one(&mut observer).await.unwrap();
        eventually("a transaction waits for another one", PATIENCE, waits).await;
    }
}
