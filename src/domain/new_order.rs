//! New orders: what a merchant may ask for, checked field by field.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    allocation::{Allocation, Wanted},
    bounds::{HoldSeconds, Metadata, Quantity, Text, UnitAmount},
    event::{OrderCreated, OrderCreatedLine},
    ids::{OrderId, OrderLineId},
    inventory::{LevelKey, LocationId, MAX_QUANTITY, Sku},
    money::{self, Currency, MAX_AMOUNT},
    order::{CaptureMethod, LineAllocation, OrderStatus},
    validation::{Invalid, Rule, Validator},
};

/// The most lines an order may have. Real baskets reach 153; a batch of such orders still fits one transaction.
pub const MAX_LINES: usize = 500;

/// One line of a new order, as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrderLine {
    /// What is bought.
    pub sku: Sku,
    /// How many.
    #[schema(value_type = Quantity)]
    pub quantity: i64,
    /// Price of one, in minor units.
    #[schema(value_type = UnitAmount)]
    pub unit_amount: i64,
    /// The one location that it is taken from. If absent, the first active location by priority that has all of it.
    pub location_id: Option<LocationId>,
}

/// A new order, as asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "client_reference": "web-10042", "customer_id": "c-77", "currency": "USD", "lines": [{ "sku": "TEE-BLACK-M", "quantity": 2, "unit_amount": 1999 }] }))]
pub struct NewOrder {
    /// The merchant's own name for the order. At most one order ever has it (G2).
    #[schema(value_type = Option<Text>)]
    pub client_reference: Option<String>,
    /// The merchant's name for the customer.
    #[schema(value_type = Option<Text>)]
    pub customer_id: Option<String>,
    /// Currency of every amount in the order.
    pub currency: Currency,
    /// What is bought. Several lines may name one SKU: their demand adds up.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Vec<NewOrderLine>,
    /// How long the stock is held for payment.
    #[schema(value_type = Option<HoldSeconds>)]
    pub reservation_ttl_seconds: Option<i64>,
    /// Whether one line may be taken from several locations, where no location has all of it.
    #[serde(default)]
    pub allow_split: bool,
    /// When the money is captured.
    #[serde(default)]
    pub capture_method: CaptureMethod,
    /// The merchant's own data, kept and returned as it is.
    #[serde(default)]
    #[schema(value_type = Metadata)]
    pub metadata: BTreeMap<String, String>,
}

/// What a deployment lets an order ask for.
#[derive(Debug, Clone)]
pub struct OrderLimits {
    /// The location at which stock is set that names none.
    pub default_location: LocationId,
    /// How long stock is held where the order does not say.
    pub default_ttl_seconds: i64,
    /// The longest time stock may be held.
    pub max_ttl_seconds: i64,
}

/// A valid order that is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDraft {
    /// Its id, made before the transaction so that a retry after an unknown commit is recognised.
    pub id: OrderId,
    /// See [`NewOrder::client_reference`].
    pub client_reference: Option<String>,
    /// See [`NewOrder::customer_id`].
    pub customer_id: Option<String>,
    /// See [`NewOrder::currency`].
    pub currency: Currency,
    /// Its lines, at least one.
    pub lines: Vec<OrderLineDraft>,
    /// See [`NewOrder::allow_split`].
    pub allow_split: bool,
    /// The sum of its lines, at least 1.
    pub total_amount: i64,
    /// How long the stock is held.
    pub ttl_seconds: i64,
    /// See [`NewOrder::capture_method`].
    pub capture_method: CaptureMethod,
    /// See [`NewOrder::metadata`].
    pub metadata: BTreeMap<String, String>,
}

/// A valid line of an order that is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLineDraft {
    /// Its id.
    pub id: OrderLineId,
    /// What is bought.
    pub sku: Sku,
    /// See [`NewOrderLine::location_id`].
    pub location_id: Option<LocationId>,
    /// How many.
    pub quantity: i64,
    /// Price of one, in minor units.
    pub unit_amount: i64,
}

impl OrderDraft {
    /// What it wants of the stock.
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { lines: &self.lines, allow_split: self.allow_split }
    }

    /// The order as it is once placed, at version 1, with its lines taken from these levels, one allocation for each.
    pub fn to_created(
        &self,
        allocations: &[Allocation],
        now: DateTime<Utc>,
        expires_at: DateTime<Utc>,
    ) -> OrderCreated {
        let lines = self.lines.iter().zip(allocations).map(|(line, allocation)| OrderCreatedLine {
            id: line.id,
            sku: allocation.first.level.sku.clone(),
            location_id: allocation.first.level.location_id.clone(),
            quantity: line.quantity,
            unit_amount: line.unit_amount,
            quantity_canceled: 0,
            quantity_fulfilled: 0,
            allocations: LineAllocation::of_split(allocation),
        });
        OrderCreated {
            id: self.id,
            client_reference: self.client_reference.clone(),
            customer_id: self.customer_id.clone(),
            status: OrderStatus::PendingPayment,
            version: 1,
            currency: self.currency,
            total_amount: self.total_amount,
            capture_method: self.capture_method,
            metadata: self.metadata.clone(),
            expires_at,
            canceled_at: None,
            cancel_reason: None,
            created_at: now,
            updated_at: now,
            lines: lines.collect(),
        }
    }
}

