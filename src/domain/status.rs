//! How a status machine is written down: one table of allowed transitions, from which everything else follows.

/// What may be asked of the table of any status machine.
pub(crate) trait Status: Copy + Eq + 'static {
    /// The name in the API and in the database.
    fn as_str(self) -> &'static str;

    /// The statuses that may follow this one.
    fn allowed(self) -> &'static [Self];

    /// Whether a status that `permits` may follow this one, at once or after others.
    fn may_reach(self, permits: impl Fn(Self) -> bool) -> bool {
        let mut reached = self.allowed().to_vec();
        let mut looked_at = 0;
        while let Some(&status) = reached.get(looked_at) {
            if permits(status) {
                return true;
            }
            for &next in status.allowed() {
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            looked_at += 1;
        }
        false
    }
}

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

        impl crate::domain::status::Status for $name {
            fn as_str(self) -> &'static str {
                Self::as_str(self)
            }

            fn allowed(self) -> &'static [Self] {
                Self::allowed(self)
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

#[cfg(test)]
mod tests {
    use super::Status as _;
    use crate::domain::{
        order::OrderStatus::{self, Confirmed, PendingPayment},
        payment::PaymentStatus::{self, Authorized, Captured, Failed, Processing, Refunded, RequiresAction},
        shipment::ShipmentStatus::{Delivered, Pending, Returned, Shipped},
    };

    #[test]
    fn what_is_reached_is_reached_by_allowed_transitions() {
        assert!(Pending.may_reach(|status| status == Shipped));
        assert!(Pending.may_reach(|status| status.may_become(Delivered)));
        assert!(!Shipped.may_reach(|status| status.may_become(Shipped)));
        assert!(!Returned.may_reach(|_| true));
        assert!(PendingPayment.may_reach(|status| status == Confirmed));
        assert!(!OrderStatus::ALL.iter().any(|from| from.may_reach(|status| status == PendingPayment)));
    }

    #[test]
    fn a_table_with_ways_back_is_walked_once() {
        assert!(Processing.may_reach(|status| status == Processing));
        assert!(Refunded.may_reach(|status| status == Captured));
        for from in [Authorized, Captured, Refunded, Failed] {
            assert!(!from.may_reach(|status| [Processing, RequiresAction].contains(&status)), "{from}");
        }
        for &from in PaymentStatus::ALL {
            assert_eq!(from.may_reach(|_| true), !from.allowed().is_empty(), "{from}");
        }
    }
}
