//! What the API says of events: the JSON Schema of the data of each type, and the AsyncAPI document of the broker. Without a
//! key, as a consumer reads them that has none. Both are made once.

use std::{collections::BTreeMap, str::FromStr, sync::LazyLock};

use axum::{extract::State, http::header, response::IntoResponse};

use super::{ApiState, extract::IdPath};
use crate::domain::event::EventType;

static SCHEMAS: LazyLock<BTreeMap<EventType, String>> = LazyLock::new(|| {
    EventType::ALL.iter().map(|event_type| (*event_type, event_type.schema().to_string())).collect()
});

/// The event type whose schema the path names.
pub(super) struct SchemaName(EventType);

impl FromStr for SchemaName {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        EventType::of_schema(name).map(Self).ok_or(())
    }
}

/// The JSON Schema (2020-12) of the data of an event type: where `dataschema` of an event leads.
///
/// Within a version it only ever gains optional fields. Read past fields that it does not name.
#[utoipa::path(
    get, operation_id = "read_event_schema", path = "/schemas/{name}", tag = "events", security(()),
    params(("name" = String, Path, example = "order.created.v1.json")),
    responses((status = 200, body = serde_json::Value, content_type = "application/schema+json")),
    extensions(("x-problems" = json!(["not_found"])))
)]
pub(super) async fn read_schema(IdPath(SchemaName(event_type)): IdPath<SchemaName>) -> impl IntoResponse {
    let schema = SCHEMAS.get(&event_type).map_or("", String::as_str);
    ([(header::CONTENT_TYPE, "application/schema+json")], schema)
}

/// AsyncAPI 3.0: the exchanges that events are published to, the queues that consume them, every message.
#[utoipa::path(
    get, operation_id = "read_asyncapi", path = "/asyncapi.json", tag = "events", security(()),
    responses((status = 200, body = serde_json::Value))
)]
pub(super) async fn read_asyncapi(State(state): State<ApiState>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], state.asyncapi.clone())
}
