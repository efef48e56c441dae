//! Holds that ended too early, too late, twice or never. Rows 11 to 13.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use holdfast::app::Cause;
use serde_json::json;

use crate::support::{
    api::tally,
    app::{Setup, TestApp},
};

/// Row 11. woocommerce/woocommerce #67354, PR #67931: a shopper who started over was blocked by the hold of the own old order; the
/// mend freed that stock while the old order could still be paid, and oversold. Here a hold belongs to one order: canceling
/// it frees the stock at once, and from then on, and only then, the old order cannot be paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shopper_who_starts_over_gets_the_stock_of_the_old_order_which_nobody_can_pay_any_more() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 1).await;
    let old = test.placed(&[("a", 1)]).await;
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    // The old one is being paid: it keeps its stock until that is given up.
    let payment_id = test.paying(&old, "pm_sandbox_requires_action").await;
    test.payment_becomes(&payment_id, "requires_action").await;
    test.api.cancel(&old).await.problem(409, "payment_in_progress");
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    test.api.post(&format!("/v1/payments/{payment_id}/void"), &json!({})).await.expect(202);
    test.payment_becomes(&payment_id, "voided").await;
    test.api.cancel(&old).await.expect(200);

    let new = test.placed(&[("a", 1)]).await;
    let refused = test.api.pay(&old, "pm_card_visa").await.problem(409, "invalid_state_transition");
    assert_eq!((&refused["current_status"], &refused["allowed"]), (&json!("canceled"), &json!([])));
    test.paying(&new, "pm_card_visa").await;
    test.order_becomes(&new, "fulfilled").await;
    assert_eq!(test.api.order(&old).await["status"], "canceled");
    assert_eq!(test.sandbox.summary().await["captured"], 1);
    test.finish().await;
}

/// Row 12. saleor/saleor #15246, mollie/magento2 #949, woocommerce/woocommerce PR #66303: the time ran out in the middle of the
/// payment, or abandoned payments kept the last units for hours. Here a payment in flight pins the hold, for so long and no
/// longer.
#[tokio::test]
async fn a_payment_in_flight_keeps_an_order_alive_for_its_pin_and_no_longer() {
    let payment_pin = Duration::from_mins(5);
    let test = TestApp::start_with(Setup { payment_pin, ..Setup::default() }).await;
    test.stock("a", 1).await;
    let order_id = test.placed(&[("a", 1)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    test.run_out(&order_id, 240.0).await;
    assert_eq!(test.app.expire_orders(None, 100, &Cause::default()).await.unwrap(), 0);
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    assert_eq!(test.api.order(&order_id).await["status"], "pending_payment");
    test.run_out(&order_id, 301.0).await;
    test.placed(&[("a", 1)]).await;
    assert_eq!(test.api.order(&order_id).await["status"], "expired");
    test.finish().await;
}

/// Row 13. medusajs/medusa #13625, #12401, #11131, vendurehq/vendure #1571, #1557, #2874: stock was not released, or released twice,
/// and counters fell below zero with nothing to tell. Here a release is a guarded step of its rows, taken once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_canceled_twice_at_once_is_canceled_once() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 2)]).await;
    let answers = join_all((0..5).map(|_| test.api.cancel(&order_id))).await;
    assert_eq!(tally(&answers), BTreeMap::from([((200, ""), 1), ((409, "invalid_state_transition"), 4)]));
    assert_eq!(test.api.level("a").await, (5, 0, 0));

    let order_id = test.placed(&[("a", 2)]).await;
    let path = format!("/v1/orders/{order_id}/cancel");
    let body = json!({});
    let answers = join_all((0..5).map(|_| test.api.post_until_answered("cancel", &path, &body))).await;
    assert_eq!(tally(&answers), BTreeMap::from([((200, ""), 5)]));
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
    assert_eq!(test.count("SELECT count(*) FROM outbox WHERE type = 'order.canceled.v1'").await, 2);
    assert_eq!(test.api.level("a").await, (5, 0, 0));
    test.finish().await;
}

/// Row 13: whoever ends an overdue order, a client, the expiry worker or the next buyer, does it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canceling_expiring_and_buying_at_once_release_each_unit_once() {
    for zookeeper in [true, false] {
        let test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        let other = test.another_app().await;
        test.stock("a", 20).await;
        let overdue = join_all((0..10).map(|_| test.placed(&[("a", 2)]))).await;
        for order_id in &overdue {
            test.run_out(order_id, 1.0).await;
        }
        let cause = Cause::default();
        let (canceled, first, second, bought) = tokio::join!(
            join_all(overdue.iter().map(|order_id| test.api.cancel(order_id))),
            test.app.expire_orders(None, 10, &cause),
            other.expire_orders(None, 10, &cause),
            join_all((0..5).map(|_| test.api.place(&[("a", 1)]))),
        );
        assert!(first.unwrap() + second.unwrap() <= 10);
        for answer in &canceled {
            let legal = [(200, ""), (409, "invalid_state_transition"), (409, "reservation_expired")];
            assert!(legal.contains(&(answer.status, answer.code())), "{}", answer.text);
        }
        let bought = i64::try_from(bought.iter().filter(|answer| answer.status == 201).count()).unwrap();
        test.app.expire_orders(None, 100, &cause).await.unwrap();
        assert_eq!(test.api.level("a").await, (20, bought, 0));
        let ended = "SELECT count(*) FROM outbox WHERE type IN ('order.canceled.v1', 'order.expired.v1')";
        assert_eq!(test.count(ended).await, 10);
        let released =
            "SELECT sum(quantity)::bigint FROM reservation WHERE status IN ('released', 'expired')";
        assert_eq!(test.count(released).await, 20);
        other.locks.close().await;
        other.store.close().await;
        test.finish().await;
    }
}

/// Row 13: of two connections that give the last held unit back, the second is refused.
#[tokio::test]
async fn the_database_keeps_every_counter_at_zero_or_above() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    test.placed(&[("a", 1)]).await;
    let release = "UPDATE inventory_level SET reserved = reserved - 1";
    assert_eq!(test.database.meet(release, release).await, Err("inventory_level_not_negative".into()));
    // The first of them was nobody's release, and is found.
    let violations = test.app.verify_invariants().await.unwrap().violations;
    assert_eq!(violations.iter().map(|violation| violation.id).collect::<Vec<_>>(), ["I2"]);
    let take_back = "UPDATE inventory_level SET reserved = 1";
    sqlx::query(take_back).execute(&mut *test.conn().await).await.unwrap();
    test.finish().await;
}
