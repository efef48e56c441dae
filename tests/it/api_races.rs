//! Requests that meet: whoever comes second learns the truth, and nothing is sold, made or paid twice.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    api::{Answer, Api, id, order, payment},
    app::{Setup, TestApp},
};

/// How many answers there were of each status and code.
fn tally(answers: &[Answer]) -> BTreeMap<(u16, &str), usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        *tally.entry((answer.status, answer.code())).or_default() += 1;
    }
    tally
}

async fn two_hundred_orders_for_fifty_units(zookeeper: bool, processes: usize) {
    let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
    let mut apis = vec![test.api.clone()];
    for _ in 1..processes {
        apis.push(test.another_api().await);
    }
    test.stock("hot", 50).await;
    let orders = (0..200).map(|n| {
        let api: Api = apis[n % processes].clone();
        tokio::spawn(async move { api.place(&[("hot", 1)]).await })
    });
    let answers: Vec<Answer> = join_all(orders).await.into_iter().map(Result::unwrap).collect();
    let expected = BTreeMap::from([((201, ""), 50), ((409, "insufficient_stock"), 150)]);
    assert_eq!(tally(&answers), expected);
    let short = answers.iter().find(|answer| answer.status == 409).unwrap();
    assert_eq!(
        short.body["items"][0],
        json!({ "sku": "hot", "location_id": "main", "requested": 1, "available": 0 })
    );
    assert_eq!(test.api.level("hot").await, (50, 50, 0));
    assert_eq!(test.count("SELECT count(*) FROM orders").await, 50);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_place_fifty_with_zookeeper() {
    two_hundred_orders_for_fifty_units(true, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_place_fifty_without_locks() {
    two_hundred_orders_for_fifty_units(false, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_processes_place_fifty_with_zookeeper() {
    two_hundred_orders_for_fifty_units(true, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_processes_place_fifty_without_locks() {
    two_hundred_orders_for_fifty_units(false, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_the_same_skus_in_any_order_do_not_deadlock() {
    for zookeeper in [true, false] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        let other = test.another_api().await;
        let skus = ["a", "b", "c", "d"];
        for sku in skus {
            test.stock(sku, 40).await;
        }
        let orders = (0..60).map(|n: usize| {
            let api = if n.is_multiple_of(2) { test.api.clone() } else { other.clone() };
            let mut lines: Vec<_> = skus.iter().map(|sku| (*sku, 1)).collect();
            lines.rotate_left(n % 4);
            async move { api.place(&lines).await }
        });
        let answers = join_all(orders).await;
        let expected = BTreeMap::from([((201, ""), 40), ((409, "insufficient_stock"), 20)]);
        assert_eq!(tally(&answers), expected);
        test.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_sent_twenty_times_makes_one_order() {
    for zookeeper in [true, false] {
        let mut test = TestApp::start_with(Setup { zookeeper, ..Setup::default() }).await;
        let other = test.another_api().await;
        test.stock("a", 20).await;
        let body = order(&[("a", 1)]);
        let sent = (0..20).map(|n| {
            let api = if n % 2 == 0 { &test.api } else { &other };
            api.post_as("one-key", "/v1/orders", &body)
        });
        let answers = join_all(sent).await;
        let first = answers.iter().find(|answer| answer.status == 201 && !answer.replayed()).unwrap();
        let news = answers.iter().filter(|answer| answer.status == 201 && !answer.replayed()).count();
        assert_eq!(news, 1);
        for answer in answers.iter().filter(|answer| answer.status != 409) {
            assert_eq!((answer.status, &answer.text), (201, &first.text));
        }
        assert_eq!(test.count("SELECT count(*) FROM orders").await, 1);
        assert_eq!(test.api.level("a").await, (20, 1, 0));
        test.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_for_the_last_unit_is_not_short_of_its_own_stock() {
    let test = TestApp::start().await;
    test.stock("a", 1).await;
    let body = order(&[("a", 1)]);
    let answers =
        join_all((0..10).map(|_| test.api.post_until_answered("one-key", "/v1/orders", &body))).await;
    assert_eq!(tally(&answers), BTreeMap::from([((201, ""), 10)]));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed()).count(), 1);
    // As the migration computes it for the keys of older versions.
    let digest = "SELECT count(*) FROM idempotency_key WHERE digest = substr(encode(sha256(convert_to(
                  client_id::text || E'\\n' || route || E'\\n' || key, 'UTF8')), 'hex'), 1, 32)::uuid";
    assert_eq!(test.count(digest).await, 1);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_reference_under_many_keys_makes_one_order_that_the_others_name() {
    let test = TestApp::start().await;
    // Different SKUs: no row lock brings these requests into an order.
    for n in 0..10 {
        test.stock(&format!("sku-{n}"), 5).await;
    }
    let orders = (0..10).map(|n| {
        let mut body = order(&[(&format!("sku-{n}"), 1)]);
        body["client_reference"] = json!("ref-1");
        let api = test.api.clone();
        async move { api.post("/v1/orders", &body).await }
    });
    let answers = join_all(orders).await;
    let expected = BTreeMap::from([((201, ""), 1), ((409, "duplicate_client_reference"), 9)]);
    assert_eq!(tally(&answers), expected);
    let placed = id(&answers.iter().find(|answer| answer.status == 201).unwrap().body);
    for answer in answers.iter().filter(|answer| answer.status == 409) {
        assert_eq!(answer.body["order_id"], placed);
    }
    assert_eq!(test.count("SELECT sum(reserved)::bigint FROM inventory_level").await, 1);
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn card_and_wallet_at_once_are_one_payment_and_one_capture() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let path = format!("/v1/orders/{order_id}/payments");
    let mut wallet = payment("pm_sandbox_wallet");
    wallet["method"] = json!("wallet");
    let card = payment("pm_card_visa");
    let (first, second) = tokio::join!(test.api.post(&path, &card), test.api.post(&path, &wallet));
    let (paid, refused) = if first.status == 201 { (first, second) } else { (second, first) };
    let payment_id = id(&paid.expect(201));
    assert_eq!(refused.problem(409, "payment_in_progress")["payment_id"], payment_id);
    test.order_becomes(&order_id, "fulfilled").await;
    let again = test.api.post(&path, &wallet).await;
    assert_eq!(again.problem(409, "payment_already_succeeded")["payment_id"], payment_id);
    let summary = test.sandbox.summary().await;
    assert_eq!((&summary["authorized"], &summary["captured"]), (&json!(1), &json!(1)));
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_payments_at_once_are_one_payment() {
    let test = TestApp::start().await;
    test.stock("a", 5).await;
    let order_id = test.placed(&[("a", 1)]).await;
    let answers = join_all((0..10).map(|_| test.api.pay(&order_id, "pm_card_visa"))).await;
    assert_eq!(tally(&answers), BTreeMap::from([((201, ""), 1), ((409, "payment_in_progress"), 9)]));
    test.finish().await;
}

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
