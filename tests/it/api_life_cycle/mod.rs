//! The life cycle of orders, payments, shipments and returns at the API. Events are handled here, one after the other, as the
//! workers would: so a test sees what is between two steps.

mod cancel;
mod cancel_money;
mod capture;
mod dead_orders;
mod extend;
mod headers;
mod keys;
mod lapsed;
mod lists;
mod refunds;
mod repetitions;
mod returns;
mod shipments;
mod split_lines;
mod transitions;
mod walks;
mod workers;

use std::collections::HashMap;

use holdfast::{
    app::{Cause, Handling, Progress},
    domain::event::Event,
    worker::CONSUMERS,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{
    api::{Answer, id, order},
    app::{Setup, TestApp},
};

/// How often an event is handled whose outcome stays open.
const TRIES: u32 = 4;

type EventRow = (Uuid, String, Value);

/// A test with ten of SKUs a, b and c on the shelf. Nothing ships by itself.
async fn shop() -> TestApp {
    let provider_timeout = std::time::Duration::from_millis(500);
    let test = TestApp::start_with(Setup { ship_at_once: false, provider_timeout, ..Setup::default() }).await;
    for sku in ["a", "b", "c"] {
        test.stock(sku, 10).await;
    }
    test
}

impl TestApp {
    /// Handles every event that this consumer wants, in order, as often as its worker would.
    async fn pump(&self, consumer: &str) {
        let consumer = CONSUMERS.iter().find(|c| c.subscription().consumer == consumer).unwrap();
        let subscription = consumer.subscription();
        let types: Vec<&str> = subscription.events.iter().map(|event| event.as_str()).collect();
        let mut tries = HashMap::<Uuid, u32>::new();
        loop {
            let given_up: Vec<Uuid> = tries.iter().filter(|(_, n)| **n >= TRIES).map(|(id, _)| *id).collect();
            let next: Option<EventRow> = sqlx::query_as(
                "SELECT event_id, type, data FROM outbox o
                 WHERE type = ANY($1) AND event_id <> ALL($2) AND NOT EXISTS (
                     SELECT 1 FROM inbox i WHERE i.consumer = $3 AND i.event_id = o.event_id)
                 ORDER BY id LIMIT 1",
            )
            .bind(&types)
            .bind(&given_up)
            .bind(subscription.consumer)
            .fetch_optional(&mut *self.conn().await)
            .await
            .unwrap();
            let Some((event_id, event_type, data)) = next else { return };
            let handling = Handling {
                consumer: subscription.consumer,
                event_id: event_id.into(),
                cause: Cause { causation_id: Some(event_id.into()), ..Cause::default() },
            };
            let event = Event::read(event_type.parse().unwrap(), &data).unwrap();
            match consumer.handle(&self.app, &handling, &event).await {
                Ok(Progress::Done) => {}
                Ok(Progress::Waiting) => *tries.entry(event_id).or_default() += 1,
                Err(error) => {
                    assert!(error.is_transient(), "{event_type}: {error}");
                    *tries.entry(event_id).or_default() += 1;
                }
            }
        }
    }

    /// Places an order whose money is captured on request. Gives the order.
    async fn order_of(&self, lines: &[(&str, i64)], capture_method: &str) -> Value {
        let mut body = order(lines);
        body["capture_method"] = json!(capture_method);
        self.api.post("/v1/orders", &body).await.expect(201)
    }

    /// Places an order and pays it: captured, or authorized where the capture is by hand. Gives order and payment.
    async fn paid(&self, lines: &[(&str, i64)], capture_method: &str) -> (Value, String) {
        let order = self.order_of(lines, capture_method).await;
        let payment_id = self.paying(&id(&order), "pm_card_visa").await;
        self.pump("payment").await;
        let status = if capture_method == "automatic" { "captured" } else { "authorized" };
        assert_eq!(self.payment(&payment_id).await["status"], status);
        (self.api.order(&id(&order)).await, payment_id)
    }

    /// Asks for something of an order, e.g. `cancel`.
    async fn ask_order(&self, order: &Value, action: &str, body: Value) -> Answer {
        self.api.post(&format!("/v1/orders/{}/{action}", id(order)), &body).await
    }

    /// Asks for something of a payment, e.g. `refunds`.
    async fn ask_payment(&self, payment_id: &str, action: &str, body: Value) -> Answer {
        self.api.post(&format!("/v1/payments/{payment_id}/{action}"), &body).await
    }

    /// Asks for something of a shipment, e.g. `pack`.
    async fn ask_shipment(&self, shipment: &Value, action: &str, body: Value) -> Answer {
        self.api.post(&format!("/v1/shipments/{}/{action}", id(shipment)), &body).await
    }

    /// Creates a shipment of these units.
    async fn shipping(&self, order: &Value, lines: &[(usize, i64)]) -> Value {
        self.ask_order(order, "shipments", json!({ "lines": units(order, lines) })).await.expect(201)
    }

    /// Creates a shipment of these units, packs and ships it.
    async fn shipped(&self, order: &Value, lines: &[(usize, i64)]) -> Value {
        let shipment = self.shipping(order, lines).await;
        self.ask_shipment(&shipment, "pack", json!({})).await.expect(200);
        self.ask_shipment(&shipment, "ship", json!({})).await.expect(200)
    }

    /// The types of an order's events, in order.
    async fn events(&self, order: &Value) -> Vec<String> {
        let query = "SELECT type FROM outbox WHERE subject = 'order/' || $1 ORDER BY sequence";
        sqlx::query_scalar(query).bind(id(order)).fetch_all(&mut *self.conn().await).await.unwrap()
    }

    /// `(on_hand, reserved, committed)` of SKUs a and b.
    async fn levels(&self) -> [(i64, i64, i64); 2] {
        [self.api.level("a").await, self.api.level("b").await]
    }

    /// What the provider says was captured and sent back, and in how many refunds.
    async fn money(&self, payment_id: &str) -> [i64; 3] {
        let seen = self.sandbox.payment(payment_id).await;
        ["amount_captured", "amount_refunded", "refunds"].map(|name| seen[name].as_i64().unwrap())
    }

    /// Ends a test without a relay: its events are still in the outbox. The money is where the provider says.
    async fn settle_and_finish(self) {
        self.pump("payment").await;
        let payments: Vec<(Uuid, i64, i64)> =
            sqlx::query_as("SELECT id, amount_captured, amount_refunded FROM payment")
                .fetch_all(&mut *self.conn().await)
                .await
                .unwrap();
        for (payment_id, captured, refunded) in payments {
            let payment_id = holdfast::domain::ids::PaymentId::from(payment_id);
            let seen = self.sandbox.payment(payment_id).await;
            let theirs = (seen["amount_captured"].as_i64(), seen["amount_refunded"].as_i64());
            assert_eq!((Some(captured), Some(refunded)), theirs, "{payment_id}: {seen}");
        }
        self.finish().await;
    }
}

/// The id of the n-th line of an order.
fn line(order: &Value, n: usize) -> &str {
    order["lines"][n]["id"].as_str().unwrap()
}

/// Units of lines of an order, by their places.
fn units(order: &Value, lines: &[(usize, i64)]) -> Value {
    let unit = |&(n, quantity): &(usize, i64)| json!({ "line_id": line(order, n), "quantity": quantity });
    lines.iter().map(unit).collect()
}

/// One number of each line.
fn of_lines(order: &Value, name: &str) -> Vec<i64> {
    order["lines"].as_array().unwrap().iter().map(|line| line[name].as_i64().unwrap()).collect()
}

/// Several fields of a body.
fn fields<const N: usize>(body: &Value, names: [&str; N]) -> [Value; N] {
    names.map(|name| body[name].clone())
}

/// The pointer and the detail of the first wrong field of a 422 with this code.
fn wrong(answer: Answer, code: &str) -> (String, String) {
    let problem = answer.problem(422, code);
    let text = |name: &str| problem["errors"][0][name].as_str().unwrap().to_owned();
    (text("pointer"), text("detail"))
}
