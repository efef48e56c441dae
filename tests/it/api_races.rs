//! Requests under one key or one reference that meet: whoever comes second learns the truth, and one order is made.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    api::{id, order, tally},
    app::{Setup, TestApp},
};

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
