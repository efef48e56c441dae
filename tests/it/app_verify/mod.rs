//! `verify` finds every violation that it is there to find: each is seeded past the constraints, in a database of its own.

mod seeds;

use holdfast::{
    app::{App, Cause, Handling},
    domain::ids::{EventId, PaymentId},
};
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use seeds::{NO_VIOLATIONS, SEEDS, Seed};

use crate::support::{
    api::{id, order},
    app::TestApp,
    database::TestDatabase,
};

/// A database with an order that waits for payment, a paid one, a canceled one, and a SKU that nobody bought.
async fn healthy() -> (App, TestDatabase) {
    let test = TestApp::start().await;
    for sku in ["a", "unsold"] {
        test.stock(sku, 8).await;
    }
    let import_id = test.api.import("mode=set", "sku,on_hand\nimported,1\nwrong,many\n").await;
    test.app.run_stock_import(import_id.parse().ok()).await.unwrap();
    let mut payments = Vec::new();
    for (reference, quantity) in [("waiting", 3), ("paid", 4), ("canceled", 1)] {
        let mut body = order(&[("a", quantity)]);
        body["client_reference"] = json!(reference);
        body["customer_id"] = json!((reference == "canceled").then_some("customer"));
        let order_id = id(&test.api.post("/v1/orders", &body).await.expect(201));
        match reference {
            "paid" => payments.push(test.paying(&order_id, "pm_card_visa").await),
            "canceled" => drop(test.api.cancel(&order_id).await.expect(200)),
            _ => {}
        }
    }
    let event = || Handling { consumer: "payment", event_id: EventId::new(), cause: Cause::default() };
    let payment_id: PaymentId = payments[0].parse().unwrap();
    test.app.authorize_payment(&event(), payment_id).await.unwrap();
    test.app.capture_payment(&event(), payment_id).await.unwrap();
    // However long the test takes, its events are not late.
    let fresh = "UPDATE outbox SET created_at = now() + interval '1 hour'";
    sqlx::query(fresh).execute(&mut *test.conn().await).await.unwrap();
    test.app.store.close().await;
    let database = test.database.copy().await;
    let app = App { store: database.store().await, ..test.app.clone() };
    test.stop().await;
    assert_eq!(app.verify_invariants().await.unwrap().violations, []);
    app.store.close().await;
    (app, database)
}

#[tokio::test]
async fn every_seeded_violation_is_found_and_no_other() {
    let (app, healthy) = healthy().await;
    for Seed { broken, also, statements } in SEEDS {
        let database = healthy.copy().await;
        let mut conn = database.connect().await;
        conn.execute(*statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
        conn.close().await.unwrap();
        let store = database.store().await;
        let app = App { store: store.clone(), ..app.clone() };
        let found = app.verify_invariants().await.unwrap();
        let mut ids: Vec<&str> = found.violations.iter().map(|violation| violation.id).collect();
        let mut expected: Vec<&str> = also.iter().chain([broken]).copied().collect();
        ids.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{statements}: {:#?}", found.violations);
        for violation in &found.violations {
            let described = usize::try_from(violation.count).unwrap().min(20);
            assert!(violation.count > 0 && violation.rows.len() == described, "{violation:#?}");
            assert!(violation.rows.iter().all(|row| !row.is_empty()), "{violation:#?}");
        }
        store.close().await;
        database.drop().await;
    }
    healthy.drop().await;
}

#[tokio::test]
async fn what_is_on_its_way_is_no_violation() {
    let (app, healthy) = healthy().await;
    for statements in NO_VIOLATIONS {
        let database = healthy.copy().await;
        let mut conn = database.connect().await;
        conn.execute(*statements).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
        conn.close().await.unwrap();
        let store = database.store().await;
        let app = App { store: store.clone(), ..app.clone() };
        let found = app.verify_invariants().await.unwrap();
        assert_eq!(found.violations, [], "{statements}");
        store.close().await;
        database.drop().await;
    }
    healthy.drop().await;
}

#[test]
fn every_invariant_has_a_seed() {
    for invariant in holdfast::store::invariants::INVARIANTS {
        assert!(SEEDS.iter().any(|seed| seed.broken == invariant.id), "{} {}", invariant.id, invariant.title);
    }
}
