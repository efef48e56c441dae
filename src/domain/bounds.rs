//! The bounds of what a request may hold, each in one place for those who check it and those who tell of it: a type here is
//! a schema of the API's document (`#[schema(value_type = Quantity)]`), and its `require` is the same rule.
//!
//! Only what can be said of one value belongs here; whatever takes more to decide is another
//! [`Rule`](super::validation::Rule).

use std::{collections::BTreeMap, ops::RangeInclusive};

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, RefOr, SchemaFormat,
        schema::{AdditionalProperties, Object, ObjectBuilder, OneOfBuilder, Schema, Type},
    },
};

use super::{inventory::MAX_QUANTITY, money::MAX_AMOUNT, validation::Validator};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $range:expr),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// What is allowed.
            pub const RANGE: RangeInclusive<i64> = $range;

            /// Notes that `pointer` is wrong, unless it is absent or in range.
            pub fn require(check: &mut Validator, value: impl Into<Option<i64>>, pointer: impl Into<String>) {
                let (least, most) = (Self::RANGE.start(), Self::RANGE.end());
                let valid = value.into().is_none_or(|value| Self::RANGE.contains(&value));
                check.require(valid, pointer, format!("must be {least} to {most}"));
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                integer(&Self::RANGE).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

numbers! {
    /// So many units, at least one.
    Quantity = 1..=MAX_QUANTITY,
    /// A counter of a level.
    UnitCount = 0..=MAX_QUANTITY,
    /// An amount of money, minor units.
    Amount = 1..=MAX_AMOUNT,
    /// The price of one unit, minor units.
    UnitAmount = 0..=MAX_AMOUNT,
    /// How long stock is held for payment. A deployment allows `order.max_reservation_ttl_seconds`, and its document says so.
    HoldSeconds = 1..=31_536_000,
    /// How far back the orders go that a purchase limit counts: ten years at most.
    WindowSeconds = 1..=315_360_000,
    /// How long an API key lives on after it was rotated: 90 days at most.
    GraceSeconds = 1..=90 * 86_400,
    /// How long messages are still signed with a secret that was rotated: 7 days at most. 0: no more.
    SecretGraceSeconds = 0..=7 * 86_400,
    /// How many entries a page has at most; 50 if it is not said.
    PageSize = 1..=100,
    /// A place in a list of events: 0 is before the first. No number that a JSON reader would round.
    EventPlace = 0..=(1 << 53) - 1,
    /// The number of a row of an import: 0 is before the first.
    RowNumber = 0..=200_000,
    /// The priority of a location. The last one is that of a location that nobody has set.
    Priority = 0..=1000,
}

/// By how much a counter changes: not by 0.
#[derive(Debug)]
pub struct UnitDelta;

impl UnitDelta {
    /// Notes that `pointer` is wrong, unless it is one.
    pub fn require(check: &mut Validator, value: i64, pointer: impl Into<String>) {
        let valid = value != 0 && (-MAX_QUANTITY..=MAX_QUANTITY).contains(&value);
        check.require(valid, pointer, format!("must be -{MAX_QUANTITY} to {MAX_QUANTITY}, and not 0"));
    }
}

impl PartialSchema for UnitDelta {
    fn schema() -> RefOr<Schema> {
        let more = integer(&(1..=MAX_QUANTITY));
        let less = integer(&(-MAX_QUANTITY..=-1));
        Schema::OneOf(OneOfBuilder::new().item(more).item(less).build()).into()
    }
}

impl ToSchema for UnitDelta {}

impl HoldSeconds {
    /// The same where a deployment allows `most`.
    pub fn require_up_to(check: &mut Validator, most: i64, value: i64, pointer: impl Into<String>) {
        check.require((1..=most).contains(&value), pointer, format!("must be 1 to {most}"));
    }
}

fn integer(range: &RangeInclusive<i64>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(*range.start()))
        .maximum(Some(*range.end()))
        .build()
}

/// One of these words.
pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build().into()
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $length:expr, $pattern:literal, $allowed:expr, $detail:literal);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            /// How many characters.
            pub const LENGTH: RangeInclusive<usize> = $length;

            /// Whether a text is one.
            pub fn allows(text: &str) -> bool {
                Self::LENGTH.contains(&text.chars().count()) && text.chars().all($allowed)
            }

            /// Notes that `pointer` is wrong, unless it is absent or one.
            pub fn require<'a>(
                check: &mut Validator,
                text: impl Into<Option<&'a str>>,
                pointer: impl Into<String>,
            ) {
                check.require(text.into().is_none_or(Self::allows), pointer, $detail);
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text(&Self::LENGTH, $pattern).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

texts! {
    /// Words or a reference of the merchant's own.
    Text = 1..=255, "^[^\\x00-\\x1f\\x7f-\\x9f]*$", |c| !c.is_control(),
        "must be 1 to 255 characters without control characters";
    /// What the provider gave the customer's browser for their card or wallet.
    PaymentToken = 1..=255, "^[A-Za-z0-9_-]*$", |c| c.is_ascii_alphanumeric() || c == '_' || c == '-',
        "must be the provider's token: 1 to 255 letters, digits, hyphens and underscores";
    /// The key of an entry of the merchant's own data.
    MetadataKey = 1..=40, "^[^\\x00]*$", |c| c != '\0', "must be a key of 1 to 40 characters, without NUL";
    /// The value of such an entry.
    MetadataValue = 0..=500, "^[^\\x00]*$", |c| c != '\0', "must be at most 500 characters, without NUL";
}

fn text(length: &RangeInclusive<usize>, pattern: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(*length.start()))
        .max_length(Some(*length.end()))
        .pattern(Some(pattern))
        .build()
}

