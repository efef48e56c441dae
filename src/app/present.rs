//! Fields of a `PUT`: absent leaves as it is what null takes away, and what cannot be taken away is not null.

use serde::{Deserialize, Deserializer};

/// Reads a field that is there, `null` or not. With `#[serde(default)]` one that is absent is `None`.
#[expect(clippy::option_option, reason = "absent and null are two things")]
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Reads a field that is there, and not `null`. With `#[serde(default)]` one that is absent is `None`.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}
