//! How long a lane rests between two windows.
//!
//! Nothing tells it of a new event: a NOTIFY in the transaction of an order costs the order most of its speed, and where it
//! is missing polling has to do anyhow. So a lane looks again at once while its windows are full, soon while there was
//! something lately, and now and then while there is nothing.

use std::time::Duration;

/// The rest after a window that was not full: the next one may hold a few more events then, and costs no less for fewer.
const BUSY: Duration = Duration::from_millis(4);

/// The first and the longest rest after the broker or the database did not do its part. Short: whoever comes back is found
/// at once, and connecting has a back-off of its own.
const TROUBLE: Duration = Duration::from_millis(100);
const LONGEST_TROUBLE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    idle: Duration,
    rest: Duration,
    trouble: Duration,
}

impl Pace {
    /// `idle` is the longest rest without trouble.
    pub(super) fn new(idle: Duration) -> Self {
        Self { idle, rest: idle, trouble: TROUBLE }
    }

    /// The rest after a window that had room for `room` events and had `events`.
    pub(super) fn after(&mut self, events: usize, room: usize) -> Duration {
        self.trouble = TROUBLE;
        self.rest = match events {
            0 => (self.rest * 2).min(self.idle),
            _ => BUSY.min(self.idle),
        };
        if events >= room { Duration::ZERO } else { self.rest }
    }

    /// The rest after a window that could not be done.
    pub(super) fn after_trouble(&mut self) -> Duration {
        let rest = self.trouble;
        self.trouble = (rest * 2).min(LONGEST_TROUBLE);
        rest.mul_f64(rand::random_range(0.75..=1.25))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_longer_the_longer_there_is_nothing() {
        let mut pace = Pace::new(Duration::from_millis(20));
        assert_eq!(pace.after(256, 256), Duration::ZERO);
        let rests = [9, 0, 0, 0, 0, 1].map(|events| pace.after(events, 256).as_millis());
        assert_eq!(rests, [4, 8, 16, 20, 20, 4]);
    }

    #[test]
    fn trouble_never_makes_it_rest_long() {
        let mut pace = Pace::new(Duration::from_millis(20));
        let rests: Vec<Duration> = (0..20).map(|_| pace.after_trouble()).collect();
        assert!(rests[0] <= TROUBLE * 5 / 4 && rests.iter().all(|rest| *rest <= LONGEST_TROUBLE * 5 / 4));
        pace.after(1, 256);
        assert!(pace.after_trouble() <= TROUBLE * 5 / 4);
    }
}