/// The merchant's own data.
#[derive(Debug)]
pub struct Metadata;

impl Metadata {
    const MAX_ENTRIES: usize = 50;

    /// Notes which entries of `/metadata` are wrong.
    pub fn require(check: &mut Validator, metadata: &BTreeMap<String, String>) {
        let most = Self::MAX_ENTRIES;
        check.require(metadata.len() <= most, "/metadata", format!("must hold at most {most} entries"));
        for (key, value) in metadata {
            let pointer = format!("/metadata/{}", key.replace('~', "~0").replace('/', "~1"));
            MetadataKey::require(check, key.as_str(), &pointer);
            MetadataValue::require(check, value.as_str(), &pointer);
        }
    }
}

impl PartialSchema for Metadata {
    fn schema() -> RefOr<Schema> {
        let (keys, values) = (MetadataKey::schema(), MetadataValue::schema());
        let keys = if let RefOr::T(keys) = keys { Some(keys) } else { None };
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .property_names(keys)
            .additional_properties(Some(AdditionalProperties::RefOr(values)))
            .max_properties(Some(Self::MAX_ENTRIES))
            .build()
            .into()
    }
}

impl ToSchema for Metadata {}

/// Where the customer can follow a shipment.
#[derive(Debug)]
pub struct WebUrl;

impl WebUrl {
    const LENGTH: RangeInclusive<usize> = 8..=2048;

    /// Notes that `pointer` is wrong, unless it is absent or a URL of the web.
    pub fn require<'a>(check: &mut Validator, url: impl Into<Option<&'a str>>, pointer: impl Into<String>) {
        let is_url = |url: &str| {
            let is_web = url.starts_with("https://") || url.starts_with("http://");
            is_web && Self::LENGTH.contains(&url.len()) && url.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let valid = url.into().is_none_or(is_url);
        check.require(valid, pointer, "must be an http or https URL of 8 to 2048 visible ASCII characters");
    }
}

impl PartialSchema for WebUrl {
    fn schema() -> RefOr<Schema> {
        text(&Self::LENGTH, "^https?://[!-~]*$").into()
    }
}

impl ToSchema for WebUrl {}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex};

    use super::*;
    use crate::domain::{line_quantity::LineQuantity, new_order::MAX_LINES};

    /// The schema of a type, as it is served.
    fn schema<T: PartialSchema>() -> serde_json::Value {
        serde_json::to_value(T::schema()).expect("a schema")
    }

    /// Texts that the schema allows.
    fn allowed<T: PartialSchema>() -> impl Strategy<Value = String> {
        let schema = schema::<T>();
        let pattern = schema["pattern"].as_str().expect("a pattern").replace('*', "{0,600}");
        let bound = |name: &str| usize::try_from(schema[name].as_u64().expect("a length")).expect("a length");
        let length = bound("minLength")..=bound("maxLength");
        let texts = string_regex(pattern.trim_matches(['^', '$'])).expect("a regular expression");
        texts.prop_map(move |text| {
            let padded =
                if text.chars().count() < *length.start() { "x".repeat(*length.start()) } else { text };
            padded.chars().take(*length.end()).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_a_schema_allows_is_valid(
            text in allowed::<Text>(), token in allowed::<PaymentToken>(),
            key in allowed::<MetadataKey>(), value in allowed::<MetadataValue>(),
        ) {
            prop_assert!(Text::allows(&text), "{text:?}");
            prop_assert!(PaymentToken::allows(&token), "{token:?}");
            prop_assert!(MetadataKey::allows(&key), "{key:?}");
            prop_assert!(MetadataValue::allows(&value), "{value:?}");
        }
    }

    #[test]
    fn a_number_is_valid_up_to_the_bounds_that_its_schema_tells() {
        let schema = schema::<Quantity>();
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        assert_eq!((least, most), (Some(1), Some(MAX_QUANTITY)));
        for (value, valid) in [(0, false), (1, true), (MAX_QUANTITY, true), (MAX_QUANTITY + 1, false)] {
            let mut check = Validator::default();
            Quantity::require(&mut check, value, "/quantity");
            assert_eq!(check.finish().is_ok(), valid, "{value}");
        }
    }

    #[test]
    fn a_list_of_lines_is_as_long_in_its_schema_as_in_its_validation() {
        // Literals, because an attribute takes nothing else.
        let lists = [
            (schema::<crate::domain::new_order::NewOrder>(), "lines"),
            (schema::<crate::domain::refund::NewRefund>(), "lines"),
        ];
        for (schema, field) in lists {
            let list = &schema["properties"][field];
            assert_eq!((&list["minItems"], &list["maxItems"]), (&1.into(), &MAX_LINES.into()), "{schema}");
        }
        assert_eq!(schema::<LineQuantity>()["additionalProperties"], false);
    }
}
