//! The JSON Schemas (2020-12) of what events carry, each standing alone.
//!
//! utoipa makes them, as it makes the API's document from the same types: JSON Schema 2020-12 is the language of OpenAPI
//! 3.1, and a second tool would need every bound twice. What it writes as a reference to a component is put in its place here.
//!
//! A schema allows fields that it does not name: within a version there may be more of them later.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{EventType, envelope::CloudEvent, example::data_example};

const COMPONENT: &str = "#/components/schemas/";

impl EventType {
    /// The name of the schema of its data.
    pub fn schema_name(self) -> String {
        format!("{self}.json")
    }

    /// The event type whose schema has this name.
    pub fn of_schema(name: &str) -> Option<Self> {
        name.strip_suffix(".json")?.parse().ok()
    }

    /// Where the API serves the schema of its data.
    pub fn schema_path(self) -> String {
        format!("/schemas/{}", self.schema_name())
    }

    /// The schema of its data.
    pub fn schema(self) -> Value {
        let (own, named) = self.data_schemas();
        let mut schema = alone(&own, named);
        let told = [
            ("$schema", "https://json-schema.org/draft/2020-12/schema".into()),
            ("$id", self.schema_path().into()),
            ("title", self.as_str().into()),
            ("description", self.meaning().into()),
            ("examples", Value::Array(vec![data_example(self)])),
        ];
        schema.extend(told.map(|(name, value)| (name.to_owned(), value)));
        Value::Object(schema)
    }
}

/// What is said of one attribute of CloudEvents.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Whether every event has it.
    pub is_required: bool,
    /// Its schema.
    pub schema: Value,
}

/// The attributes that events have, by name.
pub fn attributes() -> Vec<Attribute> {
    let mut named = Vec::new();
    CloudEvent::schemas(&mut named);
    let event = alone(&CloudEvent::schema(), named);
    let required = event.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let fields = event.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    let attributes =
        fields.into_iter().filter(|(name, _)| !CloudEvent::NO_ATTRIBUTES.contains(&name.as_str()));
    attributes
        .map(|(name, schema)| Attribute {
            is_required: required.iter().any(|required| *required == name.as_str()),
            name,
            schema,
        })
        .collect()
}

/// A schema with what it refers to put in its place.
fn alone(schema: &RefOr<Schema>, named: Vec<(String, RefOr<Schema>)>) -> Map<String, Value> {
    // Invariant: a schema is made of what serializes.
    let json = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
    let named = named.into_iter().map(|(name, schema)| (name, json(&schema))).collect();
    match inlined(json(schema), &named) {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// What stands beside a reference says more of this place, and goes before what stands there.
fn inlined(schema: Value, named: &BTreeMap<String, Value>) -> Value {
    match schema {
        Value::Object(mut fields) => {
            let reference = fields.remove("$ref");
            let name = reference.as_ref().and_then(Value::as_str).and_then(|at| at.strip_prefix(COMPONENT));
            let mut whole = match name.and_then(|name| named.get(name)) {
                Some(there) => match inlined(there.clone(), named) {
                    Value::Object(there) => there,
                    _ => Map::new(),
                },
                None => Map::new(),
            };
            whole.extend(fields.into_iter().map(|(name, field)| (name, inlined(field, named))));
            Value::Object(or_null(whole))
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| inlined(item, named)).collect()),
        other => other,
    }
}

/// One thing or null, which utoipa writes as a choice of two, as one schema that allows both.
fn or_null(mut schema: Map<String, Value>) -> Map<String, Value> {
    let choice = schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice);
    let other = match choice {
        Some([null, other] | [other, null]) if null["type"] == "null" => other.as_object().cloned(),
        _ => None,
    };
    let Some(mut other) = other.filter(|other| !other.contains_key("enum")) else { return schema };
    let Some(own) = other.remove("type") else { return schema };
    schema.remove("oneOf");
    schema.extend(other);
    schema.insert("type".to_owned(), Value::Array(vec![own, "null".into()]));
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That every place in a schema says what may stand there.
    fn check(at: &str, schema: &Value) {
        let fields = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema}"));
        assert!(!fields.contains_key("$ref") && !fields.contains_key("allOf"), "{at}: {schema}");
        assert!(fields.contains_key("type") || fields.contains_key("oneOf"), "{at}: {schema}");
        assert_ne!(fields.get("additionalProperties"), Some(&false.into()), "{at} cannot gain fields");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let at = format!("{at}/{name}");
            check(&at, field);
            assert!(field["description"].is_string(), "{at} is not described: {field}");
        }
        for choice in schema["oneOf"].as_array().into_iter().flatten() {
            check(at, choice);
        }
        if let Some(items) = fields.get("items") {
            check(&format!("{at}/*"), items);
        }
    }

    #[test]
    fn every_schema_stands_alone_and_is_open() {
        for &event_type in EventType::ALL {
            let schema = event_type.schema();
            check(event_type.as_str(), &schema);
            assert!(schema["properties"].as_object().is_some_and(|fields| !fields.is_empty()), "{schema}");
            assert_eq!(EventType::of_schema(&event_type.schema_name()), Some(event_type));
        }
        assert_eq!(EventType::of_schema("order.created.v1"), None);
    }

    #[test]
    fn the_attributes_are_those_of_cloudevents() {
        let attributes = attributes();
        let names = |is_required: bool| -> Vec<&str> {
            let some = attributes.iter().filter(|attribute| attribute.is_required == is_required);
            some.map(|attribute| attribute.name.as_str()).collect()
        };
        let required =
            ["datacontenttype", "dataschema", "id", "partitionkey", "sequence", "source", "specversion"];
        assert_eq!(names(true), [&required[..], &["subject", "time", "type"]].concat());
        assert_eq!(names(false), ["causationid", "correlationid", "traceparent"]);
        // CloudEvents 1.0: lower-case letters and digits.
        assert!(attributes.iter().all(|one| one.name.bytes().all(|byte| byte.is_ascii_lowercase())));
    }
}
