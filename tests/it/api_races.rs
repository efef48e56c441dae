//! Requests under one key or one reference that meet: whoever comes second learns the truth, and one order is made.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use holdfast::{
    domain::{
        allocation::Allocation,
        ids::ClientId,
        new_order::{NewOrder, OrderDraft},
        open_orders::OpenOrderCaps,
    },
    store::{
        idempotency::{IdempotencyKey, IdempotentRequest},
        placement::{self, Batch, PlacedOrder, ReserveStock},
    },
};
use serde_json::json;

use crate::{
    api_batches::blocked,
    support::{
        api::{id, order, tally},
        app::{Setup, TestApp},
    },
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

/// An order of one unit that is placed without the API, which would keep apart what is to meet here.
struct Prepared {
    draft: OrderDraft,
    allocations: [Allocation; 1],
    request: IdempotentRequest,
}

impl Prepared {
    fn new(test: &TestApp, sku: &str, reference: Option<&str>, key: &IdempotencyKey) -> Self {
        let mut order = order(&[(sku, 1)]);
        order["lines"][0]["location_id"] = json!("main");
        order["client_reference"] = json!(reference);
        let order: NewOrder = serde_json::from_value(order).unwrap();
        let draft = order.validate(&test.app.settings.limits).unwrap();
        let allocations = [Allocation::whole(draft.lines[0].named_level().unwrap(), 1)];
        let key = Arc::new(key.clone());
        Self {
            draft,
            allocations,
            request: IdempotentRequest { key, fingerprint: [0; 32], success_status: 201 },
        }
    }

    async fn batch<'a>(test: &TestApp, orders: &'a [Self]) -> Batch<'a> {
        let clock = sqlx::query_scalar("SELECT clock_timestamp()");
        let now: DateTime<Utc> = clock.fetch_one(&mut *test.conn().await).await.unwrap();
        let place = |order: &'a Self| PlacedOrder {
            draft: &order.draft,
            allocations: &order.allocations,
            created_at: now,
            expires_at: now + TimeDelta::minutes(1),
            request: &order.request,
            body: "{}",
            correlation_id: None,
            trace_parent: None,
        };
        let quantity = i64::try_from(orders.len()).unwrap();
        let reserve = ReserveStock { quantity, fence: None, from_shelf: false };
        let levels = [(&orders[0].allocations[0].first.level, reserve)].into();
        Batch { orders: orders.iter().map(place).collect(), levels, caps: OpenOrderCaps::NONE }
    }
}

/// Two batches want the same three names in opposite order, while somebody keeps the one in the middle: the second batch
/// waits for the first, and not each of them for the other.
async fn cross(by_reference: bool) {
    let test = TestApp::start().await;
    for sku in ["first", "second", "middle"] {
        test.stock(sku, 10).await;
    }
    let client = ClientId::new();
    let key = |name: &str| IdempotencyKey::new(client, "POST /v1/orders".into(), name.into());
    let mut names = ["a", "b", "c"];
    if !by_reference {
        names.sort_by_key(|name| key(name).digest());
    }
    let prepare = |sku: &str, names: [&str; 3]| {
        names.map(|name| {
            let key = if by_reference { key(&format!("{sku} {name}")) } else { key(name) };
            Prepared::new(&test, sku, by_reference.then_some(name), &key)
        })
    };
    let [_, middle, _] = prepare("middle", names);
    let (first, second) = (prepare("first", names), prepare("second", [names[2], names[1], names[0]]));

    let middle = [middle];
    let mut keeper = test.app.store.begin("test").await.unwrap();
    placement::insert(&mut keeper, &Prepared::batch(&test, &middle).await).await.unwrap();
    let one = async { test.app.store.place(&Prepared::batch(&test, &first).await).await };
    let other = async {
        blocked(&test, 1).await;
        test.app.store.place(&Prepared::batch(&test, &second).await).await
    };
    let release = async {
        blocked(&test, 2).await;
        keeper.rollback().await.unwrap();
    };
    let (one, other, ()) = tokio::join!(one, other, release);
    let expected = if by_reference { placement::REFERENCE } else { placement::KEY };
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(other.unwrap_err().constraint(), Some(expected));
    test.stop().await;
}

#[tokio::test]
async fn batches_that_share_references_in_opposite_order_do_not_deadlock() {
    Box::pin(cross(true)).await;
}

#[tokio::test]
async fn batches_that_share_idempotency_keys_in_opposite_order_do_not_deadlock() {
    Box::pin(cross(false)).await;
}
