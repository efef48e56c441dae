//! How invalid input is reported: every wrong field at once, each by its JSON pointer, with what is allowed, and under the
//! rule that it breaks.
//!
//! What a schema can say of one field is [`Rule::Field`], and nothing else is: the API's document says it too
//! ([`super::bounds`]). Whatever takes more than one field, or what is stored, to decide is a rule with a name of its own.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer (RFC 6901) of the field in the request body, e.g. `/lines/0/quantity`; or `?limit` for a query
    /// parameter, or the header's name.
    pub pointer: String,
    /// What is wrong with it and what is allowed.
    pub detail: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pointer, self.detail)
    }
}

/// The JSON pointer (RFC 6901) of a place.
pub fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escaped(key)),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

/// A name as a JSON pointer has it.
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What a request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A field is wrong by itself.
    Field,
    /// Fields are right by themselves, and do not go together.
    Together,
    /// A SKU has no level at its location.
    UnknownSku,
    /// There is no such location.
    UnknownLocation,
    /// Stock lies at several locations, and none is named.
    LocationNeeded,
    /// A SKU has a purchase limit, and no customer is named.
    CustomerNeeded,
    /// A line is of something else, or has fewer units left than are asked for.
    LineQuantityUnavailable,
    /// Nothing would be left to pay.
    NothingLeftToPay,
    /// The units cost nothing.
    NothingToRefund,
    /// The amount is not what is due.
    AmountMismatch,
    /// The amount to capture is more than is authorized and due.
    AmountExceedsAuthorized,
    /// An order would be held for longer than any may be.
    ExtensionTooLong,
    /// A level would hold more than any may.
    OnHandTooLarge,
    /// A card number in place of a token.
    CardNumberRefused,
    /// A stock file is wrong as a whole.
    StockFileInvalid,
    /// Nothing is posted to such a URL.
    WebhookUrlRefused,
}

impl Rule {
    /// A stable name of the rule, by which programs tell them apart.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Field => "validation_failed",
            Self::Together => "inconsistent_fields",
            Self::UnknownSku => "unknown_sku",
            Self::UnknownLocation => "unknown_location",
            Self::LocationNeeded => "location_needed",
            Self::CustomerNeeded => "customer_needed",
            Self::LineQuantityUnavailable => "line_quantity_unavailable",
            Self::NothingLeftToPay => "nothing_left_to_pay",
            Self::NothingToRefund => "nothing_to_refund",
            Self::AmountMismatch => "amount_mismatch",
            Self::AmountExceedsAuthorized => "amount_exceeds_authorized",
            Self::ExtensionTooLong => "extension_too_long",
            Self::OnHandTooLarge => "on_hand_too_large",
            Self::CardNumberRefused => "card_number_refused",
            Self::StockFileInvalid => "stock_file_invalid",
            Self::WebhookUrlRefused => "webhook_url_refused",
        }
    }
}

/// A request that asks for something that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What it breaks.
    pub rule: Rule,
    /// Where, and what is allowed.
    pub errors: Vec<FieldError>,
}

impl Invalid {
    /// What breaks `rule` at one place.
    pub fn new(rule: Rule, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { rule, errors: vec![FieldError { pointer: pointer.into(), detail: detail.into() }] }
    }

    /// A field that is wrong by itself.
    pub fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Rule::Field, pointer, detail)
    }
}

/// Collects what is wrong with one request.
#[derive(Debug, Default)]
pub struct Validator {
    errors: Vec<FieldError>,
    broken: Option<Rule>,
}

impl Validator {
    /// Notes that `pointer` is wrong by itself, unless `holds`.
    pub fn require(&mut self, holds: bool, pointer: impl Into<String>, detail: impl Into<String>) {
        self.require_rule(Rule::Field, holds, pointer, detail);
    }

    /// Notes that `pointer` breaks `rule`, unless `holds`. A request that breaks several is reported under one of them: a
    /// field that is wrong by itself first, then the rule that was looked at first.
    pub fn require_rule(
        &mut self,
        rule: Rule,
        holds: bool,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) {
        if !holds {
            self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
            self.broken = Some(if rule == Rule::Field { rule } else { self.broken.unwrap_or(rule) });
        }
    }

    /// The value, or a note of why `pointer` does not hold one.
    pub fn check<T, E: std::fmt::Display>(
        &mut self,
        result: Result<T, E>,
        pointer: impl Into<String>,
    ) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.require(false, pointer, error.to_string());
                None
            }
        }
    }

    /// `Ok` if nothing was wrong.
    pub fn finish(self) -> Result<(), Invalid> {
        self.broken.map_or(Ok(()), |rule| Err(Invalid { rule, errors: self.errors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_names_the_report_and_nothing_is_left_out() {
        let rule = |rules: &[Rule]| {
            let mut check = Validator::default();
            for rule in rules {
                check.require_rule(*rule, false, "/a", "is wrong");
            }
            let invalid = check.finish().expect_err("wrong");
            assert_eq!(invalid.errors.len(), rules.len());
            invalid.rule
        };
        assert_eq!(rule(&[Rule::Together, Rule::CardNumberRefused]), Rule::Together);
        assert_eq!(rule(&[Rule::Together, Rule::Field]), Rule::Field);
        assert_eq!(rule(&[Rule::Field, Rule::Together]), Rule::Field);
        assert_eq!(Validator::default().finish(), Ok(()));
    }
}
