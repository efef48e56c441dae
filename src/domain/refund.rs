//! Refunds: money on its way back, and what may be asked for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bounds::{Amount, Text},
    ids::{OrderId, PaymentId, RefundId},
    line_quantity::{self, LineQuantity},
    status::status,
    validation::{Invalid, Rule, Validator},
};

status! {
    /// The life of a refund. A time-out of the provider is unknown, never failed: it stays `pending`.
    RefundStatus {
        /// Decided; its money is claimed, and the provider has not said yes or no.
        Pending = "pending" => [Succeeded, Failed],
        /// The provider sent the money back. It may come back from the customer's bank days later.
        Succeeded = "succeeded" => [Failed],
        /// The customer does not get it; the money is no longer claimed.
        Failed = "failed" => [],
    }
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refund {
    /// Its id; also the idempotency key towards the provider.
    pub id: RefundId,
    /// The payment.
    pub payment_id: PaymentId,
    /// The order of that payment.
    pub order_id: OrderId,
    /// How much, minor units.
    pub amount: i64,
    /// Where it stands.
    pub status: RefundStatus,
    /// Why.
    pub reason: Option<String>,
    /// Why the provider refused.
    pub failure_code: Option<String>,
    /// Since when the provider owes an answer to a request that may have taken effect.
    pub outcome_unknown_since: Option<DateTime<Utc>>,
    /// When the provider was first asked for it.
    #[serde(skip)]
    pub asked_at: Option<DateTime<Utc>>,
    /// When the provider had taken it on, and not carried it out yet.
    #[serde(skip)]
    pub accepted_at: Option<DateTime<Utc>>,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// Which units it is for, where it names them.
    pub lines: Vec<LineQuantity>,
}

/// A refund, as asked for: of an amount, of units of lines, or of everything that is left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "amount": 1999, "reason": "Came damaged" }))]
pub struct NewRefund {
    /// How much, minor units.
    #[schema(value_type = Option<Amount>)]
    pub amount: Option<i64>,
    /// Which units; the amount is what they cost. Not with `amount`.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Option<Vec<LineQuantity>>,
    /// Why, in the merchant's words.
    #[schema(value_type = Option<Text>)]
    pub reason: Option<String>,
    /// Whether the units, which have shipped, are back on the shelf.
    #[serde(default)]
    pub restock: bool,
}

impl NewRefund {
    /// Checks the fields that need no payment to be checked.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut check = Validator::default();
        Text::require(&mut check, self.reason.as_deref(), "/reason");
        Amount::require(&mut check, self.amount, "/amount");
        check.require_rule(
            Rule::Together,
            self.amount.is_none() || self.lines.is_none(),
            "/amount",
            "must not be given with lines: they say how much",
        );
        check.require_rule(
            Rule::Together,
            !self.restock || self.lines.is_some(),
            "/restock",
            "must be given with lines: they say what is back",
        );
        if let Some(lines) = &self.lines {
            line_quantity::validate(&mut check, lines);
        }
        check.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_transition_table() {
        use RefundStatus::{Failed, Pending, Succeeded};
        for &from in RefundStatus::ALL {
            for &to in RefundStatus::ALL {
                let allowed =
                    [(Pending, Succeeded), (Pending, Failed), (Succeeded, Failed)].contains(&(from, to));
                assert_eq!(from.may_become(to), allowed, "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_refund_says_how_much_in_one_way_only() {
        let line = LineQuantity { line_id: crate::domain::ids::OrderLineId::new(), quantity: 1 };
        let both = NewRefund { amount: Some(1), lines: Some(vec![line]), ..NewRefund::default() };
        let nothing = NewRefund { amount: Some(0), restock: true, ..NewRefund::default() };
        let pointers = |refund: &NewRefund| -> Vec<String> {
            refund.validate().expect_err("wrong").errors.into_iter().map(|error| error.pointer).collect()
        };
        assert_eq!(pointers(&both), ["/amount"]);
        assert_eq!(pointers(&nothing), ["/amount", "/restock"]);
        assert!(NewRefund::default().validate().is_ok());
    }
}
