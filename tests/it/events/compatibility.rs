//! Whether a schema of events may take the place of another: full compatibility. Who knows only the old one reads the new
//! events, and who knows the new one reads the old events, which are still stored, so the only change is a new optional field.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// What says something to people, and nothing to programs.
const ANNOTATIONS: [&str; 6] = ["$comment", "$id", "description", "examples", "example", "title"];

/// What hold a schema each.
const NESTED: [&str; 4] = ["items", "additionalProperties", "propertyNames", "not"];

/// What hold schemas, all of which count.
const CHOICES: [&str; 3] = ["oneOf", "anyOf", "allOf"];

/// What of `new` breaks who relies on `old`: the place and the reason of each change that is not additive.
pub(super) fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        if old != new {
            found.push(format!("{at}: {old} became {new}"));
        }
        return;
    };
    compare_fields(at, old, new, found);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let name = name.as_str();
        if ANNOTATIONS.contains(&name) || ["properties", "required"].contains(&name) {
            continue;
        }
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if NESTED.contains(&name) => {
                compare(&format!("{at}/{name}"), old, new, found);
            }
            (Some(Value::Array(old)), Some(Value::Array(new)))
                if CHOICES.contains(&name) && old.len() == new.len() =>
            {
                for (index, (old, new)) in old.iter().zip(new).enumerate() {
                    compare(&format!("{at}/{name}/{index}"), old, new, found);
                }
            }
            (old, new) if sorted(name, old) != sorted(name, new) => {
                let text =
                    |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), Value::to_string);
                found.push(format!("{at}: {name} was {}, is {}", text(old), text(new)));
            }
            _ => {}
        }
    }
}

fn compare_fields(at: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<String>) {
    let (old_required, new_required) = (required(old), required(new));
    let fields = |of: &Map<String, Value>| {
        of.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (old_fields, new_fields) = (fields(old), fields(new));
    for (name, old) in &old_fields {
        let at = format!("{at}/{name}");
        match new_fields.get(name) {
            None => found.push(format!("{at} is gone")),
            Some(new) => compare(&at, old, new, found),
        }
    }
    for name in new_fields.keys().filter(|name| !old_fields.contains_key(*name)) {
        if old.get("additionalProperties").is_some_and(|others| *others != json!(true)) {
            found.push(format!("{at}/{name} is new where other fields had a meaning"));
        }
    }
    for name in new_required.difference(&old_required) {
        found.push(format!("{at}/{name} is newly required: older events lack it"));
    }
    for name in old_required.difference(&new_required) {
        found.push(format!("{at}/{name} is no longer required: its readers rely on it"));
    }
}

fn required(schema: &Map<String, Value>) -> BTreeSet<&str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Lists of words are sets.
fn sorted(name: &str, value: Option<&Value>) -> Option<Value> {
    let mut value = value.cloned();
    if let (true, Some(Value::Array(words))) = (["enum", "type"].contains(&name), &mut value) {
        words.sort_by_key(Value::to_string);
    }
    value
}

fn released() -> Value {
    json!({
        "title": "order.shown.v1",
        "type": "object",
        "required": ["id", "lines", "status"],
        "properties": {
            "id": { "type": "string", "pattern": "^ord_" },
            "status": { "type": "string", "enum": ["open", "closed"], "description": "Where it stands." },
            "reason": { "type": ["string", "null"], "maxLength": 255 },
            "at": { "oneOf": [{ "type": "null" }, { "type": "string", "format": "date-time" }] },
            "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
            "lines": { "type": "array", "items": {
                "type": "object",
                "required": ["quantity"],
                "properties": { "quantity": { "type": "integer", "minimum": 1, "maximum": 9 } },
            } },
        },
    })
}

/// What [`breaking`] finds after one place of [`released`] has become another.
fn found(pointer: &str, value: &Value) -> Vec<String> {
    let mut new = released();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = new.pointer_mut(parent).unwrap();
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(name).unwrap();
    } else {
        parent[name] = value.clone();
    }
    breaking(&released(), &new)
}

