//! What the provider tells: early, late, three times at once, or of something else. Rows 7, 9 and 10.

use std::time::Duration;

use futures_util::future::join_all;
use holdfast::worker::WorkerKind;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    api::id,
    app::{Setup, TestApp},
    eventually,
    payments::{moves, new_event, paying},
    sandbox::{SECRET_KEY, http_client},
    webhooks::event,
};

async fn started(setup: Setup) -> TestApp {
    let test = TestApp::start_with(Setup { webhooks: true, workers: &WorkerKind::ALL, ..setup }).await;
    test.stock("a", 5).await;
    test
}

/// Waits until so many events have come and have taken effect.
async fn processed(test: &TestApp, events: i64) {
    let done = async || {
        let processed = "SELECT count(*) FROM provider_event WHERE processed_at IS NOT NULL";
        test.count(processed).await == events
            && test.count("SELECT count(*) FROM provider_event").await == events
    };
    eventually(&format!("{events} events took effect"), PATIENCE, done).await;
}

/// Row 7. medusajs/medusa #13301, #4798: the answer to the API's call and the webhook both completed the order: money was
/// captured twice, orders went missing. Here each only finds out what the provider says, and one of them records it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_before_the_answer_settles_the_payment_and_the_answer_changes_nothing() {
    let test = started(Setup::default()).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_webhook_before_response").await;
    test.order_becomes(&order_id, "fulfilled").await;
    test.drain().await;
    // The event of the authorization follows from no event: it was the webhook's look-up that found it.
    let by_look_up = "SELECT count(*) FROM outbox_sent
                      WHERE type = 'payment.authorized.v1' AND causation_id IS NULL";
    assert_eq!(test.count(by_look_up).await, 1);
    assert_eq!(test.count("SELECT count(*) FROM payment_event WHERE status = 'authorized'").await, 1);
    let counts = test.sandbox.payment(&payment_id).await;
    assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)));
    processed(&test, 2).await;
    test.finish().await;
}

/// Row 7: many answers and many look-ups at the same moment, over two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_look_ups_at_once_confirm_once() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    let other = test.another_app().await;
    let record = async |n: usize| {
        let app = if n.is_multiple_of(2) { &test.app } else { &other };
        if n % 4 < 2 {
            // The provider says that it is busy with the same payment, until it is not.
            while let Err(error) = app.authorize_payment(&new_event(), payment_id).await {
                assert!(error.is_transient(), "{error}");
            }
        } else {
            test.payments_age(61.0).await;
            app.reconcile_payments(10).await.unwrap();
        }
    };
    join_all((0..12).map(record)).await;
    let order = order_id.to_string();
    assert_eq!(test.api.order(&order).await["status"], "confirmed");
    for (query, count) in [
        ("SELECT count(*) FROM payment_event WHERE status = 'authorized'", 1),
        ("SELECT count(*) FROM outbox WHERE type = 'payment.authorized.v1'", 1),
        ("SELECT count(*) FROM outbox WHERE type = 'order.confirmed.v1'", 1),
    ] {
        assert_eq!(test.count(query).await, count, "{query}");
    }
    assert_eq!((test.api.level("a").await, moves(&test, payment_id).await[0]), ((5, 0, 1), 1));
    other.locks.close().await;
    other.store.close().await;
    test.finish().await;
}

/// Row 9. Pinelab vendure-plugins #620, saleor/saleor PR #9504, woocommerce/woocommerce-gateway-stripe #5042: one webhook was
/// worked on three times at once, a late one added its amount to the captured one, stock was reduced twice. Here an event
/// is stored once, and only has the payment looked up; amounts are set from what the provider says then, never added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_webhook_three_times_at_once_takes_effect_once() {
    let test = started(Setup::default()).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_webhook_x3").await;
    let order = test.order_becomes(&order_id, "fulfilled").await;
    assert_eq!(order["payments"][0]["amount_captured"], 1000);
    processed(&test, 2).await;
    for status in ["authorized", "captured"] {
        let query = "SELECT count(*) FROM payment_event WHERE status = $1";
        let count: i64 =
            sqlx::query_scalar(query).bind(status).fetch_one(&mut *test.conn().await).await.unwrap();
        assert_eq!(count, 1, "{status}");
    }
    let counts = test.sandbox.payment(&payment_id).await;
    assert_eq!((&counts["authorizations"], &counts["captures"]), (&json!(1), &json!(1)));
    assert_eq!(test.count("SELECT count(*) FROM shipment").await, 1);
    test.finish().await;
}

/// Row 9: the same news again when all is done, under the ids of new events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_notices_add_no_money_and_take_no_stock() {
    let test = started(Setup::default()).await;
    let order_id = test.placed(&[("a", 2)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "fulfilled").await;
    processed(&test, 2).await;
    let reference = test.payment(&payment_id).await["provider_reference"].as_str().unwrap().to_owned();
    let kinds = ["payment_intent.amount_capturable_updated", "payment_intent.succeeded", "charge.captured"];
    let notices = (0..9).map(async |n: usize| {
        let notice = event(&format!("evt_late_{n}"), kinds[n % 3], &reference, &payment_id);
        test.api.webhook(&notice).await.expect(200);
    });
    join_all(notices).await;
    processed(&test, 2 + 9).await;
    let payment = test.payment(&payment_id).await;
    assert_eq!((&payment["status"], &payment["amount_captured"]), (&json!("captured"), &json!(2000)));
    assert_eq!(test.api.level("a").await, (3, 0, 0));
    assert_eq!(test.count("SELECT count(*) FROM stock_movement WHERE type = 'ship'").await, 1);
    test.finish().await;
}

