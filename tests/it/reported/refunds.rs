//! Money that went back twice, and news of what never happened. Row 15.
//!
//! juspay/hyperswitch #13182, PR #11491: two refunds of 60 at once on 100 both succeeded, and a refund below zero was accepted.
//! Here a refund claims its money by one conditional statement, under a constraint, and every amount is above zero.

use futures_util::future::join_all;
use holdfast::{
    bus::Subscription,
    domain::{event::EventType, ids::PaymentId},
    store::payments,
    worker::WorkerKind,
};
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::support::{
    api::{id, order},
    app::TestApp,
    broker::{next, nothing, take},
};

/// An order of ten units of 10.00 with its captured payment; all workers run.
async fn captured() -> (TestApp, String) {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 10).await;
    let order_id = test.placed(&[("a", 10)]).await;
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "fulfilled").await;
    test.payment_becomes(&payment_id, "captured").await;
    (test, payment_id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_refunds_of_sixty_on_a_hundred_give_one() {
    let (mut test, payment_id) = captured().await;
    let other = test.another_api().await;
    let path = format!("/v1/payments/{payment_id}/refunds");
    let body = json!({ "amount": 6000 });
    let apis = [&test.api, &other];
    let answers = join_all((0..6).map(|n| apis[n % 2].post(&path, &body))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 201) {
        let refused = answer.problem(409, "refund_exceeds_captured");
        assert_eq!(refused["refundable"], 4000);
    }
    let payment = test.payment_becomes(&payment_id, "partially_refunded").await;
    assert_eq!((&payment["amount_captured"], &payment["amount_refunded"]), (&json!(10_000), &json!(6000)));
    let seen = test.sandbox.payment(&payment_id).await;
    assert_eq!((&seen["amount_refunded"], &seen["refunds"]), (&json!(6000), &json!(1)));
    test.finish().await;
}

#[tokio::test]
async fn a_refund_of_nothing_or_less_is_refused() {
    let (test, payment_id) = captured().await;
    for amount in [json!(0), json!(-1), json!(-6000), json!(i64::MIN), json!(-0.5)] {
        let path = format!("/v1/payments/{payment_id}/refunds");
        let refused = test.api.post(&path, &json!({ "amount": amount })).await;
        assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["pointer"], "/amount", "{amount}");
    }
    for amount in ["0", "-6000"] {
        let refund = format!(
            "INSERT INTO refund (id, payment_id, amount, status) SELECT gen_random_uuid(), id, {amount}, 'pending' FROM payment"
        );
        let error = test.conn().await.execute(sqlx::AssertSqlSafe(refund)).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().constraint(), Some("refund_amount"));
    }
    assert_eq!(test.count("SELECT count(*) FROM refund").await, 0);
    assert_eq!(test.payment(&payment_id).await["amount_refund_claimed"], 0);
    test.finish().await;
}

/// Of two connections that claim 60 of 100, the second is refused: by the constraint, whoever writes, and before it by the
/// statement that claims.
#[tokio::test]
async fn the_database_refuses_to_give_back_more_than_was_captured() {
    let (test, payment_id) = captured().await;
    let anybody = "UPDATE payment SET amount_refund_claimed = amount_refund_claimed + 6000";
    assert_eq!(test.database.meet(anybody, anybody).await, Err("payment_money_bounds".into()));
    let nothing = "UPDATE payment SET amount_refund_claimed = 0";
    test.conn().await.execute(nothing).await.unwrap();

    let payment_id: PaymentId = payment_id.parse().unwrap();
    let mut first = test.app.store.begin("first").await.unwrap();
    assert!(payments::claim_refund(&mut first, payment_id, 6000).await.unwrap());
    let second = async {
        let mut second = test.app.store.begin("second").await.unwrap();
        payments::claim_refund(&mut second, payment_id, 6000).await.unwrap()
    };
    let commit = async {
        test.database.somebody_waits().await;
        first.commit().await.unwrap();
    };
    assert!(!tokio::join!(second, commit).0);
    for (amount, claimed) in [(0, false), (-1, false), (4001, false), (4000, true), (1, false)] {
        let done = payments::claim_refund(&mut *test.conn().await, payment_id, amount).await.unwrap();
        assert_eq!(done, claimed, "{amount}");
    }
    test.conn().await.execute(nothing).await.unwrap();
    test.finish().await;
}

/// Row 15 as well. medusajs/medusa #15122, vendurehq/vendure #4416, dotnet/eShop #888: "order placed" went out, and then the order was
/// rolled back. Here the event is a row of the order's own transaction: one that fails with its commit tells nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_of_an_order_whose_commit_fails() {
    const OBSERVER: Subscription =
        Subscription { consumer: "observer", events: &[EventType::OrderCreated, EventType::OrderCanceled] };
    let mut test = TestApp::start().await;
    test.bus.declare(&[OBSERVER]).await.unwrap();
    let mut told = test.bus.subscribe(&OBSERVER, 10).await;
    test.start_workers(&WorkerKind::ALL);
    test.stock("a", 5).await;
    // The last moment there is: every statement was carried out.
    let trigger = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
                   CREATE CONSTRAINT TRIGGER doomed AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                   WHEN (NEW.client_reference = 'doomed') EXECUTE FUNCTION fail()";
    sqlx::raw_sql(trigger).execute(&mut *test.conn().await).await.unwrap();
    let place = async |reference: &str| -> Value {
        let mut body = order(&[("a", 1)]);
        body["client_reference"] = json!(reference);
        let answer = test.api.post("/v1/orders", &body).await;
        assert!(!answer.text.contains("too late"), "{}", answer.text);
        answer.expect(if reference == "doomed" { 500 } else { 201 })
    };
    place("doomed").await;
    let placed = place("placed").await;
    let subject = format!("order/{}", id(&placed));
    assert_eq!(take(next(&mut told).await).await.subject, subject);
    test.drain().await;
    nothing(&mut told).await;
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 1);
    assert_eq!(test.api.level("a").await, (5, 1, 0));
    test.api.cancel(&id(&placed)).await.expect(200);
    assert_eq!(take(next(&mut told).await).await.subject, subject);
    test.finish().await;
}