#[test]
fn what_only_adds_passes() {
    let quantity = "/properties/lines/items/properties";
    for (pointer, value) in [
        ("/properties/note", json!({ "type": "string" })),
        (&format!("{quantity}/note")[..], json!({ "type": "object", "additionalProperties": false })),
        ("/title", json!("An order")),
        ("/properties/status/description", json!("How far it is.")),
        (&format!("{quantity}/quantity/description"), json!("How many.")),
        ("/properties/status/enum", json!(["closed", "open"])),
        ("/required", json!(["status", "id", "lines"])),
        ("/examples", json!([{}])),
    ] {
        assert_eq!(found(pointer, &value), Vec::<String>::new(), "{pointer} {value}");
    }
    assert_eq!(breaking(&released(), &released()), Vec::<String>::new());
}

#[test]
fn what_breaks_a_reader_is_found() {
    let quantity = "/properties/lines/items/properties/quantity";
    let required = "/properties/lines/items/required";
    for (pointer, value, expected) in [
        ("/properties/reason", json!(null), "/reason is gone"),
        (quantity, json!(null), "/lines/items/quantity is gone"),
        ("/properties/id/type", json!("integer"), "/id: type was \"string\", is \"integer\""),
        ("/properties/reason/type", json!("string"), "/reason: type was"),
        ("/properties/id/type", json!(["string", "null"]), "/id: type was"),
        ("/required", json!(["id", "lines", "status", "reason"]), "/reason is newly required"),
        ("/required", json!(["id", "lines"]), "/status is no longer required"),
        (required, json!([]), "/lines/items/quantity is no longer required"),
        ("/properties/status/enum", json!(["open"]), "/status: enum was"),
        ("/properties/status/enum", json!(["open", "closed", "lost"]), "/status: enum was"),
        ("/properties/id/pattern", json!("^ordr_"), "/id: pattern was"),
        ("/properties/id/pattern", json!(null), "/id: pattern was \"^ord_\", is absent"),
        ("/properties/reason/maxLength", json!(100), "/reason: maxLength was 255, is 100"),
        ("/properties/reason/minLength", json!(1), "/reason: minLength was absent, is 1"),
        (&format!("{quantity}/maximum"), json!(8), "/lines/items/quantity: maximum was 9, is 8"),
        (&format!("{quantity}/minimum"), json!(0), "/lines/items/quantity: minimum was 1, is 0"),
        ("/properties/at/oneOf", json!([{ "type": "string", "format": "date-time" }]), "/at: oneOf was"),
        ("/properties/at/oneOf/1/format", json!("date"), "/at/oneOf/1: format was"),
        (
            "/properties/metadata/additionalProperties/type",
            json!("integer"),
            "/metadata/additionalProperties: type",
        ),
        ("/properties/metadata/properties", json!({ "a": {} }), "/metadata/a is new where"),
        ("/additionalProperties", json!(false), ": additionalProperties was absent, is false"),
        ("/properties/lines/items/type", json!("array"), "/lines/items: type was"),
    ] {
        let found = found(pointer, &value);
        assert!(
            matches!(found.as_slice(), [one] if one.starts_with(expected)),
            "{pointer} {value}: {found:?}"
        );
    }
}

#[test]
fn a_renamed_field_that_was_required_is_found_as_all_that_it_is() {
    let mut new = released();
    let properties = new["properties"].as_object_mut().unwrap();
    let id = properties.remove("id").unwrap();
    properties.insert("order_id".into(), id);
    new["required"] = json!(["order_id", "lines", "status"]);
    let found = breaking(&released(), &new);
    let expected = ["/id is gone", "/order_id is newly required", "/id is no longer required"];
    assert!(
        found.len() == 3 && found.iter().zip(expected).all(|(one, begin)| one.starts_with(begin)),
        "{found:?}"
    );
}
