//! `audit` names whatever is lost or doubled between a change and its effect: each is broken by hand, in a database of its own.

mod lost;
mod seeds;

use std::time::Duration;

use chrono::TimeDelta;
use holdfast::{
    app::{App, Audit, AuditEvents, Error, Moment},
    worker::subscriptions,
};
use sqlx::{Connection as _, Executor as _};

use seeds::{NO_VIOLATIONS, SEEDS, Seed};

use crate::support::{api::id, app::TestApp, database::TestDatabase};

/// The last hour, with nothing that may be on its way to a consumer.
fn last_hour() -> AuditEvents {
    let subscriptions = subscriptions();
    let required =
        subscriptions.iter().flat_map(|wants| wants.events.iter().map(|event| (wants.consumer, *event)));
    AuditEvents {
        since: Moment::Ago(TimeDelta::hours(1)),
        until: None,
        grace: Duration::ZERO,
        required: required.collect(),
    }
}

async fn audit(app: &App) -> Audit {
    app.audit_events(&last_hour(), |_, _| {}).await.unwrap()
}

fn broken(audit: &Audit) -> Vec<&'static str> {
    audit.checks.iter().filter(|check| check.violations > 0).map(|check| check.id).collect()
}

/// A database in which orders were shipped, refunded, declined, canceled and expired, and all of it has been handled.
async fn healthy() -> (App, TestDatabase) {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 100).await;
    let mut orders = Vec::new();
    for reference in ["shipped", "refunded", "declined", "canceled", "expired"] {
        let mut body = crate::support::api::order(&[("a", 2)]);
        body["client_reference"] = reference.into();
        let order_id = id(&test.api.post("/v1/orders", &body).await.expect(201));
        match reference {
            "declined" => {
                let payment_id = test.paying(&order_id, "pm_card_chargeDeclined").await;
                test.payment_becomes(&payment_id, "failed").await;
                test.run_out(&order_id, 0.0).await;
            }
            "canceled" => drop(test.api.cancel(&order_id).await.expect(200)),
            "expired" => test.run_out(&order_id, 0.0).await,
            _ => {
                let payment_id = test.paying(&order_id, "pm_card_visa").await;
                test.order_becomes(&order_id, "fulfilled").await;
                if reference == "refunded" {
                    let path = format!("/v1/payments/{payment_id}/refunds");
                    test.api.post(&path, &serde_json::json!({ "amount": 700 })).await.expect(201);
                    test.payment_becomes(&payment_id, "partially_refunded").await;
                }
            }
        }
        orders.push((reference, order_id));
    }
    for (reference, order_id) in &orders {
        let status = match *reference {
            "shipped" | "refunded" => "fulfilled",
            "canceled" => "canceled",
            _ => "expired",
        };
        test.order_becomes(order_id, status).await;
    }
    test.drain().await;
    let app = test.app.clone();
    let database = test.leave().await;
    let app = App { store: database.store().await, ..app };
    let whole = audit(&app).await;
    assert_eq!((whole.violations, whole.in_flight), (0, 0), "{whole:#?}");
    for check in &whole.checks {
        assert!(check.counts.iter().any(|(_, count, _)| *count > 0), "{} has looked at nothing", check.id);
    }
    app.store.close().await;
    (app, database)
}

/// The audit of a copy in which something was changed by hand.
async fn audit_after(app: &App, healthy: &TestDatabase, statements: &'static str) -> Audit {
    let database = healthy.copy().await;
    let mut conn = database.connect().await;
    conn.execute(statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    conn.close().await.unwrap();
    let store = database.store().await;
    let found = audit(&App { store: store.clone(), ..app.clone() }).await;
    store.close().await;
    database.drop().await;
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_lost_or_doubled_is_named() {
    let (app, healthy) = healthy().await;
    let mut wrong = Vec::new();
    for Seed { broken: expected, names, statements } in SEEDS {
        let found = audit_after(&app, &healthy, statements).await;
        let rows: Vec<&String> = found.checks.iter().flat_map(|check| &check.rows).collect();
        if broken(&found) != *expected || !rows.iter().any(|row| row.contains(names)) {
            wrong
                .push(format!("{statements}\n{:?} and not {expected:?}, {names}: {rows:#?}", broken(&found)));
        }
    }
    for (in_flight, statements) in NO_VIOLATIONS {
        let found = audit_after(&app, &healthy, statements).await;
        if (found.violations, found.in_flight) != (0, *in_flight) {
            wrong.push(format!("{statements}\n{found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // What is sent is on its way for as long as it may be.
    let database = healthy.copy().await;
    let mut conn = database.connect().await;
    conn.execute("DELETE FROM inbox WHERE consumer = 'fulfilment'").await.unwrap();
    conn.close().await.unwrap();
    let app = App { store: database.store().await, ..app };
    let patient = AuditEvents { grace: Duration::from_mins(10), ..last_hour() };
    let found = app.audit_events(&patient, |_, _| {}).await.unwrap();
    assert_eq!((found.violations, found.in_flight), (0, 4), "{found:#?}");
    // Nothing was made before.
    let earlier = AuditEvents { until: Some(Moment::Ago(TimeDelta::minutes(59))), ..last_hour() };
    let found = app.audit_events(&earlier, |_, _| {}).await.unwrap();
    assert_eq!((found.violations, found.in_flight), (0, 0), "{found:#?}");
    let backwards = AuditEvents { until: Some(Moment::Ago(TimeDelta::hours(2))), ..last_hour() };
    let refused = app.audit_events(&backwards, |_, _| {}).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    app.store.close().await;
    database.drop().await;
    healthy.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_the_provider_is_on_its_way_and_named() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_requires_action").await;
    test.payment_becomes(&payment_id, "requires_action").await;
    let waits = async || audit(&test.app).await.in_flight == 1;
    crate::support::eventually("all but the payment is handled", crate::support::PATIENCE, waits).await;
    let found = audit(&test.app).await;
    assert_eq!(found.violations, 0, "{found:#?}");
    let named = found.checks.iter().flat_map(|check| &check.counts).flat_map(|(_, _, rows)| rows);
    assert!(named.clone().any(|row| row.contains("payment.created.v1")), "{:?}", named.collect::<Vec<_>>());
    test.api.post(&format!("/v1/payments/{payment_id}/void"), &serde_json::json!({})).await.expect(202);
    test.payment_becomes(&payment_id, "voided").await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_changed_again_since_the_time_is_looked_at() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    test.placed(&[("a", 1)]).await;
    let lost = "UPDATE orders SET created_at = created_at - interval '30 min'; DELETE FROM outbox";
    test.conn().await.execute(lost).await.unwrap();
    let earlier = AuditEvents { until: Some(Moment::Ago(TimeDelta::minutes(10))), ..last_hour() };
    let found = test.app.audit_events(&earlier, |_, _| {}).await.unwrap();
    assert_eq!(broken(&found), ["A1", "A6"], "{found:#?}");
    test.stop().await;
}

#[test]
fn every_check_has_a_seed() {
    for check in holdfast::store::audit::CHECKS {
        assert!(SEEDS.iter().any(|seed| seed.broken.contains(&check.id)), "{} {}", check.id, check.title);
    }
}
