//! Stock events: each crossing of a threshold is told once, in the transaction that crossed it, whatever moved the stock.

use futures_util::future::join_all;
use holdfast::{app::Cause, worker::WorkerKind};
use serde_json::{Value, json};

use crate::support::{
    api::{id, order},
    app::{Setup, TestApp},
};

/// The stock events of a SKU at the default location, in order: `(what, available, low_stock)`.
async fn told(test: &TestApp, sku: &str) -> Vec<(String, i64, bool)> {
    let query = "SELECT type, data FROM (SELECT type, subject, sequence, data::jsonb FROM outbox
                 UNION ALL SELECT type, subject, sequence, data::jsonb FROM outbox_sent) AS e
                 WHERE subject = 'inventory/' || $1 || '/main' AND type <> 'inventory.adjusted.v1' ORDER BY sequence";
    let rows: Vec<(String, Value)> =
        sqlx::query_as(query).bind(sku).fetch_all(&mut *test.conn().await).await.unwrap();
    let event = |(kind, data): (String, Value)| {
        assert_eq!((&data["sku"], &data["location_id"]), (&json!(sku), &json!("main")), "{data}");
        let kind = kind.strip_prefix("inventory.").unwrap().strip_suffix(".v1").unwrap().to_owned();
        (kind, data["available"].as_i64().unwrap(), data["low_stock"].as_bool().unwrap())
    };
    rows.into_iter().map(event).collect()
}

fn event(kind: &str, available: i64, low_stock: bool) -> (String, i64, bool) {
    (kind.to_owned(), available, low_stock)
}

/// Sets a level with a threshold.
async fn set(test: &TestApp, sku: &str, on_hand: i64, threshold: Value) {
    let body = json!({ "on_hand": on_hand, "low_stock_threshold": threshold });
    test.api.put(&format!("/v1/inventory/{sku}/main"), &body).await.expect(200);
}

/// That the histories of all levels hold each version once at most, and none that the level has not reached.
async fn histories_are_sound(test: &TestApp) {
    let broken = "SELECT count(*) FROM (
        SELECT e.subject FROM (SELECT subject, sequence FROM outbox UNION ALL SELECT subject, sequence FROM outbox_sent) e
        JOIN inventory_level l ON e.subject = 'inventory/' || l.sku || '/' || l.location_id
        GROUP BY e.subject, l.version
        HAVING count(*) <> count(DISTINCT e.sequence) OR max(e.sequence) > l.version) AS broken";
    assert_eq!(test.count(broken).await, 0);
}

#[tokio::test]
async fn placing_and_giving_back_tell_each_crossing_once() {
    let test = TestApp::start().await;
    set(&test, "a", 10, json!(4)).await;
    assert_eq!(told(&test, "a").await, []);
    let first = test.placed(&[("a", 5)]).await;
    assert_eq!(told(&test, "a").await, []);
    // Twice over the line in one order.
    test.placed(&[("a", 1), ("a", 1)]).await;
    let mut expected = vec![event("low_stock", 3, true)];
    assert_eq!(told(&test, "a").await, expected);
    let second = test.placed(&[("a", 1)]).await;
    assert_eq!(told(&test, "a").await, expected);
    test.placed(&[("a", 2)]).await;
    expected.push(event("out_of_stock", 0, true));
    assert_eq!(told(&test, "a").await, expected);
    test.api.place(&[("a", 1)]).await.problem(409, "insufficient_stock");
    // Canceled: back, and still low.
    test.api.cancel(&second).await.expect(200);
    expected.push(event("back_in_stock", 1, true));
    assert_eq!(told(&test, "a").await, expected);
    // Expired: no longer low, of which nothing is told.
    test.run_out(&first, 1.0).await;
    assert_eq!(test.app.expire_orders(None, 10, &Cause::default()).await.unwrap(), 1);
    assert_eq!(told(&test, "a").await, expected);
    test.placed(&[("a", 6)]).await;
    expected.push(event("out_of_stock", 0, true));
    assert_eq!(told(&test, "a").await, expected);
    histories_are_sound(&test).await;
    test.finish().await;
}

