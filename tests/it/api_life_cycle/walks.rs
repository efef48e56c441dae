//! Random walks: whatever is asked, in whatever order, nothing fails inside, every invariant holds, and no status becomes one
//! that the domain's tables do not list.

use std::collections::BTreeSet;

use holdfast::domain::{
    order::OrderStatus, payment::PaymentStatus, refund::RefundStatus, reservation::ReservationStatus,
    shipment::ShipmentStatus,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use super::{shop, units};
use crate::support::{api::id, app::TestApp};

const STEPS: usize = 120;

/// One thing that a merchant may ask for, or a worker do. Gives the status of the answer.
async fn step(test: &TestApp, random: &mut SmallRng, order_id: &str) -> u16 {
    let order = test.api.order(order_id).await;
    let n = random.random_range(0..order["lines"].as_array().unwrap().len());
    let lines = units(&order, &[(n, random.random_range(1..=3))]);
    let some_or_all = |random: &mut SmallRng, mut body: Value| {
        if random.random_bool(0.7) {
            body["lines"] = lines.clone();
        }
        body
    };
    let one = |random: &mut SmallRng, list: &str| -> Option<String> {
        let list = order[list].as_array().unwrap();
        (!list.is_empty()).then(|| id(&list[random.random_range(0..list.len())]))
    };
    let (path, body) = match random.random_range(0..14) {
        0 | 1 => {
            test.pump("payment").await;
            return 200;
        }
        2 => {
            let token = ["pm_card_visa", "pm_sandbox_refund_refused", "pm_card_chargeDeclined"];
            let token = token[random.random_range(0..token.len())];
            (format!("orders/{order_id}/payments"), json!({ "method": "card", "payment_token": token }))
        }
        3 => {
            let refund = if random.random_bool(0.5) { "auto" } else { "none" };
            let body = json!({ "refund": refund, "restock": random.random_bool(0.5) });
            let whole = random.random_bool(0.1);
            let body = if whole { body } else { json!({ "refund": refund, "lines": lines }) };
            (format!("orders/{order_id}/cancel"), body)
        }
        4 => (format!("orders/{order_id}/reservation/extend"), json!({ "seconds": 5 })),
        5 | 6 => (format!("orders/{order_id}/shipments"), some_or_all(random, json!({}))),
        kind @ 7..=9 => {
            let Some(payment) = one(random, "payments") else { return 404 };
            let amount = random.random_range(1..3000);
            match kind {
                7 => (format!("payments/{payment}/capture"), json!({ "amount": amount })),
                8 => {
                    let body = json!({ "lines": lines, "restock": random.random_bool(0.3) });
                    (format!("payments/{payment}/refunds"), body)
                }
                _ => (format!("payments/{payment}/refunds"), json!({ "amount": amount })),
            }
        }
        _ => {
            let Some(shipment) = one(random, "shipments") else { return 404 };
            let action = ["pack", "pack", "ship", "ship", "deliver", "cancel", "return", "return"];
            let action = action[random.random_range(0..action.len())];
            let body = if action == "return" {
                let restock = random.random_bool(0.5);
                some_or_all(random, json!({ "restock": restock, "reason": "x" }))
            } else {
                json!({})
            };
            (format!("shipments/{shipment}/{action}"), body)
        }
    };
    let answer = test.api.post(&format!("/v1/{path}"), &body).await;
    assert!(answer.status < 500, "{path} {body}: {}", answer.text);
    answer.status
}

/// `(table, from, to)` of every status that may follow another.
fn transitions() -> BTreeSet<(String, String, String)> {
    let mut transitions = BTreeSet::new();
    macro_rules! add {
        ($($table:literal $status:ident),*) => {
            $(for from in $status::ALL {
                let to = |to: &$status| ($table.to_owned(), from.to_string(), to.to_string());
                transitions.extend(from.allowed().iter().map(to));
            })*
        };
    }
    add!("orders" OrderStatus, "reservation" ReservationStatus, "payment" PaymentStatus, "refund" RefundStatus,
         "shipment" ShipmentStatus);
    transitions
}

/// Records every change of a status, whoever makes it.
async fn record_transitions(test: &TestApp) {
    let mut statements = "CREATE TABLE transition (of_table text, old text, new text);
        CREATE FUNCTION record_transition() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO transition VALUES (TG_TABLE_NAME, OLD.status, NEW.status); RETURN NULL; END $$;"
        .to_owned();
    for table in transitions().into_iter().map(|(table, _, _)| table).collect::<BTreeSet<_>>() {
        let trigger = format!(
            "CREATE TRIGGER recorded AFTER UPDATE ON {table} FOR EACH ROW
            WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION record_transition();"
        );
        statements.push_str(&trigger);
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut *test.conn().await).await.unwrap();
}

async fn recorded(test: &TestApp) -> BTreeSet<(String, String, String)> {
    let query = sqlx::query_as("SELECT DISTINCT of_table, old, new FROM transition");
    query.fetch_all(&mut *test.conn().await).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn whatever_is_asked_every_invariant_holds() {
    let allowed = transitions();
    let mut seen = BTreeSet::new();
    for seed in [1, 2, 3, 4] {
        let test = shop().await;
        record_transitions(&test).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let mut orders = Vec::new();
        for n in 0..4 {
            let method = if n % 2 == 0 { "automatic" } else { "manual" };
            orders.push(id(&test.order_of(&[("a", 2), ("b", 2), ("c", 1)], method).await));
        }
        let mut done = 0;
        for n in 0..STEPS {
            let order_id = &orders[random.random_range(0..orders.len())];
            done += usize::from(step(&test, &mut random, order_id).await < 300);
            if n % 10 == 0 {
                let found = test.app.verify_invariants().await.unwrap().violations;
                assert!(found.is_empty(), "seed {seed}: {found:#?}");
            }
        }
        assert!(done > STEPS / 5, "seed {seed}: only {done} steps did something");
        seen.append(&mut recorded(&test).await);
        test.settle_and_finish().await;
    }
    let strange: Vec<_> = seen.difference(&allowed).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(seen.len() > allowed.len() / 2, "the walks met only {seen:?}");
}
