//! Fields of which absent and null are two things: absent leaves as it is what null takes away.

use serde::{Deserialize, Deserializer};

/// Reads a field that is there, `null` or not. With `#[serde(default)]` one that is absent is `None`.
#[expect(clippy::option_option, reason = "absent and null are two things")]
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}
