//! Payments: their life, and what may be asked for. Never a card number: only a token that the provider made.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bounds::{self, Amount},
    ids::{OrderId, PaymentId},
    money::Currency,
    name::deserialize_from_name,
    order::CaptureMethod,
    status::status,
    validation::{Invalid, Rule, Validator},
};

status! {
    /// The life of a payment. A time-out of the provider is unknown, never failed: it stays `processing` (G3).
    PaymentStatus {
        /// Asked for; the provider has not said yes or no.
        Processing = "processing" => [RequiresAction, Authorized, Failed, Voided],
        /// The customer has to act, e.g. confirm with the bank.
        RequiresAction = "requires_action" => [Processing, Authorized, Failed, Voided],
        /// The money is set aside. The provider lets go of it by itself if it is not captured in time.
        Authorized = "authorized" => [Captured, Voided, Failed],
        /// The money is ours.
        Captured = "captured" => [PartiallyRefunded, Refunded],
        /// A part went back.
        PartiallyRefunded = "partially_refunded" => [Refunded, Captured],
        /// All of it went back. A refund that fails later takes it back from here.
        Refunded = "refunded" => [PartiallyRefunded, Captured],
        /// Never captured, and never will be.
        Voided = "voided" => [],
        /// Refused by the provider.
        Failed = "failed" => [],
    }
}

impl PaymentStatus {
    /// A live payment is one that moved money or still may. An order has at most one (G3).
    pub const fn is_live(self) -> bool {
        !matches!(self, Self::Voided | Self::Failed)
    }

    /// Whether the provider, or the customer there, has yet to decide.
    pub const fn is_undecided(self) -> bool {
        matches!(self, Self::Processing | Self::RequiresAction)
    }

    /// The transitions to what a provider says, one after the other. Empty if that is not ahead of this status: an answer that
    /// comes late.
    pub fn path_to(self, seen: Self) -> Vec<Self> {
        if matches!(self, Self::PartiallyRefunded | Self::Refunded) {
            // From here on it is what went back that decides: see `app::record_refunds`.
            return Vec::new();
        }
        let through: &[Self] = match seen {
            Self::Captured => &[Self::Authorized],
            _ => &[],
        };
        let mut at = self;
        let mut path = Vec::new();
        for &next in through.iter().chain([&seen]) {
            if at.may_become(next) {
                path.push(next);
                at = next;
            }
        }
        if at == seen { path } else { Vec::new() }
    }
}

/// How the customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentMethod {
    /// A card.
    Card,
    /// A wallet.
    Wallet,
    /// A bank transfer or debit.
    Bank,
}

impl PaymentMethod {
    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Wallet => "wallet",
            Self::Bank => "bank",
        }
    }
}

impl std::str::FromStr for PaymentMethod {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "card" => Ok(Self::Card),
            "wallet" => Ok(Self::Wallet),
            "bank" => Ok(Self::Bank),
            _ => Err("must be card, wallet or bank"),
        }
    }
}