impl NewOrder {
    /// Checks every field and makes the draft, or names every field that is wrong.
    pub fn validate(self, limits: &OrderLimits) -> Result<OrderDraft, Invalid> {
        let mut check = Validator::default();
        Text::require(&mut check, self.client_reference.as_deref(), "/client_reference");
        Text::require(&mut check, self.customer_id.as_deref(), "/customer_id");
        Metadata::require(&mut check, &self.metadata);
        let ttl_seconds = self.reservation_ttl_seconds.unwrap_or(limits.default_ttl_seconds);
        let most = limits.max_ttl_seconds;
        HoldSeconds::require_up_to(&mut check, most, ttl_seconds, "/reservation_ttl_seconds");
        check.require(
            (1..=MAX_LINES).contains(&self.lines.len()),
            "/lines",
            format!("must hold 1 to {MAX_LINES} lines"),
        );
        for (index, line) in self.lines.iter().enumerate() {
            Quantity::require(&mut check, line.quantity, format!("/lines/{index}/quantity"));
            UnitAmount::require(&mut check, line.unit_amount, format!("/lines/{index}/unit_amount"));
        }
        check.finish()?;
        let total_amount = self.checked_total()?;
        let lines = self.lines.into_iter().map(NewOrderLine::draft).collect();
        Ok(OrderDraft {
            id: OrderId::new(),
            client_reference: self.client_reference,
            customer_id: self.customer_id,
            currency: self.currency,
            lines,
            allow_split: self.allow_split,
            total_amount,
            ttl_seconds,
            capture_method: self.capture_method,
            metadata: self.metadata,
        })
    }

    fn checked_total(&self) -> Result<i64, Invalid> {
        let mut check = Validator::default();
        let total = money::total(self.lines.iter().map(|line| (line.quantity, line.unit_amount)));
        let quantity = self.lines.iter().map(|line| line.quantity).sum::<i64>();
        check.require_rule(
            Rule::Together,
            quantity <= MAX_QUANTITY,
            "/lines",
            format!("quantities must add up to at most {MAX_QUANTITY}"),
        );
        match total {
            None => check.require_rule(
                Rule::Together,
                false,
                "/lines",
                format!("the total must be at most {MAX_AMOUNT} (minor units)"),
            ),
            // A single free line is fine, an order without a price is not: nothing could ever pay it.
            Some(0) => {
                for index in 0..self.lines.len() {
                    let pointer = format!("/lines/{index}/unit_amount");
                    let detail = "must be at least 1 on one line: the order's total is 0";
                    check.require_rule(Rule::Together, false, pointer, detail);
                }
            }
            Some(_) => {}
        }
        check.finish()?;
        Ok(total.unwrap_or_default())
    }
}

impl NewOrderLine {
    fn draft(self) -> OrderLineDraft {
        OrderLineDraft {
            id: OrderLineId::new(),
            sku: self.sku,
            location_id: self.location_id,
            quantity: self.quantity,
            unit_amount: self.unit_amount,
        }
    }
}

impl OrderLineDraft {
    /// The only level that it may be taken from, if it names its location.
    pub fn named_level(&self) -> Option<LevelKey> {
        let location_id = self.location_id.clone()?;
        Some(LevelKey { sku: self.sku.clone(), location_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> OrderLimits {
        OrderLimits {
            default_location: "main".parse().expect("a location"),
            default_ttl_seconds: 900,
            max_ttl_seconds: 3600,
        }
    }

    fn order(lines: &[(&str, i64, i64)]) -> NewOrder {
        let lines = lines.iter().map(|&(sku, quantity, unit_amount)| {
            serde_json::json!({"sku": sku, "quantity": quantity, "unit_amount": unit_amount})
        });
        let body = serde_json::json!({"currency": "USD", "lines": lines.collect::<Vec<_>>()});
        serde_json::from_value(body).expect("an order")
    }

    fn pointers(order: NewOrder) -> Vec<String> {
        order
            .validate(&limits())
            .expect_err("invalid")
            .errors
            .into_iter()
            .map(|error| error.pointer)
            .collect()
    }

    #[test]
    fn every_line_stands_for_itself_and_adds_to_the_total() {
        let draft = order(&[("b", 2, 5), ("a", 1, 7), ("b", 3, 5)]).validate(&limits()).expect("valid");
        let lines: Vec<_> =
            draft.wanted().lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect();
        assert_eq!(lines, [("b", 2), ("a", 1), ("b", 3)]);
        assert_eq!(draft.total_amount, 32);
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert_eq!(
            pointers(order(&[("a", 0, 1), ("b", 1, -1)])),
            ["/lines/0/quantity", "/lines/1/unit_amount"]
        );
        assert_eq!(pointers(order(&[("a", i64::MAX, 1)])), ["/lines/0/quantity"]);
        assert_eq!(pointers(order(&[("a", MAX_QUANTITY, MAX_AMOUNT)])), ["/lines"]);
        assert_eq!(pointers(order(&[("a", MAX_QUANTITY, 1), ("b", 1, 1)])), ["/lines"]);
        assert_eq!(pointers(order(&[])), ["/lines"]);
        let mut long = order(&[("a", 1, 1)]);
        long.reservation_ttl_seconds = Some(3601);
        long.client_reference = Some("a\u{7}".into());
        assert_eq!(pointers(long), ["/client_reference", "/reservation_ttl_seconds"]);
    }

    #[test]
    fn a_free_line_is_allowed_and_a_free_order_is_not() {
        assert!(order(&[("a", 1, 0), ("b", 1, 1)]).validate(&limits()).is_ok());
        assert_eq!(pointers(order(&[("a", 1, 0)])), ["/lines/0/unit_amount"]);
    }
}