/// Canceled, shipped, sent back and refunded in parts: what can be sold again crosses, what leaves for good does not.
#[tokio::test]
async fn what_becomes_of_units_of_an_order_tells_each_crossing_once() {
    let test = TestApp::start_with(Setup { ship_at_once: false, ..Setup::default() }).await;
    set(&test, "a", 5, json!(1)).await;
    let order = test.api.place(&[("a", 5)]).await.expect(201);
    let mut expected = vec![event("out_of_stock", 0, true)];
    let order_id = id(&order);
    let line = |quantity: i64| json!([{ "line_id": order["lines"][0]["id"], "quantity": quantity }]);
    let ask = async |path: String, body: Value, status: u16| test.api.post(&path, &body).await.expect(status);
    let cancel = async |body: Value| ask(format!("/v1/orders/{order_id}/cancel"), body, 200).await;
    cancel(json!({ "lines": line(1) })).await;
    expected.push(event("back_in_stock", 1, true));
    assert_eq!(told(&test, "a").await, expected);
    test.placed(&[("a", 1)]).await;
    expected.push(event("out_of_stock", 0, true));
    let payment_id = test.paying(&order_id, "pm_card_visa").await;
    test.authorize(payment_id.parse().unwrap()).await.unwrap();
    test.capture(payment_id.parse().unwrap()).await.unwrap();
    // Gone, not free.
    cancel(json!({ "lines": line(1), "restock": false })).await;
    let shipment = ask(format!("/v1/orders/{order_id}/shipments"), json!({}), 201).await;
    for step in ["pack", "ship"] {
        ask(format!("/v1/shipments/{}/{step}", id(&shipment)), json!({}), 200).await;
    }
    assert_eq!((told(&test, "a").await, test.api.level("a").await), (expected.clone(), (1, 1, 0)));
    let back = async |restock: bool| {
        let body = json!({ "lines": line(1), "restock": restock, "reason": "too small" });
        ask(format!("/v1/shipments/{}/return", id(&shipment)), body, 200).await
    };
    back(false).await;
    assert_eq!(told(&test, "a").await, expected);
    back(true).await;
    expected.push(event("back_in_stock", 1, true));
    assert_eq!(told(&test, "a").await, expected);
    // No longer low, of which nothing is told.
    let refund = json!({ "lines": line(1), "restock": true });
    ask(format!("/v1/payments/{payment_id}/refunds"), refund, 201).await;
    assert_eq!((told(&test, "a").await, test.api.level("a").await), (expected.clone(), (3, 1, 0)));
    test.placed(&[("a", 1)]).await;
    expected.push(event("low_stock", 1, true));
    assert_eq!(told(&test, "a").await, expected);
    test.refund().await;
    histories_are_sound(&test).await;
    test.finish().await;
}

#[tokio::test]
async fn changes_by_hand_tell_what_they_cross_after_what_they_adjust() {
    let test = TestApp::start().await;
    // A level that is made was never out of stock.
    set(&test, "a", 3, json!(5)).await;
    set(&test, "none", 0, json!(5)).await;
    assert_eq!((told(&test, "a").await, told(&test, "none").await), (vec![], vec![]));
    set(&test, "a", 0, json!(5)).await;
    set(&test, "none", 1, json!(null)).await;
    assert_eq!(told(&test, "none").await, [event("back_in_stock", 1, false)]);
    let mut expected = vec![event("out_of_stock", 0, true)];
    assert_eq!(told(&test, "a").await, expected);
    let adjust = async |delta: i64| {
        let body = json!({ "items": [{ "sku": "a", "delta": delta }] });
        test.api.post("/v1/inventory/adjustments", &body).await.expect(201)
    };
    adjust(9).await;
    expected.push(event("back_in_stock", 9, false));
    adjust(-3).await;
    adjust(-2).await;
    expected.push(event("low_stock", 4, true));
    adjust(-1).await;
    // What moves may also be the threshold, the safety stock or the backorder limit.
    set(&test, "a", 3, json!(null)).await;
    set(&test, "a", 3, json!(3)).await;
    expected.push(event("low_stock", 3, true));
    let put = async |body: Value| test.api.put("/v1/inventory/a/main", &body).await.expect(200);
    put(json!({ "on_hand": 3, "safety_stock": 3 })).await;
    expected.push(event("out_of_stock", 0, true));
    put(json!({ "on_hand": 3, "backorder_limit": 2 })).await;
    expected.push(event("back_in_stock", 2, true));
    assert_eq!(told(&test, "a").await, expected);
    // Both events of a change are in the level's history, the adjustment first.
    let level = test.api.get("/v1/inventory/a/main").await.expect(200);
    let query =
        "SELECT type, sequence FROM outbox WHERE subject = 'inventory/a/main' ORDER BY sequence DESC LIMIT 2";
    let last: Vec<(String, i64)> = sqlx::query_as(query).fetch_all(&mut *test.conn().await).await.unwrap();
    let version = level["version"].as_i64().unwrap();
    let names = last.iter().map(|(name, sequence)| (name.as_str(), *sequence)).collect::<Vec<_>>();
    assert_eq!(names, [("inventory.back_in_stock.v1", version), ("inventory.adjusted.v1", version - 1)]);
    histories_are_sound(&test).await;
    test.finish().await;
}