deserialize_from_name!(PaymentMethod);

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payment {
    /// Its id; also the idempotency key towards the provider.
    pub id: PaymentId,
    /// The order.
    pub order_id: OrderId,
    /// How the customer pays.
    pub method: PaymentMethod,
    /// Who moves the money.
    pub provider: String,
    /// The provider's own id of it, once known.
    pub provider_reference: Option<String>,
    /// The provider's token. Given to nobody but the provider.
    #[serde(skip)]
    pub payment_token: String,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Currency of its amounts.
    pub currency: Currency,
    /// What is to be paid, minor units.
    pub amount: i64,
    /// What was captured.
    pub amount_captured: i64,
    /// What went back.
    pub amount_refunded: i64,
    /// What went back or is on its way back: a refund may have what is left of `amount_captured`.
    pub amount_refund_claimed: i64,
    /// What the merchant asked to capture.
    pub capture_requested_amount: Option<i64>,
    /// What the provider is asked to capture.
    pub amount_capturing: Option<i64>,
    /// When the merchant asked to void it.
    pub void_requested_at: Option<DateTime<Utc>>,
    /// Why.
    pub void_reason: Option<String>,
    /// When the money is captured.
    pub capture_method: CaptureMethod,
    /// Why the provider refused.
    pub decline_code: Option<String>,
    /// Since when the provider owes an answer to a request that may have taken effect.
    pub outcome_unknown_since: Option<DateTime<Utc>>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

impl Payment {
    /// What a new refund may have.
    pub const fn refundable(&self) -> i64 {
        self.amount_captured - self.amount_refund_claimed
    }

    /// The status of a captured payment of which so much has gone back.
    pub const fn status_with_refunded(&self, amount_refunded: i64) -> PaymentStatus {
        match amount_refunded {
            0 => PaymentStatus::Captured,
            amount if amount == self.amount_captured => PaymentStatus::Refunded,
            _ => PaymentStatus::PartiallyRefunded,
        }
    }
}

/// A new payment of an order, as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "method": "card", "payment_token": "pm_card_visa" }))]
pub struct NewPayment {
    /// How the customer pays.
    pub method: PaymentMethod,
    /// What the provider gave the customer's browser for their card or wallet.
    #[schema(value_type = bounds::PaymentToken)]
    pub payment_token: String,
    /// Must be what is due for the order, if given.
    #[schema(value_type = Option<Amount>)]
    pub amount: Option<i64>,
    /// When the money is captured; the order's own choice if absent.
    pub capture_method: Option<CaptureMethod>,
}

impl NewPayment {
    /// Checks the fields that need no order to be checked.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut check = Validator::default();
        let token = self.payment_token.as_str();
        bounds::PaymentToken::require(&mut check, token, "/payment_token");
        check.require_rule(
            Rule::CardNumberRefused,
            !looks_like_card_number(token),
            "/payment_token",
            "must be a token made by the payment provider, never a card number",
        );
        Amount::require(&mut check, self.amount, "/amount");
        check.finish()
    }
}

/// A run of 12 digits or more, hyphens and underscores aside, whatever its check digit.
pub fn looks_like_card_number(token: &str) -> bool {
    let bare: String = token.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    bare.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() >= 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(token: &str) -> NewPayment {
        NewPayment {
            method: PaymentMethod::Card,
            payment_token: token.into(),
            amount: None,
            capture_method: None,
        }
    }

    #[test]
    fn a_card_number_is_refused() {
        assert!(payment("pm_card_visa").validate().is_ok());
        for wrong in [
            "4242424242424242",
            "4242-4242-4242-4242",
            "4242_4242_4242_4242",
            "card4242424242424242",
            "",
            "a b",
            "tok\n",
        ] {
            let invalid = payment(wrong).validate().expect_err(wrong);
            assert_eq!(invalid.errors[0].pointer, "/payment_token");
        }
    }

    #[test]
    fn the_whole_transition_table() {
        use PaymentStatus::{
            Authorized, Captured, Failed, PartiallyRefunded, Processing, Refunded, RequiresAction, Voided,
        };
        let allowed = [
            (Processing, RequiresAction),
            (Processing, Authorized),
            (Processing, Failed),
            (Processing, Voided),
            (RequiresAction, Processing),
            (RequiresAction, Authorized),
            (RequiresAction, Failed),
            (RequiresAction, Voided),
            (Authorized, Captured),
            (Authorized, Voided),
            (Authorized, Failed),
            (Captured, PartiallyRefunded),
            (Captured, Refunded),
            (PartiallyRefunded, Refunded),
            (PartiallyRefunded, Captured),
            (Refunded, PartiallyRefunded),
            (Refunded, Captured),
        ];
        for &from in PaymentStatus::ALL {
            for &to in PaymentStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_path_takes_every_step_and_never_goes_back() {
        use PaymentStatus::{Authorized, Captured, Failed, PartiallyRefunded, Processing, Refunded, Voided};
        assert_eq!(Processing.path_to(Authorized), [Authorized]);
        assert_eq!(Processing.path_to(Captured), [Authorized, Captured]);
        assert_eq!(PartiallyRefunded.path_to(Captured), []);
        assert_eq!(Refunded.path_to(PartiallyRefunded), []);
        assert_eq!(Captured.path_to(Authorized), []);
        assert_eq!(Captured.path_to(Captured), []);
        assert_eq!(Refunded.path_to(Captured), []);
        assert_eq!(Failed.path_to(Authorized), []);
        assert_eq!(Authorized.path_to(Failed), [Failed]);
        assert_eq!(Voided.path_to(Captured), []);
    }

    #[test]
    fn every_path_is_made_of_allowed_transitions() {
        for &from in PaymentStatus::ALL {
            for &to in PaymentStatus::ALL {
                let mut at = from;
                for next in from.path_to(to) {
                    assert!(at.may_become(next), "{from} to {to}: {at} to {next}");
                    at = next;
                }
            }
        }
    }
}
