//! The AsyncAPI document is one, and says what is on the broker and in the messages.

use futures_util::StreamExt;
use holdfast::{
    bus::{EventBus, RabbitMqBus, RabbitMqOptions},
    domain::event::EventType,
    worker,
};
use lapin::{
    Channel, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    api::send,
    app::TestApp,
    broker::{self, event},
    events::{validator, violations},
    setup,
};

/// The schema of AsyncAPI documents: see its comment.
const ASYNCAPI: &str = include_str!("asyncapi-3.0.0.json");

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// What stands here, or where it is referred to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} is nothing"))
}

fn arguments(binding: &Value) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in binding["x-rabbitmq-arguments"].as_object().unwrap() {
        let value = value.as_i64().map_or_else(|| AMQPValue::LongString(text(value).into()), AMQPValue::from);
        table.insert(name.as_str().into(), value);
    }
    table
}

#[tokio::test]
async fn the_document_is_asyncapi_and_is_served() {
    let document = setup::asyncapi();
    let schema = validator(&serde_json::from_str(ASYNCAPI).unwrap());
    let wrong: Vec<String> =
        schema.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(wrong, Vec::<String>::new());
    // And it sees what is none.
    for (pointer, value) in [
        ("/channels/orders/bindings/amqp/exchange/type", json!("ring")),
        ("/operations/send_orders/action", json!("shout")),
        ("/channels/payment/bindings/amqp", json!({ "is": "queue" })),
    ] {
        let mut other = document.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        assert!(!schema.is_valid(&other), "{pointer}");
    }
    let test = TestApp::start().await;
    assert_eq!(send(test.api.bare(Method::GET, "/asyncapi.json")).await.expect(200), document);
    test.finish().await;
}

#[test]
fn every_message_is_in_the_channel_of_its_exchange_and_of_its_consumers() {
    let document = setup::asyncapi();
    let channels = document["channels"].as_object().unwrap();
    let holds = |channel: &str, one: EventType| channels[channel]["messages"].get(one.as_str()).is_some();
    for &one in EventType::ALL {
        for topic in ["orders", "payments", "inventory"] {
            assert_eq!(holds(topic, one), one.topic().as_str() == topic, "{one} {topic}");
        }
        for subscription in worker::subscriptions() {
            assert_eq!(holds(subscription.consumer, one), subscription.events.contains(&one), "{one}");
        }
        assert!(holds("merchant", one));
        let message = &document["components"]["messages"][one.as_str()];
        assert!(validator(&message["payload"]).is_valid(&message["examples"][0]["payload"]), "{one}");
        let headers = &resolved(&document, &message["traits"][0])["headers"];
        assert!(validator(headers).is_valid(&message["examples"][0]["headers"]), "{one}");
    }
    for operation in document["operations"].as_object().unwrap().values() {
        assert!(resolved(&document, &operation["channel"])["address"].is_string());
    }
    for channel in channels.values() {
        for message in channel["messages"].as_object().unwrap().values() {
            assert!(resolved(&document, message)["payload"].is_object());
        }
    }
}

/// Declares what a channel says. A broker that has it with other properties refuses that.
async fn declare(channel: &Channel, binding: &Value) {
    if binding["is"] == "routingKey" {
        let exchange = &binding["exchange"];
        assert_eq!((&exchange["type"], &exchange["durable"]), (&json!("topic"), &json!(true)));
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let name = text(&exchange["name"]).into();
        channel.exchange_declare(name, ExchangeKind::Topic, options, arguments(binding)).await.unwrap();
        return;
    }
    let name = text(&binding["queue"]["name"]);
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), options, arguments(binding)).await.unwrap();
    for one in binding["x-rabbitmq-bindings"].as_array().unwrap() {
        let (exchange, key) = (text(&one["exchange"]), text(&one["routingKey"]));
        let options = QueueBindOptions::default();
        channel
            .queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_has_what_the_document_says_and_a_queue_like_the_merchants_gets_every_event() {
    let options: RabbitMqOptions = broker::options(broker::shared());
    let mut document = options.asyncapi(&worker::subscriptions());
    // Of this test alone.
    let queue = format!("{}.of-the-merchant", options.prefix);
    document["channels"]["merchant"]["bindings"]["amqp"]["queue"]["name"] = json!(queue);
    let bus = RabbitMqBus::new(options);
    bus.declare(&worker::subscriptions()).await.unwrap();
    let (_connection, channel) = broker::channel(broker::shared()).await;
    let channels = document["channels"].as_object().unwrap();
    for one in channels.values() {
        declare(&channel, &one["bindings"]["amqp"]).await;
    }

    let events: Vec<_> = EventType::ALL.iter().map(|&one| event(one, 7)).collect();
    broker::publish(&bus, &events).await;
    let consume = channel.basic_consume(
        queue.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut deliveries = consume.await.unwrap();
    let headers = validator(&document["components"]["messageTraits"]["cloudEvent"]["headers"]);
    for event in &events {
        let message = timeout(broker::PATIENCE, deliveries.next()).await.unwrap().unwrap().unwrap();
        let exchange = document.pointer(&format!("/channels/{}/title", event.event_type.topic().as_str()));
        assert_eq!(Some(message.exchange.as_str()), exchange.unwrap().as_str());
        assert_eq!(message.routing_key.as_str(), event.event_type.as_str());
        let body: Value = serde_json::from_slice(&message.data).unwrap();
        assert_eq!(violations(event.event_type, &body), Vec::<String>::new());
        let found = message.properties.headers().iter().flatten();
        let found: Value = found.map(|(name, value)| (name.to_string(), header(value))).collect();
        assert!(headers.is_valid(&found), "{found}");
        assert_eq!(found["cloudEvents_sequence"], "7");
        message.acker.ack(BasicAckOptions::default()).await.unwrap();
    }
    channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    bus.close().await;
}

fn header(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => json!(std::str::from_utf8(text.as_bytes()).unwrap()),
        other => panic!("{other:?} is no text"),
    }
}
