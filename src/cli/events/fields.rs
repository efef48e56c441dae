//! The fields of a JSON Schema, as rows for people.

use serde_json::Value;

/// A field of the data of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Where it is: `lines[].quantity`.
    pub(super) path: String,
    /// What may stand there.
    pub(super) kind: String,
    /// What it means.
    pub(super) meaning: String,
}

/// Every field of the schema of an object, those of objects within it after them.
pub(super) fn fields(schema: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    found
}

fn collect(schema: &Value, within: &str, found: &mut Vec<Field>) {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{within}{name}");
        let optional = if required.iter().any(|one| one == name) { "" } else { ", or absent" };
        let meaning = field["description"].as_str().unwrap_or_default().to_owned();
        found.push(Field { kind: format!("{}{optional}", kind(field)), path: path.clone(), meaning });
        if field["items"]["properties"].is_object() {
            collect(&field["items"], &format!("{path}[]."), found);
        }
    }
}

/// What a schema allows, in words.
fn kind(schema: &Value) -> String {
    if let Some(choices) = schema["oneOf"].as_array() {
        // Where null is one of them it stands first; it reads better at the end.
        return choices.iter().rev().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let named = types.iter().map(|name| match *name {
        "array" => format!("list of {}", plural(&kind(&schema["items"]))),
        "string" => text(schema),
        "integer" => format!("integer{}", bounds(schema, ["minimum", "maximum"], "")),
        other => other.to_owned(),
    });
    named.collect::<Vec<_>>().join(" or ")
}

fn plural(kind: &str) -> String {
    if kind == "object" { "objects".to_owned() } else { kind.to_owned() }
}

fn text(schema: &Value) -> String {
    match (schema["format"].as_str(), schema["pattern"].as_str()) {
        (Some("date-time"), _) => "time (RFC 3339)".to_owned(),
        (_, Some(pattern)) if schema.get("maxLength").is_none() => format!("string `{pattern}`"),
        _ => format!("string{}", bounds(schema, ["minLength", "maxLength"], " characters")),
    }
}

fn bounds(schema: &Value, [least, most]: [&str; 2], of: &str) -> String {
    match (schema[least].as_i64(), schema[most].as_i64()) {
        (Some(least), Some(most)) => format!(", {least} to {most}{of}"),
        (Some(least), None) => format!(", at least {least}{of}"),
        (None, Some(most)) => format!(", at most {most}{of}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_told_with_what_they_allow() {
        let line = json!({
            "type": "object", "required": ["n"],
            "properties": { "n": { "type": "integer", "minimum": 1, "maximum": 9, "description": "How many." } },
        });
        let schema = json!({
            "type": "object", "required": ["at", "lines"],
            "properties": {
                "at": { "oneOf": [{ "type": "null" }, { "type": "string", "format": "date-time" }] },
                "lines": { "type": "array", "items": line, "description": "Which." },
                "status": { "type": "string", "enum": ["a", "b"] },
                "why": { "type": ["string", "null"], "maxLength": 255 },
            },
        });
        let told: Vec<_> = fields(&schema).into_iter().map(|field| (field.path, field.kind)).collect();
        let expected = [
            ("at", "time (RFC 3339) or null"),
            ("lines", "list of objects"),
            ("lines[].n", "integer, 1 to 9"),
            ("status", "`a`, `b`, or absent"),
            ("why", "string, at most 255 characters or null, or absent"),
        ];
        assert_eq!(told, expected.map(|(path, kind)| (path.to_owned(), kind.to_owned())));
        assert_eq!(fields(&schema)[2].meaning, "How many.");
    }
}
