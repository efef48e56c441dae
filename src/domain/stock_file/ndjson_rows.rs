//! NDJSON: one JSON object a line. Empty lines are none.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Field, ImportMode, NewImportRow, require_room};
use crate::domain::{stock_import::RowError, validation::Invalid};

/// The most fields that the object of a row may have: more than there are, so that a wrong one is named.
const FIELDS_MAX: usize = 16;

pub(super) fn read(file: &[u8], mode: ImportMode) -> Result<Vec<NewImportRow>, Invalid> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        require_room(&rows)?;
        let mut row = NewImportRow { line, ..NewImportRow::default() };
        match serde_json::from_slice::<Object>(text) {
            Ok(object) => put_object(&mut row, object, mode),
            Err(error) => {
                // It may quote what it found in place of an object.
                let reason = shown(&error.to_string(), 200);
                let detail = format!("must be a JSON object of at most {FIELDS_MAX} fields: {reason}");
                row.fail(RowError::ROW, detail);
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn put_object(row: &mut NewImportRow, Object(fields): Object, mode: ImportMode) {
    let mut seen = Vec::with_capacity(fields.len());
    for (name, value) in fields {
        match Field::find(mode, &name) {
            Ok(field) if seen.contains(&field) => {
                row.fail(field.name(), "must be given once");
            }
            Ok(field) => {
                seen.push(field);
                row.put_value(field, value);
            }
            Err(detail) => row.fail(shown(&name, 64), detail),
        }
    }
}

/// What is the client's, as it is stored and answered: so much as tells which it is, and without control characters, of
/// which PostgreSQL stores no NUL.
fn shown(text: &str, most: usize) -> String {
    let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(most).map(visible).collect()
}

impl NewImportRow {
    /// A field as JSON; `null` is absent.
    fn put_value(&mut self, field: Field, value: Given) {
        match (field, value) {
            (_, Given::Null) => {}
            (Field::Sku | Field::LocationId, Given::Text(text)) => self.put_name(field, &text),
            (Field::Sku | Field::LocationId, _) => self.fail(field.name(), "must be a string"),
            (_, Given::Whole(number)) => self.put_number(field, Some(number)),
            (_, Given::Text(_) | Given::Other) => self.put_number(field, None),
        }
    }
}

/// The fields of an object, each as often as it was given.
struct Object(Vec<(String, Given)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(A::Error::custom(format!("it has more than {FIELDS_MAX}")));
                    }
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// What a field holds. Of what no field may hold, which may be large, nothing is kept.
enum Given {
    Null,
    Text(String),
    Whole(i64),
    Other,
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Given;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Given, E> {
                Ok(Given::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_i64<E>(self, number: i64) -> Result<Given, E> {
                Ok(Given::Whole(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Given, E> {
                Ok(i64::try_from(number).map_or(Given::Other, Given::Whole))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
                Ok(Given::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<Given, E> {
                Ok(Given::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Given, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Given::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Given, A::Error> {
                while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Given::Other)
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(file: &str) -> Vec<RowError> {
        let mut rows = read(file.as_bytes(), ImportMode::Set).expect("rows");
        assert_eq!(rows.len(), 1, "{file}");
        rows.remove(0).errors
    }

    #[test]
    fn a_row_of_very_many_fields_says_so_once() {
        let wrong = errors(&format!("{{{}\"sku\":\"a\"}}", "\"x\":1,".repeat(1_000_000)));
        assert_eq!(wrong.len(), 1);
        let detail = wrong[0].detail.as_str();
        assert!(
            detail.starts_with("must be a JSON object of at most 16 fields: it has more than 16"),
            "{detail}"
        );
        let as_many_as_there_may_be = format!("{{{}\"sku\":\"a\"}}", "\"x\":1,".repeat(15));
        let fields: Vec<_> = errors(&as_many_as_there_may_be).into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["x", "x", "x"]);
    }

    #[test]
    fn what_is_quoted_holds_no_control_characters_and_is_short() {
        let name = format!(r#"{{"a\u0000\u001b[2J{}":1}}"#, "x".repeat(1_000));
        let field = &errors(&name)[0].field;
        assert!(field.starts_with("a\u{fffd}\u{fffd}[2Jx") && field.chars().count() == 64, "{field}");
        for line in [r#""a\u0000""#, r#"{"a":1,"b\u0000""#, "{\"a\u{0}\":1}", "\u{7f}"] {
            let error = errors(line).remove(0);
            assert_eq!(error.field, RowError::ROW, "{line}");
            assert!(!error.detail.chars().any(char::is_control), "{line}: {error:?}");
        }
    }

    #[test]
    fn what_no_field_may_hold_is_skipped_whatever_it_is() {
        for value in ["[[],[]]", r#"{"a":{"b":[1]}}"#, "true", "1.5", "18446744073709551615", r#""7""#] {
            let wrong = errors(&format!(r#"{{"sku":"a","on_hand":{value}}}"#));
            assert_eq!(wrong[0].field, "on_hand", "{value}");
            assert!(wrong[0].detail.starts_with("must be a whole number"), "{value}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(errors(&format!(r#"{{"sku":{deep},"on_hand":1}}"#))[0].detail, "must be a string");
    }
}
