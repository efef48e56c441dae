//! The stock ledger: every change of `on_hand`, who made it and why.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{inventory::LevelKey, name::deserialize_from_name};

macro_rules! movement_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// Why stock moved.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum MovementType {
            $($(#[$doc])* $variant),+
        }

        impl MovementType {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the API and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

movement_types! {
    /// Stock came in.
    Receive = "receive",
    /// Somebody added or took away.
    Adjust = "adjust",
    /// Somebody counted.
    Count = "count",
    /// A shipment left.
    Ship = "ship",
    /// A customer sent it back.
    Return = "return",
    /// It went from one location to another.
    Transfer = "transfer",
}

impl fmt::Display for MovementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MovementType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}

deserialize_from_name!(MovementType);

/// Which movement: of two of one level, the later one has the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, pattern = "^(0|[1-9][0-9]{0,17})$", example = "4711")]
pub struct MovementId(pub i64);

impl Serialize for MovementId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl FromStr for MovementId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // One spelling for each, and none that the database has no number for.
        let is_one = text.len() <= 18
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        let number = text.parse().ok().filter(|_| is_one);
        number.map(Self).ok_or("must be the id of a movement: digits")
    }
}

/// One change of `on_hand` of one level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StockMovement {
    /// Its id.
    pub id: MovementId,
    /// Which level.
    #[serde(flatten)]
    pub key: LevelKey,
    /// Why stock moved.
    #[serde(rename = "type")]
    pub movement_type: MovementType,
    /// By how much `on_hand` changed.
    pub delta: i64,
    /// What it was from then on.
    pub on_hand_after: i64,
    /// Who moved it: the id of an API key, a worker, or the command line.
    pub actor: String,
    /// Why, in the words of who moved it.
    pub reason: Option<String>,
    /// What it belongs to: a shipment's order, an import, a document of the merchant.
    pub reference: Option<String>,
    /// When.
    pub created_at: DateTime<Utc>,
}
