//! An event as it travels: the attributes of CloudEvents 1.0 and the data.
//!
//! The names of the attributes stand here once, in [`CloudEvent`]: the feed serves it as it is, a bus carries the attributes
//! under the same names, and what documents say of them is its schema.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::EventType;
use crate::domain::{ids::EventId, trace_parent::TraceParent};

/// An event with everything that is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// Which event this is. Every copy of it carries the same id.
    pub id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// Whose history it belongs to, as text.
    pub subject: String,
    /// Its place in that history: of an order from 1 without gaps, of a level only growing.
    pub sequence: i64,
    /// When the change was made.
    pub time: DateTime<Utc>,
    /// The request or event that began the chain.
    pub correlation_id: Option<String>,
    /// The event that this one follows from.
    pub causation_id: Option<EventId>,
    /// The span that it follows from, where that is recorded.
    pub trace_parent: Option<TraceParent>,
    /// What there is to know: an [`Event`](super::Event) of this type, as JSON.
    pub data: Value,
}

impl Envelope {
    /// The version of CloudEvents.
    pub const SPECVERSION: &'static str = "1.0";

    /// Who emits events.
    pub const SOURCE: &'static str = "/holdfast";

    /// What the data is.
    pub const DATACONTENTTYPE: &'static str = "application/json";

    /// What events have in common that stay in order: their subject.
    pub fn partition_key(&self) -> &str {
        &self.subject
    }
}

/// An event: the attributes of CloudEvents 1.0, and the data.
#[derive(Serialize, ToSchema)]
pub(super) struct CloudEvent<'a> {
    /// Version of CloudEvents.
    #[schema(pattern = "^1\\.0$")]
    specversion: &'static str,
    /// Which event this is. Every copy of it carries the same id: who has seen it has seen this event.
    id: EventId,
    /// Who emits it.
    source: &'static str,
    /// What happened, with the version of the shape of its data.
    #[serde(rename = "type")]
    event_type: EventType,
    /// Whose history it belongs to: `order/{id}`, or `inventory/{sku}/{location_id}`.
    subject: &'a str,
    /// When the change was made.
    time: DateTime<Utc>,
    /// What the data is.
    datacontenttype: &'static str,
    /// Where the API serves the JSON Schema of the data.
    #[schema(format = "uri-reference", example = "/schemas/order.created.v1.json")]
    dataschema: String,
    /// Its place in the history of its subject: of an order from 1 without gaps, of a level only growing.
    #[schema(minimum = 1)]
    sequence: i64,
    /// What events have in common that stay in order: the subject.
    partitionkey: &'a str,
    /// The request that began the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    correlationid: Option<&'a str>,
    /// The event that this one follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EventId, required = false)]
    causationid: Option<EventId>,
    /// The trace and the span that made the change (W3C Trace Context), where they are recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$")]
    traceparent: Option<TraceParent>,
    /// `correlationid`, by its older name.
    correlation_id: Option<&'a str>,
    /// `causationid`, by its older name.
    causation_id: Option<EventId>,
    /// What there is to know. The schema of each type is served at `/schemas/{type}.json`.
    data: &'a Value,
}

impl CloudEvent<'_> {
    /// What is no attribute of CloudEvents: the data, and the older names.
    pub(super) const NO_ATTRIBUTES: [&'static str; 3] = ["data", "correlation_id", "causation_id"];
}

impl<'a> From<&'a Envelope> for CloudEvent<'a> {
    fn from(envelope: &'a Envelope) -> Self {
        Self {
            specversion: Envelope::SPECVERSION,
            id: envelope.id,
            source: Envelope::SOURCE,
            event_type: envelope.event_type,
            subject: &envelope.subject,
            time: envelope.time,
            datacontenttype: Envelope::DATACONTENTTYPE,
            dataschema: envelope.event_type.schema_path(),
            sequence: envelope.sequence,
            partitionkey: envelope.partition_key(),
            correlationid: envelope.correlation_id.as_deref(),
            causationid: envelope.causation_id,
            traceparent: envelope.trace_parent,
            correlation_id: envelope.correlation_id.as_deref(),
            causation_id: envelope.causation_id,
            data: &envelope.data,
        }
    }
}

impl Serialize for Envelope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        CloudEvent::from(self).serialize(serializer)
    }
}

impl PartialSchema for Envelope {
    fn schema() -> RefOr<Schema> {
        CloudEvent::schema()
    }
}

impl ToSchema for Envelope {
    fn name() -> Cow<'static, str> {
        "Event".into()
    }

    fn schemas(named: &mut Vec<(String, RefOr<Schema>)>) {
        CloudEvent::schemas(named);
    }
}
