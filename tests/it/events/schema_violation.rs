//! What becomes of a message whose data does not fit its type: it is a dead letter at once, which names the field.

use holdfast::{
    domain::{
        event::{Envelope, EventType, example},
        ids::EventId,
    },
    worker::WorkerKind,
};
use serde_json::json;

use crate::support::{
    PATIENCE,
    app::{Setup, TestApp},
    broker::publish,
    eventually,
};

/// A dead letter: event, consumer, type, subject, what is wrong, attempts, body.
type Row = (uuid::Uuid, String, String, String, String, i32, serde_json::Value);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_does_not_fit_its_type_is_a_dead_letter_that_names_the_field() {
    let workers = &[WorkerKind::Payment, WorkerKind::Fulfilment];
    let test = TestApp::start_with(Setup { workers, ..Setup::default() }).await;
    let event = |event_type, data| Envelope { id: EventId::new(), data, ..example(event_type) };
    let mut refund = example(EventType::RefundCreated).data;
    refund["lines"][0]["quantity"] = json!("one");
    let mut captured = example(EventType::PaymentCaptured).data;
    captured["status"] = json!("stolen");
    let events = [
        event(EventType::RefundCreated, refund),
        event(EventType::PaymentCaptured, captured),
        event(EventType::OrderConfirmed, json!({})),
    ];
    test.bus.declare(&holdfast::worker::subscriptions()).await.unwrap();
    publish(test.bus.as_ref(), &events).await;
    let all_dead = async || test.count("SELECT count(*) FROM dead_letter").await == 3;
    eventually("every one is a dead letter", PATIENCE, all_dead).await;
    let query =
        "SELECT event_id, consumer, type, subject, reason, attempts, convert_from(body, 'UTF8')::jsonb
                 FROM dead_letter WHERE reason_code = 'schema_violation' ORDER BY event_id";
    let letters: Vec<Row> = sqlx::query_as(query).fetch_all(&mut *test.conn().await).await.unwrap();
    let expected = [
        ("payment", "at \"/lines/0/quantity\": invalid type"),
        ("fulfilment", "at \"/status\": unknown variant"),
        ("fulfilment", "at \"\": missing field `order_id`"),
    ];
    assert_eq!(letters.len(), 3);
    for ((letter, event), (consumer, reason)) in letters.iter().zip(&events).zip(expected) {
        let (id, by, event_type, subject, why, attempts, body) = letter;
        assert_eq!((*id, by.as_str()), (event.id.uuid(), consumer));
        assert_eq!(
            (event_type.as_str(), subject.as_str()),
            (event.event_type.as_str(), event.subject.as_str())
        );
        assert!(why.starts_with(reason), "{why}");
        assert_eq!((*attempts, body), (1, &event.data));
    }
    test.stop().await;
}
