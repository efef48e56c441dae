//! Customers who paid for stock that was gone. Row 6.
//!
//! vendurehq/vendure #3065, saleor/saleor #14733, openfoodfoundation/openfoodnetwork #7665, #7922: the money was taken first, then
//! the stock turned out to be sold, and the order was stuck with the money. Here the stock is held before anybody can pay
//! and committed before money is captured; what is authorized for an order that is dead by then goes back by itself.

use futures_util::future::join_all;
use holdfast::{app::Progress, worker::WorkerKind};
use serde_json::json;

use crate::support::{
    api::id,
    app::{Setup, TestApp},
    payments::{is_unknown, moves, paying},
};

#[tokio::test]
async fn stock_is_held_before_payment_and_committed_before_capture() {
    let (test, order_id, payment_id) = paying("pm_card_visa").await;
    let order = order_id.to_string();
    assert_eq!((test.api.level("a").await, moves(&test, payment_id).await), ((5, 1, 0), [0, 0, 0]));
    test.authorize(payment_id).await.unwrap();
    assert_eq!((test.api.level("a").await, moves(&test, payment_id).await), ((5, 0, 1), [1, 0, 0]));
    assert_eq!(test.api.order(&order).await["status"], "confirmed");
    test.capture(payment_id).await.unwrap();
    assert_eq!((test.api.level("a").await, moves(&test, payment_id).await), ((5, 0, 1), [1, 1, 0]));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_the_last_unit_one_is_charged() {
    let setup = Setup { zookeeper: true, workers: &WorkerKind::ALL, ..Setup::default() };
    let test = TestApp::start_with(setup).await;
    test.stock("a", 1).await;
    let buy = async || {
        let placed = test.api.place(&[("a", 1)]).await;
        if placed.status != 201 {
            placed.problem(409, "insufficient_stock");
            return None;
        }
        let order_id = id(&placed.body);
        test.paying(&order_id, "pm_card_visa").await;
        Some(order_id)
    };
    let bought: Vec<String> = join_all((0..20).map(|_| buy())).await.into_iter().flatten().collect();
    assert_eq!(bought.len(), 1);
    test.order_becomes(&bought[0], "fulfilled").await;
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(1), &json!(1)));
    assert_eq!(test.api.level("a").await, (0, 0, 0));
    test.finish().await;
}

#[tokio::test]
async fn an_authorization_that_comes_after_the_order_expired_is_voided() {
    let (test, order_id, payment_id) = paying("pm_sandbox_error_after_authorize").await;
    assert!(is_unknown(&test.authorize(payment_id).await));
    test.run_out(&order_id.to_string(), 1.0).await;
    assert_eq!(test.expire(order_id).await, 1);
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    // Somebody else buys it all, and nobody takes it away again.
    let other = test.placed(&[("a", 5)]).await;
    // Nothing to let go yet: the provider has not decided.
    assert_eq!(test.release(order_id).await, Progress::Done);
    assert_eq!(test.authorize(payment_id).await.unwrap(), Progress::Done);
    assert_eq!(test.api.order(&order_id.to_string()).await["status"], "expired");
    // As the event of the authorization does.
    assert_eq!(test.capture(payment_id).await.unwrap(), Progress::Done);
    assert_eq!(test.payment(payment_id).await["status"], "voided");
    assert_eq!(test.api.order(&other).await["status"], "pending_payment");
    assert_eq!(test.api.level("a").await, (5, 5, 0));
    assert_eq!(moves(&test, payment_id).await, [1, 0, 0]);
    assert_eq!(test.sandbox.summary().await["voided"], 1);
    test.finish().await;
}
