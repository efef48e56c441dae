//! An event as an AMQP message and back.
//!
//! Owns the properties and headers. Must not send anything. Invariants: what [`encode`] writes, [`decode`] reads back
//! equal; a message that is not one of our events gives a reason, never a panic; headers that the broker adds never
//! travel on with a copy.
//!
//! The attributes are those of CloudEvents 1.0 in binary mode, with the prefix of its AMQP binding. That binding is
//! for AMQP 1.0, to which brokers map these headers as application properties.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::topology::short;
use crate::{
    bus::BusError,
    domain::{
        event::{Envelope, EventType, Topic},
        trace_parent::TraceParent,
    },
};

const ATTEMPT: &str = "x-attempt";
const DELIVERY_COUNT: &str = "x-delivery-count";
/// That it is to be handled alone this time. Its copies are not.
const ISOLATED: &str = "x-isolated";
/// Whose dead letter this is, and why, on a copy that lost the broker's own account of it.
const DEAD_CONSUMER: &str = "x-dead-consumer";
const DEAD_REASON: &str = "x-dead-reason";
/// Where the span stands that published a message; `cloudEvents_traceparent` is of the one that wrote the event.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// What the broker adds. On a copy it would tell of another message's life, or be taken for a loop.
const OF_THE_BROKER: [&str; 5] =
    ["x-death", DELIVERY_COUNT, "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"];

const PERSISTENT: u8 = 2;

/// A message on its way to an exchange.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
}

/// The attribute that has no header: it is the message's content type.
pub(super) const IN_CONTENT_TYPE: &str = "datacontenttype";

/// The header of any other attribute of CloudEvents.
pub(super) fn attribute(name: &str) -> String {
    format!("cloudEvents_{name}")
}

/// The message that carries an event to the exchange of its topic.
pub(super) fn encode(event: &Envelope, exchange: impl Fn(Topic) -> String) -> Result<Message, BusError> {
    let id = event.id.to_string();
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        headers.insert(attribute(name).into(), AMQPValue::LongString(value.into()));
    };
    put("specversion", Envelope::SPECVERSION);
    put("id", &id);
    put("source", Envelope::SOURCE);
    put("type", event.event_type.as_str());
    put("subject", &event.subject);
    put("time", &event.time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    put("dataschema", &event.event_type.schema_path());
    put("sequence", &event.sequence.to_string());
    put("partitionkey", event.partition_key());
    if let Some(correlation_id) = &event.correlation_id {
        put("correlationid", correlation_id);
    }
    if let Some(causation_id) = &event.causation_id {
        put("causationid", &causation_id.to_string());
    }
    if let Some(trace_parent) = &event.trace_parent {
        put(TRACE_PARENT, &trace_parent.to_string());
    }
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(Envelope::DATACONTENTTYPE.into())
        .with_message_id(short(&id)?)
        .with_type(short(event.event_type.as_str())?)
        .with_timestamp(u64::try_from(event.time.timestamp()).unwrap_or_default())
        .with_headers(headers);
    // The property holds 255 bytes, a client's id may be longer. The header is the one that is read.
    if let Some(Ok(id)) = event.correlation_id.as_deref().map(ShortString::try_new) {
        properties = properties.with_correlation_id(id);
    }
    Ok(Message {
        exchange: exchange(event.event_type.topic()),
        routing_key: event.event_type.as_str().to_owned(),
        properties,
        // Invariant: a JSON value has string keys, and so always has a text.
        body: serde_json::to_vec(&event.data).unwrap_or_default(),
    })
}

/// Writes into a message what published it, by the name that tracing libraries of other consumers look for.
pub(super) fn put_trace(message: &mut Message, publisher: TraceParent) {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    headers.insert(TRACE_PARENT.into(), AMQPValue::LongString(publisher.to_string().into()));
    message.properties = message.properties.clone().with_headers(headers);
}

/// The event in a message, or why there is none.
pub(super) fn decode(properties: &BasicProperties, body: &[u8]) -> Result<Envelope, String> {
    let given = |name: &str| header_text(properties, &attribute(name));
    let required = |name: &str| given(name).ok_or_else(|| format!("has no attribute {name}"));
    let wrong = |name: &str, error: String| format!("attribute {name}: {error}");

    let id = required("id")?.parse().map_err(|error| wrong("id", format!("{error}")))?;
    let event_type: EventType = required("type")?.parse().map_err(|error| wrong("type", error))?;
    let sequence = required("sequence")?;
    let time = required("time")?;
    let causation_id = given("causationid").map(str::parse).transpose();
    Ok(Envelope {
        id,
        event_type,
        subject: required("subject")?.to_owned(),
        sequence: sequence.parse().map_err(|error| wrong("sequence", format!("{error}")))?,
        time: DateTime::parse_from_rfc3339(time)
            .map_err(|error| wrong("time", format!("{error}")))?
            .with_timezone(&Utc),
        correlation_id: given("correlationid").map(ToOwned::to_owned),
        causation_id: causation_id.map_err(|error| wrong("causationid", format!("{error}")))?,
        // What cannot be read costs a trace, and no event.
        trace_parent: header_text(properties, TRACE_PARENT)
            .or_else(|| given(TRACE_PARENT))
            .and_then(|text| text.parse().ok()),
        data: serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?,
    })
}

