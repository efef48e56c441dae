//! What a connection is doing, and until when it may.
//!
//! The gate (what is read and written), the service (requests) and the driver (time) of one connection share it; all three
//! run in one task, so its mutex is never waited for. Deadlines are kept here as values; only the driver has a timer, and
//! a request that comes in one piece does not touch it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::refusal::Refusal;
use crate::config::Http;

/// How long a client may still send after the last answer. A connection that is closed while bytes of the client are
/// unread is reset, and the reset may overtake the answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long each thing may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// A head, from its first byte; on a new connection, from the beginning.
    pub(super) header: Duration,
    /// From an answer to the next request.
    pub(super) idle: Duration,
    /// A write of which the client takes nothing.
    pub(super) write: Duration,
}

impl Times {
    pub(super) fn new(settings: &Http) -> Self {
        Self {
            header: Duration::from_millis(settings.header_timeout_ms),
            idle: Duration::from_millis(settings.idle_timeout_ms),
            write: Duration::from_millis(settings.write_timeout_ms),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet.
    New,
    /// A part of a head has come.
    Head,
    /// A request is being answered, which its handler bounds.
    Busy,
    /// Nothing has come since the last answer.
    Idle,
    /// The last answer is written.
    Closing,
}

/// What the driver must do about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Wait,
    /// The gate has a refusal to hand over.
    Answer,
    /// Close it without an answer; why.
    Cut(&'static str),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    until: Option<Instant>,
    blocked_until: Option<Instant>,
    refusal: Option<Refusal>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Progress {
    times: Times,
    state: Mutex<State>,
}

impl Progress {
    /// Of a connection that begins now.
    pub(super) fn new(times: Times) -> Arc<Self> {
        let until = Some(Instant::now() + times.header);
        let state = State { phase: Phase::New, until, blocked_until: None, refusal: None };
        Arc::new(Self { times, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of a head is there.
    pub(super) fn head_began(&self) {
        let mut state = self.state();
        match state.phase {
            Phase::New => state.phase = Phase::Head,
            Phase::Idle => {
                state.phase = Phase::Head;
                state.until = Some(Instant::now() + self.times.header);
            }
            Phase::Head | Phase::Busy | Phase::Closing => {}
        }
    }

    /// A request begins. Gives why it must be refused.
    pub(super) fn request_began(&self) -> Option<Refusal> {
        let mut state = self.state();
        (state.phase, state.until) = (Phase::Busy, None);
        state.refusal
    }

    /// Its answer is written, or will never be.
    pub(super) fn request_ended(&self) {
        let mut state = self.state();
        if state.phase == Phase::Busy {
            (state.phase, state.until) = (Phase::Idle, Some(Instant::now() + self.times.idle));
        }
    }

    /// The connection is being closed.
    pub(super) fn closing(&self) {
        let mut state = self.state();
        if state.phase != Phase::Closing {
            (state.phase, state.until) = (Phase::Closing, Some(Instant::now() + LINGER));
        }
    }

    /// Whether the client takes what is written.
    pub(super) fn wrote(&self, taken: bool) {
        let mut state = self.state();
        if taken {
            state.blocked_until = None;
        } else if state.blocked_until.is_none() {
            state.blocked_until = Some(Instant::now() + self.times.write);
        }
    }

    /// The next request is the last, and is answered with this.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.state().refusal.get_or_insert(refusal);
    }

    /// What the next request is answered with.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.state().refusal
    }

    /// When the driver must look again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        state.until.into_iter().chain(state.blocked_until).min()
    }

    /// What is to be done at this time.
    pub(super) fn due(&self, now: Instant) -> Due {
        let mut state = self.state();
        if state.blocked_until.is_some_and(|until| until <= now) {
            return Due::Cut("answer_not_read");
        }
        if state.until.is_none_or(|until| until > now) {
            return Due::Wait;
        }
        match state.phase {
            Phase::New => Due::Cut("silent"),
            Phase::Idle => Due::Cut("idle"),
            Phase::Closing => Due::Cut("lingered"),
            Phase::Head | Phase::Busy => {
                (state.phase, state.until) = (Phase::Busy, None);
                state.refusal.get_or_insert(Refusal::HeadTooSlow);
                Due::Answer
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times =
        Times { header: Duration::from_secs(5), idle: Duration::from_mins(1), write: Duration::from_secs(9) };

    fn is_about(progress: &Progress, time: Duration) -> bool {
        let left = progress.deadline().unwrap() - Instant::now();
        left <= time && left > time / 2
    }

    #[test]
    fn the_first_bytes_of_a_new_connection_do_not_give_it_more_time() {
        let progress = Progress::new(TIMES);
        let deadline = progress.deadline();
        progress.head_began();
        assert_eq!(progress.deadline(), deadline);
        assert_eq!(progress.due(Instant::now()), Due::Wait);
        assert_eq!(progress.due(deadline.unwrap()), Due::Answer);
        assert_eq!(progress.refusal(), Some(Refusal::HeadTooSlow));
        assert_eq!(progress.deadline(), None);
    }

    #[test]
    fn a_connection_that_waits_has_the_idle_time_and_a_head_the_header_time() {
        let progress = Progress::new(TIMES);
        assert_eq!(progress.due(progress.deadline().unwrap()), Due::Cut("silent"));
        assert_eq!(progress.request_began(), None);
        assert_eq!(progress.deadline(), None);
        progress.request_ended();
        assert!(is_about(&progress, TIMES.idle));
        assert_eq!(progress.due(progress.deadline().unwrap()), Due::Cut("idle"));
        progress.head_began();
        assert!(is_about(&progress, TIMES.header));
    }

    #[test]
    fn a_client_that_reads_nothing_is_cut_also_while_a_request_is_answered() {
        let progress = Progress::new(TIMES);
        progress.request_began();
        progress.wrote(false);
        let deadline = progress.deadline();
        progress.wrote(false);
        assert_eq!(progress.deadline(), deadline);
        assert_eq!(progress.due(deadline.unwrap()), Due::Cut("answer_not_read"));
        progress.wrote(true);
        assert_eq!(progress.deadline(), None);
    }

    #[test]
    fn closing_ends_whatever_else_happens() {
        let progress = Progress::new(TIMES);
        progress.request_began();
        progress.closing();
        let deadline = progress.deadline();
        progress.request_ended();
        progress.head_began();
        progress.closing();
        assert_eq!(progress.deadline(), deadline);
        assert_eq!(progress.due(deadline.unwrap()), Due::Cut("lingered"));
    }
}
