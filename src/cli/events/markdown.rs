//! docs/events.md: how to consume, and every type with its data.

use std::fmt::Write as _;

use super::fields::{Field, fields};
use crate::domain::event::{Attribute, EventType, Topic, attributes, example};

const HEAD: &str = "# Events

<!-- Made by `holdfast events docs`. `make schemas` writes it anew, and a test compares it. -->

Whatever changes is told by an event, written in the transaction of the change and published once that is committed: to
RabbitMQ for whoever has a queue, and over HTTP as pages or a stream (`GET /v1/events`, `GET /v1/orders/{id}/events`). The same
as documents for programs: the JSON Schema of the data of each type at `/schemas/{type}.json`, AsyncAPI 3.0 at `/asyncapi.json`.
";

const CONSUMING: &str = "
## How to consume

1. **Declare a queue of your own**, durable, `x-queue-type: quorum`, and bind it to the exchanges with the types that you want as
   routing keys: `order.created.v1`, `payment.*.v1`, or `#` for everything. Give it no maximum length with
   `x-overflow: reject-publish`: full, it would refuse an event for every other consumer too. An event that no queue wants is kept
   for a day in the queue `unroutable`, for a look.
2. **Acknowledge after the effect is committed.** Delivery is at least once: a message that is not acknowledged comes again, and
   one may be published twice. Every copy carries the same `id`; keep the ids that you have handled, in the transaction of
   their effect, and pass over what you have seen.
3. **Order.** Events of one `subject` carry a growing `sequence`: of an order 1, 2, 3 … without a gap, its payments and shipments
   included; of an inventory level growing. The next event of a subject is published once the broker has confirmed the one before. Two
   consumers of one queue, or a redelivery, can still turn them around: where order matters, compare `sequence` with the last that
   you have handled, pass over a lower one, and wait for a missing one. `partitionkey` is the same for all that stay in order.
4. **What you cannot handle** is yours: reject it to a dead-letter exchange of your queue, or let it come again. Set
   `x-delivery-limit`, so that a message that kills its reader does not come for ever. Holdfast's own queues try again after 1 s, 5 s,
   30 s, 5 min and 30 min, and keep what they cannot handle as a dead letter (`holdfast dead-letters list`); data that does not fit
   its type is one at once, with the reason `schema_violation` and the field.
5. **Read past what you do not know.** Within a version the data gains optional fields, and nothing is ever removed, renamed,
   retyped, newly required or bounded otherwise; anything else is a new version, `….v2`, beside the old one. New types come without
   notice.
6. **What was missed** is in the feed: `GET /v1/events?starting_after=…` begins at the first event.

";

/// The whole document. `exchange` names the exchange of a topic.
pub(super) fn document(exchange: impl Fn(Topic) -> String) -> String {
    let mut text = HEAD.to_owned() + CONSUMING + &envelope();
    let mut told: Vec<(EventType, Vec<Field>)> = Vec::new();
    for topic in Topic::ALL {
        let name = exchange(topic);
        add(&mut text, format_args!("## Exchange `{name}`\n\n"));
        let types = EventType::ALL.iter().copied().filter(|one| one.topic() == topic);
        for event_type in types {
            let own = fields(&event_type.schema());
            add_type(&mut text, event_type, &name, &own, &told);
            told.push((event_type, own));
        }
    }
    text
}

fn envelope() -> String {
    let mut text = "## What every event has\n\n\
        The attributes of [CloudEvents 1.0](https://cloudevents.io). In a message each is a header, `cloudEvents_id` and so on, \
        always a string, except `datacontenttype`, which is the content type; the body is the data alone. `message_id`, `type`, \
        `timestamp` and `correlation_id` of the message say the same. Over HTTP an event is one JSON object: the attributes by \
        their names, `sequence` as a number, the data as `data`, and its `place` in what is read.\n\n\
        | attribute | always | |\n|---|---|---|\n"
        .to_owned();
    for Attribute { name, is_required, schema } in attributes() {
        let always = if is_required { "yes" } else { "" };
        let meaning = schema["description"].as_str().unwrap_or_default();
        add(&mut text, format_args!("| `{name}` | {always} | {meaning} |\n"));
    }
    text + "\n"
}

/// One type. Fields that an earlier type has told are not told again.
fn add_type(
    text: &mut String,
    event_type: EventType,
    exchange: &str,
    own: &[Field],
    told: &[(EventType, Vec<Field>)],
) {
    add(text, format_args!("### `{event_type}`\n\n{}\n\n", event_type.meaning()));
    add(text, format_args!("Exchange `{exchange}`, routing key `{event_type}`. "));
    if let Some((same, _)) = told.iter().find(|(_, fields)| fields.as_slice() == own) {
        add(text, format_args!("The data has the fields of `{same}`.\n\n"));
    } else {
        add(text, format_args!("The data:\n\n| field | type | |\n|---|---|---|\n"));
        for Field { path, kind, meaning } in own {
            add(text, format_args!("| `{path}` | {kind} | {meaning} |\n"));
        }
        add(text, format_args!("\n"));
    }
    // Invariant: a JSON value has a text.
    let data = serde_json::to_string_pretty(&example(event_type).data).unwrap_or_default();
    add(text, format_args!("```json\n{data}\n```\n\n"));
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Invariant: writing to a string cannot fail.
    let _ = text.write_fmt(more);
}