/// Which attempt this delivery is: one more than our retries and the broker's redeliveries together.
pub(super) fn attempt(properties: &BasicProperties) -> u32 {
    number(properties, ATTEMPT).unwrap_or(1).max(1).saturating_add(redeliveries(properties))
}

/// How often the broker has taken this message back.
pub(super) fn redeliveries(properties: &BasicProperties) -> u32 {
    number(properties, DELIVERY_COUNT).unwrap_or(0)
}

/// Whether it is to be handled alone.
pub(super) fn is_isolated(properties: &BasicProperties) -> bool {
    header(properties, ISOLATED).is_some()
}

/// The properties of a message that is to be handled alone.
pub(super) fn isolate(properties: BasicProperties) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(ISOLATED.into(), AMQPValue::Boolean(true));
    properties.with_headers(headers)
}

fn number(properties: &BasicProperties, name: &str) -> Option<u32> {
    header(properties, name).and_then(integer).and_then(|n| u32::try_from(n).ok())
}

/// The properties of a copy that is delivered as this attempt.
pub(super) fn for_attempt(properties: &BasicProperties, attempt: u32) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        // An attempt that has ended has ended no process: the next one needs not be alone.
        if !OF_THE_BROKER.contains(&name.as_str()) && name.as_str() != ISOLATED {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers.insert(ATTEMPT.into(), i64::from(attempt).into());
    properties.clone().with_headers(headers).with_delivery_mode(PERSISTENT)
}

/// Whose dead letter this is, as the name of the queue, and why it died, as the broker says it.
pub(super) fn death(properties: &BasicProperties, routing_key: &str) -> (String, String) {
    let table = header(properties, "x-death").and_then(AMQPValue::as_array).and_then(|deaths| {
        // The latest comes first. An earlier one may tell of a retry queue.
        deaths.as_slice().first().and_then(AMQPValue::as_field_table)
    });
    let latest = |name: &str| table.and_then(|table| table.inner().get(name)).and_then(text);
    let queue = header_text(properties, DEAD_CONSUMER).or_else(|| latest("queue")).unwrap_or(routing_key);
    let reason = header_text(properties, DEAD_REASON).or_else(|| latest("reason")).unwrap_or("unknown");
    (queue.to_owned(), reason.to_owned())
}

/// Writes that account into the message itself.
pub(super) fn keep_death(properties: BasicProperties, queue: &str, reason: &str) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(DEAD_CONSUMER.into(), AMQPValue::LongString(queue.into()));
    headers.insert(DEAD_REASON.into(), AMQPValue::LongString(reason.into()));
    properties.with_headers(headers)
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn header_text<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    header(properties, name).and_then(text)
}

fn text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// The headers that are texts, by name.
pub(super) fn texts(properties: &BasicProperties) -> BTreeMap<&str, &str> {
    let headers = properties.headers().iter().flatten();
    headers.filter_map(|(name, value)| Some((name.as_str(), text(value)?))).collect()
}

