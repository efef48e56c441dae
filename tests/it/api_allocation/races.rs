//! The last units of several locations: nothing is sold twice, and every order is whole.
//!
//! The invariants at the end of each test compare every order with its reservations and every level with its own.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::Value;

use super::{named, north_and_south, order_of, reserved, splittable, start};
use crate::support::{
    api::{Answer, Api, order},
    app::TestApp,
};

/// Sends the orders at once, in turn to each of so many processes. Gives the answers and how many were placed.
async fn send(test: &mut TestApp, processes: usize, orders: Vec<Value>) -> (Vec<Answer>, usize) {
    let mut apis = vec![test.api.clone()];
    for _ in 1..processes {
        apis.push(test.another_api().await);
    }
    let sent = orders.into_iter().enumerate().map(|(number, order)| {
        let api: Api = apis[number % processes].clone();
        tokio::spawn(async move { api.post("/v1/orders", &order).await })
    });
    let answers: Vec<Answer> = join_all(sent).await.into_iter().map(Result::unwrap).collect();
    let mut tally = BTreeMap::<(u16, &str), usize>::new();
    for answer in &answers {
        *tally.entry((answer.status, answer.code())).or_default() += 1;
    }
    let placed = tally.remove(&(201, "")).unwrap_or(0);
    tally.remove(&(409, "insufficient_stock"));
    assert!(tally.is_empty(), "{tally:?}");
    (answers, placed)
}

async fn single_units(zookeeper: bool, processes: usize) {
    let mut test = start(zookeeper).await;
    north_and_south(&test, "hot", 30, 20).await;
    let (answers, placed) = send(&mut test, processes, vec![order_of("hot", 1); 200]).await;
    assert_eq!(placed, 50);
    let from = |location: &str| {
        let of = |answer: &&Answer| answer.body["lines"][0]["location_id"] == location;
        answers.iter().filter(of).count()
    };
    assert_eq!((from("north"), from("south")), (30, 20));
    assert_eq!(
        (reserved(&test.api, "hot", "north").await, reserved(&test.api, "hot", "south").await),
        (30, 20)
    );
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_locations_place_fifty_with_zookeeper() {
    single_units(true, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_orders_for_fifty_units_at_two_locations_place_fifty_without_locks() {
    single_units(false, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_place_fifty_orders_for_fifty_units_at_two_locations_with_zookeeper() {
    single_units(true, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_place_fifty_orders_for_fifty_units_at_two_locations_without_locks() {
    single_units(false, 2).await;
}

/// 10 units at each of two locations are two orders of 4 each and 2 left over, unless those left over may be one order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_locations_have_left_is_one_order_only_if_it_may_be_split() {
    for zookeeper in [true, false] {
        for (allow_split, expected) in [(false, 4), (true, 5)] {
            let mut test = start(zookeeper).await;
            north_and_south(&test, "a", 10, 10).await;
            let order = if allow_split { splittable(order_of("a", 4)) } else { order_of("a", 4) };
            let (_, placed) = send(&mut test, 2, vec![order; 60]).await;
            assert_eq!(placed, expected);
            let split = "SELECT count(*) FROM (SELECT 1 FROM reservation GROUP BY order_line_id HAVING count(*) > 1) AS s";
            assert_eq!(test.count(split).await, i64::from(allow_split));
            test.finish().await;
        }
    }
}

/// Baskets in any order, named and free lines, split and whole: no deadlock, and all that is sold is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_orders_over_two_locations_do_not_deadlock_and_sell_nothing_twice() {
    for zookeeper in [true, false] {
        let mut test = start(zookeeper).await;
        let skus = ["a", "b", "c"];
        for sku in skus {
            north_and_south(&test, sku, 20, 15).await;
        }
        let orders = (0..90).map(|number: usize| {
            let mut lines: Vec<_> = skus.iter().map(|sku| (*sku, [1, 2, 3][number % 3])).collect();
            lines.rotate_left(number % 3);
            lines.truncate(1 + number % 3);
            let order = order(&lines);
            match number % 4 {
                0 => splittable(order),
                1 => named(order, ["north", "south"][number / 4 % 2]),
                _ => order,
            }
        });
        let orders: Vec<Value> = orders.collect();
        let (_, placed) = send(&mut test, 2, orders).await;
        assert_eq!(test.count("SELECT count(*) FROM orders").await, i64::try_from(placed).unwrap());
        // 35 of each, and many more wanted.
        assert!((10..90).contains(&placed), "{placed}");
        test.finish().await;
    }
}
