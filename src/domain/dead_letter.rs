//! Why a delivery is a dead letter: a closed set, so that an operator can sort them and a dashboard can count them.

use std::{fmt, str::FromStr};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// The message is not an event of ours: an attribute is missing, its type is unknown, its body is not JSON.
    NotAnEvent,
    /// The data does not fit the type of the event.
    SchemaViolation,
    /// What is known of its day was dropped: it may have taken effect.
    TooOld,
    /// The use case refused it for good.
    Refused,
    /// Handling it panicked, again and again.
    Panicked,
    /// It was delivered again and again without an end: it killed the process that handled it, or was beside what did.
    DeliveryLimit,
    /// An earlier event of its order is a dead letter, and this one builds on it.
    OrderBlocked,
    /// It was sent, and never came: the broker lost it.
    Lost,
}

impl DeadLetterReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::NotAnEvent,
        Self::SchemaViolation,
        Self::TooOld,
        Self::Refused,
        Self::Panicked,
        Self::DeliveryLimit,
        Self::OrderBlocked,
        Self::Lost,
    ];

    /// The name in the database, on the command line and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnEvent => "not_an_event",
            Self::SchemaViolation => "schema_violation",
            Self::TooOld => "too_old",
            Self::Refused => "refused",
            Self::Panicked => "panicked",
            Self::DeliveryLimit => "delivery_limit",
            Self::OrderBlocked => "order_blocked",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeadLetterReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no reason; there are {}", names()))
    }
}

impl serde::Serialize for DeadLetterReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
