//! Stock that a clerk or another system wrote during a sale. Row 14.
//!
//! medusajs/medusa #16576, nopSolutions/nopCommerce #8085, saleor/saleor #10820: writes of stock raced sales and lost increments, to
//! be trued up in a maintenance window. Here a delta is added under the row lock of its level, a count may say what it
//! expects to find, and every change has its ledger row in the same commit.

use std::fmt::Write as _;

use futures_util::future::join_all;
use holdfast::worker::WorkerKind;
use serde_json::json;

use crate::support::app::{Setup, TestApp};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_during_a_sale_all_arrive_and_each_has_its_ledger_row() {
    let setup = Setup { zookeeper: true, workers: &WorkerKind::ALL, ..Setup::default() };
    let mut test = TestApp::start_with(setup).await;
    let other = test.another_api().await;
    test.stock("a", 30).await;
    let adjust = async |n: usize| {
        let api = if n.is_multiple_of(2) { &test.api } else { &other };
        let delta = if n.is_multiple_of(4) { -1 } else { 2 };
        let body = json!({ "items": [{ "sku": "a", "delta": delta }], "reason": "delivery" });
        api.post("/v1/inventory/adjustments", &body).await.expect(201);
    };
    let sell = async || {
        let order_id = test.placed(&[("a", 1)]).await;
        test.paying(&order_id, "pm_card_visa").await;
        test.order_becomes(&order_id, "fulfilled").await;
    };
    tokio::join!(join_all((0..20).map(adjust)), join_all((0..10).map(|_| sell())));
    // Five times one less, fifteen times two more, ten sold.
    assert_eq!(test.api.level("a").await, (30 - 5 + 30 - 10, 0, 0));
    for (query, expected) in [
        ("SELECT count(*) FROM stock_movement WHERE type = 'adjust' AND reason = 'delivery'", 20),
        ("SELECT count(*) FROM stock_movement WHERE type = 'ship'", 10),
        ("SELECT sum(delta_on_hand)::bigint FROM stock_movement", 45),
    ] {
        assert_eq!(test.count(query).await, expected, "{query}");
    }
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_count_taken_before_a_sale_does_not_undo_it() {
    let test = TestApp::start_with_workers().await;
    test.stock("a", 10).await;
    let set = async |body| test.api.put("/v1/inventory/a/main", &body).await;
    // Ten were counted; meanwhile one is sold and leaves the building.
    let order_id = test.placed(&[("a", 1)]).await;
    test.paying(&order_id, "pm_card_visa").await;
    test.order_becomes(&order_id, "fulfilled").await;
    let refused = set(json!({ "on_hand": 10, "compare_quantity": 10 })).await.problem(409, "stock_conflict");
    assert_eq!(refused["on_hand"], 9);
    assert_eq!(test.api.level("a").await, (9, 0, 0));
    set(json!({ "on_hand": 10, "compare_quantity": 9 })).await.expect(200);
    let ledger = "SELECT sum(delta_on_hand)::bigint FROM stock_movement";
    assert_eq!((test.api.level("a").await, test.count(ledger).await), ((10, 0, 0), 10));
    test.finish().await;
}

/// So many rows of a delta for two SKUs in turn.
fn deltas(rows: usize, delta: impl Fn(usize) -> i64) -> String {
    let mut file = "sku,delta\n".to_owned();
    for row in 0..rows {
        writeln!(file, "s{},{}", row % 2, delta(row)).unwrap();
    }
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_during_a_sale_loses_no_increment_and_oversells_nothing() {
    let setup = Setup { zookeeper: true, workers: &[WorkerKind::Import], ..Setup::default() };
    let mut test = TestApp::start_with(setup).await;
    let other = test.another_api().await;
    for sku in ["s0", "s1"] {
        test.stock(sku, 50).await;
    }
    // In all 150 more of each, and rows that take away more than may be free at the moment.
    let delta = |row: usize| {
        if row % 10 < 2 {
            -40
        } else if row % 10 < 4 {
            40
        } else {
            1 - i64::from(row % 10 > 6) * 2
        }
    };
    let buy = async |n: usize| {
        let api = if n.is_multiple_of(2) { &test.api } else { &other };
        let lines = [("s0", 1), ("s1", 1)];
        api.place(&lines[..=n % 2]).await
    };
    let import_id = test.api.import("mode=delta", &deltas(3_000, delta)).await;
    let sale = async {
        let mut sold = [0_i64; 2];
        loop {
            for (n, answer) in join_all((0..16).map(&buy)).await.into_iter().enumerate() {
                match answer.status {
                    201 => sold.iter_mut().take(1 + n % 2).for_each(|sold| *sold += 1),
                    _ => drop(answer.problem(409, "insufficient_stock")),
                }
            }
            let path = format!("/v1/inventory/imports/{import_id}");
            if test.api.get(&path).await.expect(200)["status"] == "completed" {
                return sold;
            }
        }
    };
    let sold = sale.await;
    for (sku, sold) in ["s0", "s1"].into_iter().zip(sold) {
        let (on_hand, reserved, _) = test.api.level(sku).await;
        let applied: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(delta), 0)::bigint FROM stock_import_row WHERE sku = $1 AND status = 'applied'",
        )
        .bind(sku)
        .fetch_one(&mut *test.conn().await)
        .await
        .unwrap();
        assert_eq!((on_hand, reserved), (50 + applied, sold), "{sku}");
        assert!(reserved <= on_hand, "{sku}: {reserved} of {on_hand}");
    }
    test.finish().await;
}
