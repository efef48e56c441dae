//! From where on a lane looks for pending rows.
//!
//! Rows that are gone stay in the index until it is vacuumed, and a lane that drains a million would pass by all of them for
//! each window. So behind a full window it looks on from where that began. It is no position to rely on: ids commit out of order,
//! and rows that failed come back. From the beginning on it looks whenever a window was not full, and at least every second.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::outbox::OutboxRow;

/// The longest time without a look from the beginning on.
const LOOK_BACK: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Where the last window began, and when it was last looked from the beginning on.
    full: Option<(i64, Instant)>,
    looked_back: Option<Instant>,
}

impl Place {
    /// The first id that the next window may have.
    pub(super) fn next(&mut self) -> i64 {
        match self.full {
            Some((from, looked_back)) if looked_back.elapsed() < LOOK_BACK => from,
            _ => {
                self.looked_back = Some(Instant::now());
                0
            }
        }
    }

    /// Takes note of a window with room for so many rows.
    pub(super) fn read(&mut self, rows: &[OutboxRow], room: usize) {
        let first = rows.first().filter(|_| rows.len() >= room);
        self.full = first.map(|row| row.id).zip(self.looked_back);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: std::ops::Range<i64>) -> Vec<OutboxRow> {
        ids.map(|id| OutboxRow { id, attempts: 0 }).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_behind_full_windows_and_looks_back_every_second() {
        let mut place = Place::default();
        assert_eq!(place.next(), 0);
        place.read(&rows(5..9), 4);
        assert_eq!(place.next(), 5);
        place.read(&rows(7..11), 4);
        assert_eq!(place.next(), 7);
        tokio::time::advance(LOOK_BACK).await;
        assert_eq!(place.next(), 0);
        place.read(&rows(8..12), 4);
        assert_eq!(place.next(), 8);
        place.read(&rows(9..12), 4);
        assert_eq!(place.next(), 0);
    }
}
