//! Events held to the schemas of their types: all that a test leaves behind, and all that it takes from a bus.

use std::{collections::BTreeMap, sync::LazyLock};

use holdfast::domain::event::{Envelope, EventType};
use jsonschema::Validator;
use serde_json::Value;
use sqlx::PgConnection;

static SCHEMAS: LazyLock<BTreeMap<EventType, Validator>> = LazyLock::new(|| {
    let of = |event_type: &EventType| (*event_type, validator(&event_type.schema()));
    EventType::ALL.iter().map(of).collect()
});

/// A validator that also insists on formats, such as `date-time`.
pub(crate) fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).expect("a schema")
}

/// What of the data does not fit the type, and where.
pub(crate) fn violations(event_type: EventType, data: &Value) -> Vec<String> {
    let errors = SCHEMAS[&event_type].iter_errors(data);
    errors.map(|error| format!("{event_type}{}: {error}", error.instance_path())).collect()
}

/// That an event's data fits its type.
pub(crate) fn assert_fits(event: &Envelope) {
    assert_eq!(violations(event.event_type, &event.data), Vec::<String>::new(), "{event:?}");
}

/// That every event in the database fits its type.
pub(crate) async fn assert_all_fit(conn: &mut PgConnection) {
    let query = "SELECT type, data FROM outbox UNION ALL SELECT type, data FROM outbox_sent";
    let events: Vec<(String, Value)> = sqlx::query_as(query).fetch_all(conn).await.unwrap();
    let wrong = events.iter().flat_map(|(name, data)| violations(name.parse().unwrap(), data));
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
}
