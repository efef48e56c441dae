//! Every status with every action: carried out, or refused with the status and what it allows, and then nothing is written.
//!
//! The statuses are those of the domain, the actions those of the API's own document: one more of either, and the table has
//! to say what comes of it.

use std::{collections::BTreeMap, fmt::Write as _};

use holdfast::domain::{
    order::OrderStatus, payment::PaymentStatus, shipment::ShipmentStatus, stock_import::ImportStatus,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{fields, shop, units};
use crate::support::{
    api::{Answer, id, send},
    app::TestApp,
};

/// What may be asked of an order, as the order of the columns of its table: canceling has two ways.
const OF_ORDERS: [&str; 5] = ["payments", "cancel", "cancel", "reservation/extend", "shipments"];
const OF_PAYMENTS: [&str; 3] = ["capture", "void", "refunds"];
const OF_SHIPMENTS: [&str; 5] = ["pack", "ship", "deliver", "cancel", "return"];
const OF_IMPORTS: [&str; 1] = ["cancel"];

#[tokio::test]
async fn every_action_of_the_api_has_a_column() {
    let test = TestApp::start().await;
    let document = send(test.api.bare(Method::GET, "/openapi.json")).await.expect(200);
    let mut actions = BTreeMap::<&str, Vec<&str>>::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        if let Some((things, action)) = template.split_once("/{id}/").filter(|_| item["post"].is_object()) {
            actions.entry(things).or_default().push(action);
        }
    }
    // Keys have no status: see api_access/keys.rs.
    actions.remove("/v1/api-keys").unwrap();
    // Of endpoints and deliveries see webhooks/endpoints.rs and webhooks/failures.rs.
    actions.remove("/v1/webhook-endpoints").unwrap();
    actions.remove("/v1/webhook-deliveries").unwrap();
    for (things, columns) in [
        ("/v1/orders", &OF_ORDERS[..]),
        ("/v1/payments", &OF_PAYMENTS),
        ("/v1/shipments", &OF_SHIPMENTS),
        ("/v1/inventory/imports", &OF_IMPORTS),
    ] {
        let mut columns = columns.to_vec();
        columns.sort_unstable();
        columns.dedup();
        let mut found = actions.remove(things).unwrap();
        found.sort_unstable();
        assert_eq!(found, columns, "{things}");
    }
    assert_eq!(actions, BTreeMap::new());
    test.finish().await;
}

