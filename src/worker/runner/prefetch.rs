//! How many deliveries the broker may have out to this process: no more than keep its slots busy, because whatever was handed
//! to a process that dies counts as a delivery that failed.
//!
//! A slot that falls free wants its next event at once, and the broker needs a round trip to send one more. So there is one
//! for each slot, and as many as come free within a round trip. That rate is what arrives, or what the slots can handle, if
//! that is less. (The rate times the handling time would stay at whatever prefetch it began with: how much arrives is bounded
//! by the prefetch itself.) A change costs a round trip, so the target has to be off by a factor before there is one.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// From an acknowledgement to the next delivery: the queue writes both to disk.
const ROUND_TRIP: Duration = Duration::from_millis(10);

/// How many events a measurement is made of.
const SAMPLES: usize = 64;

/// By which factor the target has to be off.
const FACTOR: u16 = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Prefetch {
    slots: u16,
    most: u16,
    current: u16,
    arrivals: VecDeque<Instant>,
    handling: VecDeque<Duration>,
}

impl Prefetch {
    /// For `slots` events at a time, and never more than `most`. Begins with two for each slot.
    pub(super) fn new(slots: u16, most: u16) -> Self {
        let (slots, most) = (slots.max(1), most.max(slots).max(1));
        let current = slots.saturating_mul(2).min(most);
        Self { slots, most, current, arrivals: VecDeque::new(), handling: VecDeque::new() }
    }

    /// What it is.
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// An event came.
    pub(super) fn arrived(&mut self, now: Instant) {
        push(&mut self.arrivals, now);
    }

    /// An event was handled, in this time. Gives what the prefetch is to be from now on, if that changes.
    pub(super) fn handled(&mut self, time: Duration) -> Option<u16> {
        push(&mut self.handling, time);
        if self.handling.len() < SAMPLES || self.arrivals.len() < SAMPLES {
            return None;
        }
        let target = self.target();
        let is_off = target >= self.current.saturating_mul(FACTOR) || target <= self.current / FACTOR;
        // At its bound nothing is left of a factor.
        let is_at_bound = target == self.most && self.current < self.most;
        if !(is_off || is_at_bound) || target == self.current {
            return None;
        }
        self.current = target;
        // What comes next is measured under the new one.
        self.arrivals.clear();
        self.handling.clear();
        Some(target)
    }

    fn target(&self) -> u16 {
        let mut times: Vec<Duration> = self.handling.iter().copied().collect();
        times.sort_unstable();
        let median = times[times.len() / 2].max(Duration::from_micros(1));
        let handled = f64::from(self.slots) / median.as_secs_f64();
        let span = match (self.arrivals.front(), self.arrivals.back()) {
            (Some(first), Some(last)) => last.saturating_duration_since(*first),
            _ => Duration::ZERO,
        };
        let samples = u16::try_from(self.arrivals.len()).unwrap_or(u16::MAX);
        // A clock that stood still tells of no rate: then only the handling bounds it.
        let arrived = f64::from(samples) / span.as_secs_f64();
        let within = (arrived.min(handled) * ROUND_TRIP.as_secs_f64()).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is clamped to a u16 first"
        )]
        let within = within.clamp(0.0, f64::from(u16::MAX)) as u16;
        self.slots.saturating_add(within).clamp(self.slots, self.most)
    }
}

fn push<T>(samples: &mut VecDeque<T>, sample: T) {
    if samples.len() == SAMPLES {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// What it changes to while so many events come, one each `gap`, and take `time`.
    async fn run(prefetch: &mut Prefetch, events: usize, gap: Duration, time: Duration) -> Vec<u16> {
        let mut changes = Vec::new();
        for _ in 0..events {
            advance(gap).await;
            prefetch.arrived(Instant::now());
            changes.extend(prefetch.handled(time));
        }
        changes
    }

    #[tokio::test(start_paused = true)]
    async fn it_grows_where_slots_would_wait_for_the_broker_and_shrinks_where_they_would_not() {
        let mut prefetch = Prefetch::new(8, 64);
        assert_eq!(prefetch.current(), 16);
        // 8 slots at 1 ms each could handle 80 in a round trip.
        let fast = Duration::from_millis(1);
        assert_eq!(run(&mut prefetch, 200, fast / 8, fast).await, [64]);
        // A payment takes long, and needs none in advance but one or two.
        let slow = Duration::from_secs(1);
        run(&mut prefetch, 200, slow / 8, slow).await;
        assert!((9..=16).contains(&prefetch.current()), "{}", prefetch.current());
        // Few arrive, however fast they are handled.
        assert_eq!(run(&mut prefetch, 200, slow, fast).await, Vec::<u16>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn it_leaves_a_small_difference_alone() {
        let mut prefetch = Prefetch::new(8, 64);
        // 8 and 10 of a round trip: not twice of 16.
        let time = Duration::from_millis(8);
        assert_eq!(run(&mut prefetch, 1000, Duration::from_millis(1), time).await, Vec::<u16>::new());
        // And wavers around it.
        for gap in [900, 1100, 950, 1050].map(Duration::from_micros) {
            assert_eq!(run(&mut prefetch, 100, gap, time).await, Vec::<u16>::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_or_stands_still_leaves_it_within_its_bounds() {
        let mut prefetch = Prefetch::new(4, 32);
        let time = Duration::from_millis(1);
        run(&mut prefetch, 100, Duration::ZERO, time).await;
        assert_eq!(prefetch.current(), 32);
        run(&mut prefetch, 100, Duration::from_hours(10), time).await;
        assert_eq!(prefetch.current(), 5);
        run(&mut prefetch, 100, Duration::ZERO, Duration::ZERO).await;
        assert_eq!(prefetch.current(), 32);
        let prefetch = Prefetch::new(16, 4);
        assert_eq!(prefetch.current(), 16, "never less than there are slots");
    }
}
