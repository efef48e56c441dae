//! What becomes of a delivery, by how handling it ended: the table of all of it, and the only one.
//!
//! What may pass is tried again, the longer it lasts the later, for as long as it lasts: an outage makes no dead letters. What
//! trying again cannot help is a dead letter at once.

use crate::{
    app::Error,
    bus::RetryTier,
    domain::{dead_letter::DeadLetterReason, validation::FieldError},
    store::inbox,
};

/// From which attempt on a panic is not tried again, whatever the ones before ended in. It may have been a passing one, but it is
/// a defect, and most come again.
const PANICS: u32 = 3;

/// How handling a delivery ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its effect is committed.
    Done,
    /// Its effect was committed before.
    Duplicate,
    /// The provider or the customer has not decided yet, or an earlier event of its order is being replayed.
    Waiting,
    /// The message is not an event.
    NotAnEvent(String),
    /// The data does not fit the type of the event.
    DoesNotFit(FieldError),
    /// What is known of its day was dropped.
    TooOld,
    /// An earlier event of its order is this dead letter.
    Blocked(i64),
    /// It was begun alone so often, and its process has ended each time.
    Deadly(i32),
    /// Handling it panicked.
    Panicked(String),
    /// The use case failed.
    Failed(Error),
}

impl Ended {
    /// As the span of the delivery names it.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Duplicate => "duplicate",
            Self::Waiting => "waiting",
            Self::NotAnEvent(_) => "not_an_event",
            Self::DoesNotFit(_) => "schema_violation",
            Self::TooOld => "too_old",
            Self::Blocked(_) => "order_blocked",
            Self::Deadly(_) => "delivery_limit",
            Self::Panicked(_) => "panicked",
            Self::Failed(_) => "failed",
        }
    }
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done with.
    Ack,
    /// It comes again.
    Retry(RetryTier),
    /// It is a dead letter.
    Bury {
        /// Why.
        reason: DeadLetterReason,
        /// The same for people.
        text: String,
        /// The letter that it waits for.
        blocked_by: Option<i64>,
    },
}

/// The table.
pub(super) fn verdict(ended: Ended, attempt: u32) -> Verdict {
    let bury = |reason, text| Verdict::Bury { reason, text, blocked_by: None };
    match ended {
        Ended::Done | Ended::Duplicate => Verdict::Ack,
        Ended::Waiting => Verdict::Retry(tier(attempt)),
        Ended::NotAnEvent(text) => bury(DeadLetterReason::NotAnEvent, text),
        Ended::DoesNotFit(FieldError { pointer, detail }) => {
            bury(DeadLetterReason::SchemaViolation, format!("at {pointer:?}: {detail}"))
        }
        Ended::TooOld => bury(DeadLetterReason::TooOld, too_old()),
        Ended::Blocked(letter) => Verdict::Bury {
            reason: DeadLetterReason::OrderBlocked,
            text: format!("an earlier event of its order is dead letter {letter}"),
            blocked_by: Some(letter),
        },
        Ended::Deadly(begun) => bury(
            DeadLetterReason::DeliveryLimit,
            format!("its process has ended each of the {begun} times that it was handled alone"),
        ),
        Ended::Panicked(_) if attempt < PANICS => Verdict::Retry(tier(attempt)),
        Ended::Panicked(text) => bury(DeadLetterReason::Panicked, text),
        // Its day was dropped while it was handled.
        Ended::Failed(Error::Store(error)) if error.constraint() == Some(inbox::KEPT) => {
            bury(DeadLetterReason::TooOld, too_old())
        }
        // Which errors may pass is said at each of them.
        Ended::Failed(error) if error.is_transient() => Verdict::Retry(tier(attempt)),
        Ended::Failed(error) => bury(DeadLetterReason::Refused, error.to_string()),
    }
}

fn too_old() -> String {
    "what is known of events of its day was dropped: it may have taken effect".to_owned()
}

/// The longer it has not worked, the longer the wait.
pub(super) fn tier(attempt: u32) -> RetryTier {
    match attempt {
        0..=2 => RetryTier::Second,
        3..=6 => RetryTier::FiveSeconds,
        7..=12 => RetryTier::HalfMinute,
        13..=20 => RetryTier::FiveMinutes,
        _ => RetryTier::HalfHour,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    fn buried(ended: Ended, attempt: u32) -> Option<DeadLetterReason> {
        match verdict(ended, attempt) {
            Verdict::Bury { reason, .. } => Some(reason),
            Verdict::Ack | Verdict::Retry(_) => None,
        }
    }

    #[test]
    fn what_may_pass_is_never_a_dead_letter() {
        let passing = [
            Error::Unknown("no answer".into()),
            store::Error::Unavailable("it is down".into()).into(),
            store::Error::Aborted("deadlock".into()).into(),
            store::Error::LockTimeout("a row".into()).into(),
        ];
        for error in passing {
            let text = error.to_string();
            assert_eq!(
                verdict(Ended::Failed(error), 1_000_000),
                Verdict::Retry(RetryTier::HalfHour),
                "{text}"
            );
        }
        assert_eq!(verdict(Ended::Waiting, 1), Verdict::Retry(RetryTier::Second));
    }

    #[test]
    fn what_cannot_be_helped_has_its_reason_at_once() {
        let constraint =
            |name: &str| store::Error::Constraint { constraint: name.into(), message: String::new() };
        let refused = Error::NotFound { kind: "order", id: "1".into() };
        assert_eq!(buried(Ended::Failed(refused), 1), Some(DeadLetterReason::Refused));
        let violated = constraint("order_line_quantity").into();
        assert_eq!(buried(Ended::Failed(violated), 1), Some(DeadLetterReason::Refused));
        assert_eq!(buried(Ended::Failed(constraint(inbox::KEPT).into()), 1), Some(DeadLetterReason::TooOld));
        assert_eq!(buried(Ended::NotAnEvent("no id".into()), 1), Some(DeadLetterReason::NotAnEvent));
        assert_eq!(buried(Ended::Deadly(3), 9), Some(DeadLetterReason::DeliveryLimit));
        let Verdict::Bury { reason, text, blocked_by } = verdict(Ended::Blocked(7), 1) else {
            panic!("no letter")
        };
        assert_eq!((reason, blocked_by), (DeadLetterReason::OrderBlocked, Some(7)));
        assert!(text.contains("letter 7"), "{text}");
    }

    #[test]
    fn a_panic_is_tried_again_only_so_often() {
        let panicked = |attempt| buried(Ended::Panicked("index out of bounds".into()), attempt);
        assert_eq!([1, 2, 3].map(panicked), [None, None, Some(DeadLetterReason::Panicked)]);
    }
}
