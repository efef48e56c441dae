//! Values of which there are few, each with a name: in JSON a string, and nothing else.

/// Reads a type from its name, by its `FromStr`. What serde derives takes `{"manual": null}` for `"manual"` as well.
macro_rules! deserialize_from_name {
    ($name:ty) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <String as serde::Deserialize>::deserialize(deserializer)?;
                name.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use deserialize_from_name;