#[tokio::test]
async fn an_event_says_which_request_it_follows_from_and_reaches_the_exchange() {
    let test = TestApp::start_with_workers().await;
    set(&test, "a", 1, json!(null)).await;
    let order_id = test.placed(&[("a", 1)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    // Sold and shipped: what is left to sell stays as it is.
    test.order_becomes(&order_id, "fulfilled").await;
    test.drain().await;
    assert_eq!(told(&test, "a").await, [event("out_of_stock", 0, true)]);
    let followed = "SELECT count(*) FROM outbox_sent s JOIN outbox_sent o USING (correlation_id)
                    WHERE s.type = 'inventory.out_of_stock.v1' AND o.type = 'order.created.v1'";
    assert_eq!(test.count(followed).await, 1);
    histories_are_sound(&test).await;
    test.finish().await;
}

#[tokio::test]
async fn an_order_that_is_not_written_tells_nothing() {
    let test = TestApp::start().await;
    set(&test, "a", 1, json!(null)).await;
    set(&test, "b", 1, json!(null)).await;
    // It would run out of `a`, and there is too little of `b`.
    test.api.place(&[("a", 1), ("b", 2)]).await.problem(409, "insufficient_stock");
    assert_eq!((told(&test, "a").await, told(&test, "b").await), (vec![], vec![]));
    // A repetition of the last order tells it once.
    for replayed in [false, true] {
        let answer = test.api.post_as("last", "/v1/orders", &order(&[("a", 1)])).await;
        assert_eq!((answer.status, answer.replayed()), (201, replayed));
    }
    assert_eq!(told(&test, "a").await, [event("out_of_stock", 0, true)]);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_on_two_processes_tells_once_that_it_bought_everything() {
    crowd(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_without_locks_tells_once_that_it_bought_everything() {
    crowd(false).await;
}

async fn crowd(zookeeper: bool) {
    let setup = Setup { zookeeper, workers: &[WorkerKind::Relay], ..Setup::default() };
    let mut test = TestApp::start_with(setup).await;
    let other = test.another_api().await;
    set(&test, "a", 40, json!(10)).await;
    for round in 1..=2 {
        let orders = (0..60).map(|n| if n % 2 == 0 { &test.api } else { &other }.place(&[("a", 1)]));
        let answers = join_all(orders).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 40);
        let kinds: Vec<String> = told(&test, "a").await.into_iter().map(|(kind, ..)| kind).collect();
        let expected = ["low_stock", "out_of_stock", "back_in_stock", "low_stock", "out_of_stock"];
        // A batch that takes it from above the threshold to nothing tells the stronger of the two.
        let skipped_low = |kinds: &[String]| {
            let mut without = expected[..round * 3 - 1].iter().filter(|kind| **kind != "low_stock");
            kinds
                .iter()
                .filter(|kind| *kind != "low_stock")
                .all(|kind| without.next() == Some(&kind.as_str()))
                && without.next().is_none()
        };
        assert!(skipped_low(&kinds), "{kinds:?}");
        assert!(kinds.iter().filter(|kind| *kind == "low_stock").count() <= round, "{kinds:?}");
        let cancels = answers.iter().filter(|answer| answer.status == 201);
        let cancels = cancels.map(|answer| test.api.cancel(answer.body["id"].as_str().unwrap()));
        join_all(cancels).await.into_iter().for_each(|answer| drop(answer.expect(200)));
    }
    assert_eq!(test.api.level("a").await, (40, 0, 0));
    histories_are_sound(&test).await;
    test.finish().await;
}