/// Brokers and versions differ in the width that they send a number with.
fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(n) => Some(n.into()),
        AMQPValue::ShortShortUInt(n) => Some(n.into()),
        AMQPValue::ShortInt(n) => Some(n.into()),
        AMQPValue::ShortUInt(n) => Some(n.into()),
        AMQPValue::LongInt(n) => Some(n.into()),
        AMQPValue::LongUInt(n) => Some(n.into()),
        AMQPValue::LongLongInt(n) => Some(n),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{event::attributes, ids::EventId};

    fn event() -> Envelope {
        Envelope {
            id: EventId::new(),
            event_type: EventType::PaymentCaptured,
            subject: "order/ord_1".into(),
            sequence: 7,
            time: DateTime::from_timestamp(1_700_000_000, 123_456_000).expect("a time"),
            correlation_id: Some("ü".repeat(200)),
            causation_id: Some(EventId::new()),
            trace_parent: Some(TraceParent { trace_id: 1, span_id: 2, is_sampled: true }),
            data: serde_json::json!({ "amount": { "minor": 1099, "currency": "EUR" } }),
        }
    }

    fn message(event: &Envelope) -> Message {
        encode(event, |topic| topic.as_str().to_owned()).expect("it has an encoding")
    }

    #[test]
    fn an_event_reads_back_from_its_message() {
        let event = event();
        let message = message(&event);
        assert_eq!(
            (message.exchange.as_str(), message.routing_key.as_str()),
            ("payments", "payment.captured.v1")
        );
        assert_eq!(decode(&message.properties, &message.body), Ok(event));
        assert_eq!(attempt(&message.properties), 1);
    }

    #[test]
    fn a_consumer_goes_on_from_the_span_that_published() {
        let event = event();
        let mut message = message(&event);
        let publisher = TraceParent { trace_id: 1, span_id: 3, is_sampled: true };
        put_trace(&mut message, publisher);
        let goes_on =
            |properties: &BasicProperties| decode(properties, &message.body).expect("an event").trace_parent;
        assert_eq!(goes_on(&message.properties), Some(publisher));
        assert_eq!(goes_on(&for_attempt(&message.properties, 2)), Some(publisher));
        let written = header_text(&message.properties, "cloudEvents_traceparent").expect("the attribute");
        assert_eq!(Some(written.to_owned()), event.trace_parent.map(|parent| parent.to_string()));
    }

    #[test]
    fn the_headers_are_the_attributes_of_the_feed() {
        let message = message(&event());
        let headers: BTreeSet<String> =
            message.properties.headers().iter().flatten().map(|(name, _)| name.to_string()).collect();
        let in_headers = attributes().into_iter().filter(|one| one.name != IN_CONTENT_TYPE);
        assert_eq!(headers, in_headers.map(|one| attribute(&one.name)).collect());
        let content_type = message.properties.content_type().as_ref().map(ShortString::as_str);
        assert_eq!(content_type, Some(Envelope::DATACONTENTTYPE));
        let feed = serde_json::to_value(event()).expect("JSON");
        for name in
            ["specversion", "source", "type", "subject", "dataschema", "partitionkey", "correlationid"]
        {
            assert_eq!(header_text(&message.properties, &attribute(name)), feed[name].as_str(), "{name}");
        }
    }

    #[test]
    fn what_is_not_an_event_says_why() {
        let message = message(&event());
        assert_eq!(decode(&BasicProperties::default(), b"{}"), Err("has no attribute id".into()));
        let error = decode(&message.properties, b"{").expect_err("not JSON");
        assert!(error.starts_with("the body is not JSON"), "{error}");
        let mut headers = message.properties.headers().clone().expect("headers");
        headers.insert("cloudEvents_type".into(), AMQPValue::LongString("order.created.v9".into()));
        let error = decode(&message.properties.with_headers(headers), b"{}").expect_err("unknown type");
        assert!(error.contains("order.created.v9"), "{error}");
    }

    #[test]
    fn a_copy_keeps_the_event_and_drops_what_the_broker_added() {
        let event = event();
        let message = message(&event);
        let mut headers = message.properties.headers().clone().expect("headers");
        headers.insert(DELIVERY_COUNT.into(), AMQPValue::LongInt(2));
        headers.insert("x-death".into(), AMQPValue::FieldArray(Vec::new().into()));
        let delivered = message.properties.with_headers(headers);
        assert_eq!(attempt(&delivered), 3);
        assert_eq!((redeliveries(&delivered), is_isolated(&delivered)), (2, false));
        let copy = for_attempt(&isolate(delivered), 4);
        assert_eq!((attempt(&copy), redeliveries(&copy), is_isolated(&copy)), (4, 0, false));
        assert!(header(&copy, "x-death").is_none());
        assert_eq!(decode(&copy, &message.body), Ok(event));
    }

    #[test]
    fn the_latest_death_counts_unless_the_copy_says_otherwise() {
        let death_of = |queue: &str, reason: &str| {
            let mut table = FieldTable::default();
            table.insert("queue".into(), AMQPValue::LongString(queue.into()));
            table.insert("reason".into(), AMQPValue::LongString(reason.into()));
            AMQPValue::FieldTable(table)
        };
        let deaths = vec![death_of("q.payment", "delivery_limit"), death_of("q.retry.1s", "expired")];
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        let properties = BasicProperties::default().with_headers(headers);
        assert_eq!(death(&properties, "key"), ("q.payment".into(), "delivery_limit".into()));
        let copy = keep_death(for_attempt(&properties, 2), "q.mail", "poison");
        assert_eq!(death(&copy, "key"), ("q.mail".into(), "poison".into()));
        assert_eq!(death(&BasicProperties::default(), "key"), ("key".into(), "unknown".into()));
    }
}