/// Row 9: of two connections that store one event, or handle one delivery, the second is refused.
#[tokio::test]
async fn the_database_stores_an_event_once() {
    let test = TestApp::start().await;
    let tell =
        "INSERT INTO provider_event (provider, event_id, type, provider_reference, created_at, processed_at)
                VALUES ('stripe', 'evt_1', 'payment_intent.succeeded', 'pi_1', now(), now())";
    assert_eq!(test.database.meet(tell, tell).await, Err("provider_event_pkey".into()));
    let handle =
        "INSERT INTO inbox (consumer, event_id) VALUES ('payment', 'e6d1d7a2-0000-7000-8000-000000000001')";
    assert_eq!(test.database.meet(handle, handle).await, Err("inbox_default_pkey".into()));
    test.finish().await;
}

/// Row 10. mollie/WooCommerce #1252, #668, mollie/magento2 #1083: a late "paid" brought a canceled order back to life, with stock or
/// without, and a late "expired" ended one that was complete. Here an order that has ended stays as it is, whatever is told;
/// money that comes for it goes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_comes_after_the_order_expired_goes_back() {
    let test = started(Setup { payment_pin: Duration::ZERO, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 5)]).await;
    let payment_id = test.paying(&order_id, "pm_sandbox_late_success_after_expiry").await;
    processed(&test, 1).await;
    test.run_out(&order_id, 1.0).await;
    test.order_becomes(&order_id, "expired").await;
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    assert_eq!(test.payment_becomes(&payment_id, "processing").await["amount_captured"], 0);
    // Somebody else gets the stock, and nobody takes it away again.
    test.placed(&[("a", 5)]).await;
    test.sandbox.decide("payments/succeed", &payment_id).await;
    test.payment_becomes(&payment_id, "voided").await;
    assert_eq!(test.api.order(&order_id).await["status"], "expired");
    assert_eq!(test.api.level("a").await, (5, 5, 0));
    let summary = test.sandbox.summary().await;
    let expected = (&json!(1), &json!(1), &json!(0));
    assert_eq!((&summary["authorized"], &summary["voided"], &summary["captured"]), expected);
    test.finish().await;
}

/// Row 10: every notice there is, for an order that is complete and for one that was canceled and refunded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_notice_changes_an_order_that_has_ended() {
    let mut test =
        TestApp::start_with(Setup { webhooks: true, ship_at_once: false, ..Setup::default() }).await;
    test.start_workers(&WorkerKind::ALL);
    test.stock("a", 5).await;
    let mut ended = Vec::new();
    for status in ["fulfilled", "canceled"] {
        let order_id = test.placed(&[("a", 1)]).await;
        let payment_id = test.paying(&order_id, "pm_card_visa").await;
        test.payment_becomes(&payment_id, "captured").await;
        let made = async || test.api.order(&order_id).await["shipments"][0]["id"].is_string();
        eventually("a shipment is made", PATIENCE, made).await;
        if status == "canceled" {
            test.api.cancel(&order_id).await.expect(200);
            test.payment_becomes(&payment_id, "refunded").await;
        } else {
            let shipment = id(&test.api.order(&order_id).await["shipments"][0]);
            for step in ["pack", "ship"] {
                let path = format!("/v1/shipments/{shipment}/{step}");
                test.api.post(&path, &json!({})).await.expect(200);
            }
        }
        ended.push((test.order_becomes(&order_id, status).await, payment_id));
    }
    // Authorized and captured, twice, and refunded.
    processed(&test, 5).await;
    let level = test.api.level("a").await;
    for (n, kind) in [
        "payment_intent.succeeded",
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "charge.expired",
        "charge.refunded",
    ]
    .into_iter()
    .enumerate()
    {
        for (order, payment_id) in &ended {
            let reference = order["payments"][0]["provider_reference"].as_str().unwrap();
            let notice = event(&format!("evt_{n}_{payment_id}"), kind, reference, payment_id);
            test.api.webhook(&notice).await.expect(200);
        }
    }
    processed(&test, 5 + 12).await;
    for (order, _) in &ended {
        let now = test.api.order(&id(order)).await;
        for field in ["status", "version", "payment_status", "amount_due", "lines", "shipments", "refunds"] {
            assert_eq!(now[field], order[field], "{field}");
        }
    }
    assert_eq!(test.api.level("a").await, level);
    test.finish().await;
}

/// Row 9: an amount that somebody refunds in the provider's own pages is set, and set again, not added.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refund_made_elsewhere_is_recorded() {
    let test = started(Setup { ship_at_once: false, ..Setup::default() }).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    let payment = test.payment_becomes(&payment_id, "captured").await;
    processed(&test, 2).await;
    let reference = payment["provider_reference"].as_str().unwrap();
    let refund = async |amount: &str| {
        let request = http_client().post(format!("{}/v1/refunds", test.sandbox.url)).bearer_auth(SECRET_KEY);
        let answer = request.form(&[("payment_intent", reference), ("amount", amount)]).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    refund("400").await;
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(1000), &json!(400)));
    refund("300").await;
    processed(&test, 4).await;
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(1000), &json!(700)));
    // It is about a charge, which names the payment by the provider's id only.
    let event: Value =
        sqlx::query_scalar("SELECT to_jsonb(e) FROM provider_event e WHERE type = 'charge.refunded' LIMIT 1")
            .fetch_one(&mut *test.conn().await)
            .await
            .unwrap();
    assert_eq!(event["provider_reference"], payment["provider_reference"]);
    test.finish().await;
}
