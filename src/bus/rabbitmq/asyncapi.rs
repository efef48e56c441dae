//! What this bus is to those who consume from it: an AsyncAPI 3.0 document of the exchanges, the queues and the messages.
//!
//! Made of the table of events, the names of [`Topology`] and the headers of [`envelope`](super::envelope), so that it says
//! what is so; a test declares everything that it says on a broker that has it. AsyncAPI has no place for the arguments of a
//! queue and for its bindings: `x-rabbitmq-arguments` and `x-rabbitmq-bindings` hold them.

use serde_json::{Map, Value, json};

use super::{
    RabbitMqOptions,
    definitions::Definitions,
    envelope::{self, attribute},
    topology::Topology,
};
use crate::{
    bus::Subscription,
    domain::event::{Envelope, EventType, Topic, attributes, example},
};

const BINDING_VERSION: &str = "0.3.0";

const DESCRIPTION: &str = "Events of orders, payments, shipments and stock, at least once, in the order of `sequence` for each \
    `subject`. A consumer declares a queue of its own, binds it to the exchanges by the types that it wants, and passes over an \
    event whose id it has seen. See docs/events.md.";

impl RabbitMqOptions {
    /// The exchange that events of this topic are published to.
    pub fn exchange(&self, topic: Topic) -> String {
        self.topology().exchange(topic)
    }

    /// The AsyncAPI document of the bus with these consumers.
    pub fn asyncapi(&self, subscriptions: &[Subscription]) -> Value {
        let definitions = self.definitions(subscriptions);
        let document = Document { topology: self.topology(), definitions };
        let messages: Map<String, Value> =
            EventType::ALL.iter().map(|&one| (one.to_string(), document.message(one))).collect();
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Holdfast events",
                "version": env!("CARGO_PKG_VERSION"),
                "description": DESCRIPTION,
                "license": { "name": "MIT" },
            },
            "defaultContentType": Envelope::DATACONTENTTYPE,
            "channels": document.channels(subscriptions),
            "operations": document.operations(subscriptions),
            "components": { "messages": messages, "messageTraits": { "cloudEvent": cloud_event() } },
        })
    }
}

struct Document {
    topology: Topology,
    definitions: Definitions,
}

/// The channel of who is no part of Holdfast.
const MERCHANT: &str = "merchant";

impl Document {
    fn channels(&self, subscriptions: &[Subscription]) -> Map<String, Value> {
        let exchanges = Topic::ALL.iter().map(|&topic| (topic.as_str().to_owned(), self.exchange(topic)));
        let queues = subscriptions.iter().map(|one| (one.consumer.to_owned(), self.consumer_queue(one)));
        exchanges.chain(queues).chain([(MERCHANT.to_owned(), self.merchant_queue())]).collect()
    }

