//! What an API key may do.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{bounds::words, name::deserialize_from_name};

macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// One thing that an API key may be allowed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        pub enum Scope {
            $($(#[$doc])* #[serde(rename = $name)] $variant),+
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the API and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl PartialSchema for Scope {
            fn schema() -> RefOr<Schema> {
                words([$($name),+])
            }
        }

        impl ToSchema for Scope {}
    };
}

scopes! {
    /// Reads orders, payments, shipments and inventory.
    OrdersRead = "orders:read",
    /// Places, changes, cancels and ships orders.
    OrdersWrite = "orders:write",
    /// Pays, captures, voids and refunds.
    PaymentsWrite = "payments:write",
    /// Changes stock.
    InventoryWrite = "inventory:write",
    /// Says where events are posted to, and gets the secrets that they are signed with.
    WebhooksWrite = "webhooks:write",
    /// Everything, the API keys themselves included.
    Admin = "admin",
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|scope| scope.as_str()).collect();
            format!("must be one of {}", names.join(", "))
        })
    }
}

deserialize_from_name!(Scope);

/// What one API key may do: a set of [`Scope`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether a key with these scopes may do what asks for `scope`.
    pub const fn allow(self, scope: Scope) -> bool {
        self.contains(Scope::Admin) || self.contains(scope)
    }

    /// The scopes, each once.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Scope::as_str).collect();
        f.write_str(&names.join(","))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_do_what_its_scopes_say_and_an_admin_everything() {
        let reader: Scopes = [Scope::OrdersRead].into_iter().collect();
        let admin: Scopes = [Scope::Admin].into_iter().collect();
        for &scope in Scope::ALL {
            assert_eq!(reader.allow(scope), scope == Scope::OrdersRead, "{scope}");
            assert!(admin.allow(scope), "{scope}");
            assert!(!Scopes::default().allow(scope), "{scope}");
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
    }
}
