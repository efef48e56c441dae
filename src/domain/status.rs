//! How a status machine is written down: one table of allowed transitions, from which everything else follows.

/// Declares a status enum with its names and its whole transition table. A pair that is not listed is not allowed.
macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal => [$($to:ident),*]),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// Every status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the API and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The statuses that may follow this one.
            pub const fn allowed(self) -> &'static [Self] {
                match self { $(Self::$variant => &[$(Self::$to),*]),+ }
            }

            /// Whether `next` may follow this status.
            pub fn may_become(self, next: Self) -> bool {
                self.allowed().contains(&next)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|status| status.as_str() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|status| status.as_str()).collect();
                    format!("must be one of {}", names.join(", "))
                })
            }
        }
    };
}

pub(super) use status;
