//! The schemas of the code, those that are committed, and those of the last release.
//!
//! `golden` holds the schemas and examples as the code makes them, `released` the schemas as the last release had them. A change
//! is accepted by `make schemas`, where it only adds; `make release-schemas` is for a release.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use holdfast::domain::event::{EventType, example};
use reqwest::Method;
use serde_json::{Value, json};

use super::compatibility::breaking;
use crate::support::{
    api::send,
    app::TestApp,
    events::{validator, violations},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every JSON file of a folder beside this one, by its name.
fn files(folder: &str) -> BTreeMap<String, Value> {
    let folder: PathBuf = root().join("tests/it/events").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), serde_json::from_str(&text).unwrap())
    };
    files.map(read).collect()
}

#[test]
fn the_schemas_and_examples_are_those_that_are_committed() {
    let (schemas, examples) = (files("golden"), files("golden/examples"));
    for &event_type in EventType::ALL {
        let name = event_type.schema_name();
        let accept = format!("{name} is not what the code makes: see what changed, then `make schemas`");
        assert_eq!(schemas.get(&name), Some(&event_type.schema()), "{accept}");
        assert_eq!(examples.get(&name), Some(&json!(example(event_type))), "{accept}");
    }
    let known: BTreeSet<String> = EventType::ALL.iter().map(|one| one.schema_name()).collect();
    assert_eq!(schemas.into_keys().collect::<BTreeSet<_>>(), known);
    assert_eq!(examples.into_keys().collect::<BTreeSet<_>>(), known);
}

#[test]
fn a_released_schema_only_ever_gains_optional_fields() {
    let released = files("released");
    assert!(!released.is_empty());
    for (name, old) in released {
        let event_type = EventType::of_schema(&name);
        let event_type = event_type.unwrap_or_else(|| panic!("{name} was released and is emitted no more"));
        let found = breaking(&old, &event_type.schema());
        assert!(
            found.is_empty(),
            "{event_type} was released, and this breaks those who consume it:\n  {}\nMake a v2 of it.",
            found.join("\n  ")
        );
    }
}

#[test]
fn every_example_fits_its_schema() {
    for &event_type in EventType::ALL {
        assert_eq!(violations(event_type, &example(event_type).data), Vec::<String>::new());
        let schema = event_type.schema();
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{event_type}: {error}"));
        assert_eq!(schema["examples"], json!([example(event_type).data]));
    }
}

#[test]
fn the_schemas_see_what_does_not_fit() {
    use EventType::{InventoryAdjusted, OrderCreated, PaymentCaptured};
    let wrong = |event_type: EventType, pointer: &str, value: Value| {
        let mut data = example(event_type).data;
        *data.pointer_mut(pointer).unwrap() = value;
        violations(event_type, &data)
    };
    for (event_type, pointer, value) in [
        (OrderCreated, "/id", json!("pay_019ab1c2d3e47f5a8b6c7d8e9f0a1b2c")),
        (OrderCreated, "/lines/0/quantity", json!(0)),
        (OrderCreated, "/expires_at", json!("tomorrow")),
        (OrderCreated, "/metadata/channel", json!(1)),
        (PaymentCaptured, "/status", json!("stolen")),
        (PaymentCaptured, "/amount", json!(0)),
        (InventoryAdjusted, "/delta", json!(1_000_000_001)),
        (InventoryAdjusted, "/reason", json!("a\u{7}")),
    ] {
        assert_eq!(wrong(event_type, pointer, value).len(), 1, "{event_type}{pointer}");
    }
    let missing = violations(OrderCreated, &json!({}));
    assert!(missing.len() > 10, "{missing:?}");
}

#[test]
fn the_page_of_events_is_what_the_program_prints() {
    let mut docs = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let output = docs.args(["events", "docs"]).env("HOLDFAST__LOCK__BACKEND", "none").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let committed = fs::read_to_string(root().join("docs/events.md")).unwrap();
    assert!(
        String::from_utf8(output.stdout).unwrap() == committed,
        "docs/events.md is older: `make schemas`"
    );
    for event_type in EventType::ALL {
        assert!(committed.contains(&format!("\n### `{event_type}`\n")), "{event_type}");
    }
}

#[tokio::test]
async fn the_feed_is_cloudevents_and_leads_to_the_schemas_that_are_served() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let placed = test.api.place(&[("a", 1)]).await.expect(201);
    let path = format!("/v1/orders/{}/events", placed["id"].as_str().unwrap());
    let page = test.api.get(&path).await.expect(200);
    let event = &page["data"][0];
    assert_eq!(event["data"], placed);
    assert_eq!((&event["specversion"], &event["source"]), (&json!("1.0"), &json!("/holdfast")));
    assert_eq!(
        (&event["datacontenttype"], &event["partitionkey"]),
        (&json!("application/json"), &event["subject"])
    );
    // The older names stay.
    assert!(event["correlationid"].is_string());
    assert_eq!((&event["correlation_id"], &event["causation_id"]), (&event["correlationid"], &json!(null)));
    let schema = send(test.api.bare(Method::GET, event["dataschema"].as_str().unwrap())).await;
    assert_eq!(schema.header("content-type"), "application/schema+json");
    let schema: Value = serde_json::from_str(&schema.text).unwrap();
    assert_eq!(schema["$id"], event["dataschema"]);
    assert!(validator(&schema).is_valid(&event["data"]));
    for &event_type in EventType::ALL {
        let served = send(test.api.bare(Method::GET, &event_type.schema_path())).await;
        assert_eq!(serde_json::from_str::<Value>(&served.text).unwrap(), event_type.schema());
    }
    for wrong in ["order.created.v1", "order.created.v9.json", "..%2Fopenapi.json", "x.json"] {
        send(test.api.bare(Method::GET, &format!("/schemas/{wrong}"))).await.problem(404, "not_found");
    }
    test.finish().await;
}