    fn exchange(&self, topic: Topic) -> Value {
        let types = types_of(topic);
        let names: Vec<&str> = types.iter().map(|one| one.as_str()).collect();
        json!({
            "address": "{type}",
            "title": self.topology.exchange(topic),
            "description": "A topic exchange. The routing key is the type of the event. What no queue wants is kept for a look.",
            "parameters": { "type": { "description": "The type of the event.", "enum": names } },
            "messages": references(&types),
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": self.topology.exchange(topic), "type": "topic", "durable": true, "autoDelete": false,
                },
                "x-rabbitmq-arguments": { "alternate-exchange": self.topology.unroutable() },
                "bindingVersion": BINDING_VERSION,
            } },
        })
    }

    /// The queue of a worker. Nobody else consumes from it.
    fn consumer_queue(&self, subscription: &Subscription) -> Value {
        let queue = self.topology.queue(subscription.consumer);
        let declared = self.definitions.queues.iter().find(|declared| declared.name == queue);
        let arguments = json!(declared.map(|declared| &declared.arguments));
        let bindings: Vec<Value> = self
            .definitions
            .bindings
            .iter()
            .filter(|binding| binding.destination == queue)
            .map(|binding| json!({ "exchange": binding.source, "routingKey": binding.routing_key }))
            .collect();
        let about = "The queue of a worker of Holdfast. Nobody else consumes from it.";
        channel_of_queue(&queue, about, subscription.events, &arguments, &bindings)
    }

    /// The queue of a merchant, as an example.
    fn merchant_queue(&self) -> Value {
        let bindings: Vec<Value> = Topic::ALL
            .iter()
            .map(|&topic| json!({ "exchange": self.topology.exchange(topic), "routingKey": "#" }))
            .collect();
        let about = "The queue of a merchant, by any name that does not begin with that of an exchange. This one gets every \
                     event; a routing key such as `payment.*.v1` gets some. It has no maximum length with which it would \
                     refuse an event for everybody.";
        channel_of_queue(
            "merchant.events",
            about,
            EventType::ALL,
            &json!({ "x-queue-type": "quorum" }),
            &bindings,
        )
    }

    fn operations(&self, subscriptions: &[Subscription]) -> Map<String, Value> {
        let channel = |name: &str| json!({ "$ref": format!("#/channels/{name}") });
        let mut operations = Map::new();
        for topic in Topic::ALL {
            let operation = json!({
                "action": "send",
                "channel": channel(topic.as_str()),
                "summary": format!("Holdfast publishes to {}.", self.topology.exchange(topic)),
                "description": "Persistent and confirmed, after the change that it tells of is committed.",
                "bindings": { "amqp": { "deliveryMode": 2, "mandatory": true, "bindingVersion": BINDING_VERSION } },
            });
            operations.insert(format!("send_{}", topic.as_str()), operation);
        }
        let consumers = subscriptions.iter().map(|one| (one.consumer, "A worker of Holdfast"));
        for (name, who) in consumers.chain([(MERCHANT, "A merchant")]) {
            let operation = json!({
                "action": "receive",
                "channel": channel(name),
                "summary": format!("{who} consumes, and acknowledges what has taken effect."),
                "bindings": { "amqp": { "ack": true, "bindingVersion": BINDING_VERSION } },
            });
            operations.insert(format!("receive_{name}"), operation);
        }
        operations
    }

    fn message(&self, event_type: EventType) -> Value {
        let event = example(event_type);
        let message = envelope::encode(&event, |topic| self.topology.exchange(topic)).ok();
        let headers =
            message.as_ref().map(|message| envelope::texts(&message.properties)).unwrap_or_default();
        json!({
            "name": event_type.as_str(),
            "title": event_type.as_str(),
            "summary": event_type.meaning(),
            "traits": [{ "$ref": "#/components/messageTraits/cloudEvent" }],
            "payload": payload(event_type),
            "examples": [{ "headers": headers, "payload": event.data }],
        })
    }
}

/// What all messages have in common.
fn cloud_event() -> Value {
    let in_headers: Vec<_> =
        attributes().into_iter().filter(|one| one.name != envelope::IN_CONTENT_TYPE).collect();
    let required: Vec<String> =
        in_headers.iter().filter(|one| one.is_required).map(|one| attribute(&one.name)).collect();
    let mut properties: Map<String, Value> =
        in_headers.into_iter().map(|one| (attribute(&one.name), as_text(one.schema))).collect();
    let publisher = "The trace and the span that published the message (W3C Trace Context): the parent of what a consumer does.";
    properties
        .insert(envelope::TRACE_PARENT.to_owned(), json!({ "type": "string", "description": publisher }));
    json!({
        "contentType": Envelope::DATACONTENTTYPE,
        "correlationId": { "location": format!("$message.header#/{}", attribute("correlationid")) },
        "headers": { "type": "object", "required": required, "properties": properties },
    })
}

/// A header is a text, also where the attribute is a number.
fn as_text(schema: Value) -> Value {
    if schema["type"] != "integer" {
        return schema;
    }
    json!({ "type": "string", "pattern": "^[1-9][0-9]*$", "description": schema["description"] })
}

/// AsyncAPI reads a schema as JSON Schema draft 7, in which those of events are the same.
fn payload(event_type: EventType) -> Value {
    let mut schema = event_type.schema();
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, _| !["$schema", "$id"].contains(&name.as_str()));
    }
    schema
}

fn channel_of_queue(
    name: &str,
    description: &str,
    types: &[EventType],
    arguments: &Value,
    bindings: &[Value],
) -> Value {
    json!({
        "address": name,
        "title": name,
        "description": description,
        "messages": references(types),
        "bindings": { "amqp": {
            "is": "queue",
            "queue": { "name": name, "durable": true, "exclusive": false, "autoDelete": false },
            "x-rabbitmq-arguments": arguments,
            "x-rabbitmq-bindings": bindings,
            "bindingVersion": BINDING_VERSION,
        } },
    })
}

fn types_of(topic: Topic) -> Vec<EventType> {
    EventType::ALL.iter().copied().filter(|one| one.topic() == topic).collect()
}

fn references(types: &[EventType]) -> Map<String, Value> {
    let reference = |one: &EventType| json!({ "$ref": format!("#/components/messages/{one}") });
    types.iter().map(|one| (one.to_string(), reference(one))).collect()
}
