//! NDJSON: one JSON object a line. Empty lines are none.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Field, ImportMode, NewImportRow, require_room};
use crate::domain::{stock_import::RowError, validation::Invalid};

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
                // It may quote what it found in place of an object, however long that is.
                let reason: String = error.to_string().chars().take(200).collect();
                row.errors.push(RowError::new(RowError::ROW, format!("must be a JSON object: {reason}")));
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
                row.errors.push(RowError::new(field.name(), "must be given once"));
            }
            Ok(field) => {
                seen.push(field);
                row.put_value(field, &value);
            }
            // The name is the client's: as much of it as tells which it is.
            Err(detail) => row.errors.push(RowError::new(name.chars().take(64).collect::<String>(), detail)),
        }
    }
    // One row may have any number of unknown fields.
    row.errors.truncate(16);
}

/// An object whose fields are all there, also one that was given twice.
struct Object(Vec<(String, Value)>);

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
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}