/// What comes of an action.
#[derive(Clone, Copy)]
enum Outcome {
    /// It is carried out, with this status code.
    Done(u16),
    /// The status does not allow it.
    Refused,
    /// Something else does not: 409 with this code.
    Conflict(&'static str),
}

use Outcome::{Conflict, Done, Refused};

/// What every table holds but the answers that are kept for repetitions.
async fn state(test: &TestApp) -> BTreeMap<String, String> {
    let mut snapshot = test.snapshot().await;
    snapshot.remove("idempotency_key").unwrap();
    snapshot
}

/// Checks the answer, and that a refusal left everything as it was.
async fn check(
    test: &TestApp,
    what: &str,
    before: BTreeMap<String, String>,
    answer: Answer,
    expected: Outcome,
    (status, allowed): (&str, Vec<&str>),
) {
    let code = match expected {
        Done(code) => {
            assert_eq!(answer.status, code, "{what}: {}", answer.text);
            assert_ne!(state(test).await, before, "{what}");
            return;
        }
        Refused => "invalid_state_transition",
        Conflict(code) => code,
    };
    assert_eq!((answer.status, answer.code()), (409, code), "{what}: {}", answer.text);
    if matches!(expected, Refused) {
        assert_eq!(
            fields(&answer.body, ["current_status", "allowed"]),
            [json!(status), json!(allowed)],
            "{what}"
        );
    }
    assert_eq!(state(test).await, before, "{what}");
}

async fn order_in(test: &TestApp, status: OrderStatus) -> Value {
    let lines = [("a", 2)];
    let order = match status {
        OrderStatus::Confirmed | OrderStatus::PartiallyFulfilled | OrderStatus::Fulfilled => {
            test.paid(&lines, "automatic").await.0
        }
        _ => test.order_of(&lines, "automatic").await,
    };
    match status {
        OrderStatus::PendingPayment | OrderStatus::Confirmed => {}
        OrderStatus::PartiallyFulfilled => drop(test.shipped(&order, &[(0, 1)]).await),
        OrderStatus::Fulfilled => drop(test.shipped(&order, &[(0, 2)]).await),
        OrderStatus::Canceled => drop(test.ask_order(&order, "cancel", json!({})).await.expect(200)),
        OrderStatus::Expired => {
            test.run_out(&id(&order), 1.0).await;
            test.app.expire_orders(None, 10, &holdfast::app::Cause::default()).await.unwrap();
        }
    }
    let order = test.api.order(&id(&order)).await;
    assert_eq!(order["status"], status.as_str());
    order
}

#[tokio::test]
async fn orders() {
    let test = shop().await;
    test.stock("a", 1000).await;
    let paid = Conflict("payment_already_succeeded");
    for &status in OrderStatus::ALL {
        // Pay, cancel, cancel units, extend, ship.
        let expected: [Outcome; OF_ORDERS.len()] = match status {
            OrderStatus::PendingPayment => [Done(201), Done(200), Done(200), Done(200), Refused],
            OrderStatus::Confirmed => [paid, Done(200), Done(200), Refused, Done(201)],
            OrderStatus::PartiallyFulfilled => [paid, Refused, Done(200), Refused, Done(201)],
            OrderStatus::Fulfilled => [paid, Refused, Refused, Refused, Refused],
            OrderStatus::Expired | OrderStatus::Canceled => [Refused; 5],
        };
        for (n, (action, expected)) in OF_ORDERS.into_iter().zip(expected).enumerate() {
            let order = order_in(&test, status).await;
            let body = match n {
                0 => json!({ "method": "card", "payment_token": "pm_card_visa" }),
                2 => json!({ "lines": units(&order, &[(0, 1)]) }),
                3 => json!({ "seconds": 10 }),
                _ => json!({}),
            };
            let before = state(&test).await;
            let answer = test.ask_order(&order, action, body).await;
            let allowed = status.allowed().iter().map(|status| status.as_str()).collect();
            let what = format!("{action} of an order that is {status}");
            check(&test, &what, before, answer, expected, (status.as_str(), allowed)).await;
        }
    }
    test.settle_and_finish().await;
}

async fn payment_in(test: &TestApp, status: PaymentStatus) -> String {
    let capture = if status == PaymentStatus::Authorized || status == PaymentStatus::Voided {
        "manual"
    } else {
        "automatic"
    };
    let order = test.order_of(&[("a", 2)], capture).await;
    let token = match status {
        PaymentStatus::RequiresAction => "pm_sandbox_requires_action",
        PaymentStatus::Failed => "pm_card_chargeDeclined",
        _ => "pm_card_visa",
    };
    let payment_id = test.paying(&id(&order), token).await;
    if status != PaymentStatus::Processing {
        test.pump("payment").await;
    }
    match status {
        PaymentStatus::PartiallyRefunded => {
            test.ask_payment(&payment_id, "refunds", json!({ "amount": 1 })).await.expect(201);
        }
        PaymentStatus::Refunded => {
            drop(test.ask_payment(&payment_id, "refunds", json!({})).await.expect(201));
        }
        PaymentStatus::Voided => drop(test.ask_order(&order, "cancel", json!({})).await.expect(200)),
        _ => {}
    }
    if status != PaymentStatus::Processing {
        test.pump("payment").await;
    }
    assert_eq!(test.payment(&payment_id).await["status"], status.as_str());
    payment_id
}

#[tokio::test]
async fn payments() {
    let test = shop().await;
    test.stock("a", 1000).await;
    for &status in PaymentStatus::ALL {
        // Capture, void, refund.
        let expected: [Outcome; OF_PAYMENTS.len()] = match status {
            PaymentStatus::RequiresAction => [Refused, Done(202), Refused],
            PaymentStatus::Authorized => [Done(202), Conflict("order_needs_payment"), Refused],
            PaymentStatus::Captured | PaymentStatus::PartiallyRefunded => [Refused, Refused, Done(201)],
            PaymentStatus::Processing
            | PaymentStatus::Refunded
            | PaymentStatus::Voided
            | PaymentStatus::Failed => [Refused; 3],
        };
        for (action, expected) in OF_PAYMENTS.into_iter().zip(expected) {
            let payment_id = payment_in(&test, status).await;
            let before = state(&test).await;
            let answer = test.ask_payment(&payment_id, action, json!({})).await;
            let allowed = status.allowed().iter().map(|status| status.as_str()).collect();
            let what = format!("{action} of a payment that is {status}");
            check(&test, &what, before, answer, expected, (status.as_str(), allowed)).await;
        }
    }
    test.settle_and_finish().await;
}

async fn shipment_in(test: &TestApp, status: ShipmentStatus) -> Value {
    let (order, _) = test.paid(&[("a", 2)], "automatic").await;
    let shipment = test.shipping(&order, &[(0, 2)]).await;
    let steps: &[&str] = match status {
        ShipmentStatus::Pending => &[],
        ShipmentStatus::Packed => &["pack"],
        ShipmentStatus::Shipped => &["pack", "ship"],
        ShipmentStatus::Delivered => &["pack", "ship", "deliver"],
        ShipmentStatus::Returned => &["pack", "ship", "return"],
        ShipmentStatus::Canceled => &["cancel"],
    };
    for step in steps {
        test.ask_shipment(&shipment, step, body(step)).await.expect(200);
    }
    let shipment = test.api.get(&format!("/v1/shipments/{}", id(&shipment))).await.expect(200);
    assert_eq!(shipment["status"], status.as_str());
    shipment
}

fn body(action: &str) -> Value {
    if action == "return" { json!({ "restock": true, "reason": "x" }) } else { json!({}) }
}

#[tokio::test]
async fn shipments() {
    let test = shop().await;
    test.stock("a", 1000).await;
    let done = Done(200);
    for &status in ShipmentStatus::ALL {
        // Pack, ship, deliver, cancel, return.
        let expected: [Outcome; OF_SHIPMENTS.len()] = match status {
            ShipmentStatus::Pending => [done, Refused, Refused, done, Refused],
            ShipmentStatus::Packed => [Refused, done, Refused, done, Refused],
            ShipmentStatus::Shipped => [Refused, Refused, done, Refused, done],
            ShipmentStatus::Delivered => [Refused, Refused, Refused, Refused, done],
            ShipmentStatus::Returned | ShipmentStatus::Canceled => [Refused; 5],
        };
        for (action, expected) in OF_SHIPMENTS.into_iter().zip(expected) {
            let shipment = shipment_in(&test, status).await;
            let before = state(&test).await;
            let answer = test.ask_shipment(&shipment, action, body(action)).await;
            let allowed = status.allowed().iter().map(|status| status.as_str()).collect();
            let what = format!("{action} of a shipment that is {status}");
            check(&test, &what, before, answer, expected, (status.as_str(), allowed)).await;
        }
    }
    test.settle_and_finish().await;
}

async fn import_in(test: &TestApp, status: ImportStatus) -> String {
    // More rows than one chunk has.
    let mut file = "sku,on_hand\n".to_owned();
    for row in 0..600 {
        writeln!(file, "s{row},1").unwrap();
    }
    let import_id = test.api.import("mode=set", &file).await;
    let path = format!("/v1/inventory/imports/{import_id}");
    let chunks = match status {
        ImportStatus::Pending | ImportStatus::Canceled => 0,
        ImportStatus::Running => 1,
        ImportStatus::Completed => 2,
    };
    for _ in 0..chunks {
        test.app.run_stock_import(import_id.parse().ok()).await.unwrap().unwrap();
    }
    if status == ImportStatus::Canceled {
        test.api.post(&format!("{path}/cancel"), &json!({})).await.expect(200);
    }
    assert_eq!(test.api.get(&path).await.expect(200)["status"], status.as_str());
    path
}

#[tokio::test]
async fn imports() {
    let test = TestApp::start().await;
    for &status in ImportStatus::ALL {
        let expected: [Outcome; OF_IMPORTS.len()] = match status {
            ImportStatus::Pending | ImportStatus::Running => [Done(200)],
            ImportStatus::Completed | ImportStatus::Canceled => [Refused],
        };
        for (action, expected) in OF_IMPORTS.into_iter().zip(expected) {
            let path = import_in(&test, status).await;
            let before = state(&test).await;
            let answer = test.api.post(&format!("{path}/{action}"), &json!({})).await;
            let allowed = status.allowed().iter().map(|status| status.as_str()).collect();
            let what = format!("{action} of an import that is {status}");
            check(&test, &what, before, answer, expected, (status.as_str(), allowed)).await;
        }
    }
    test.finish().await;
}
