//! What events lead to is done for many orders in one transaction, and that makes no difference but to the time it takes.

use holdfast::{domain::ids::OrderId, worker::WorkerKind};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::support::{
    PATIENCE,
    api::id,
    app::{Setup, TestApp},
    eventually,
};

/// Enough for batches of many kinds of orders.
const ORDERS: usize = 60;

/// Every row that an order leaves, but for ids and times, and for what depends on the order in which others come: versions of
/// levels, and which event the shipment follows from.
const ROWS: &str = "
    WITH o AS (SELECT *, client_reference AS n FROM orders),
    e AS (SELECT * FROM outbox_sent)
    SELECT concat_ws(' ', 'order', n, status, version, total_amount, amount_canceled, cancel_reason) FROM o
    UNION ALL SELECT concat_ws(' ', 'line', n, l.sku, l.location_id, l.quantity, quantity_canceled, quantity_fulfilled)
        FROM o JOIN order_line l ON l.order_id = o.id
    UNION ALL SELECT concat_ws(' ', 'reservation', n, r.sku, r.location_id, r.quantity, r.status, r.expires_at IS NULL)
        FROM o JOIN reservation r ON r.order_id = o.id
    UNION ALL SELECT concat_ws(' ', 'payment', n, p.status, p.amount, amount_captured, amount_refunded, amount_refund_claimed,
                               'capturing', amount_capturing, decline_code, provider_reference IS NULL, asked_at IS NULL,
                               outcome_unknown_since IS NULL, next_lookup_at IS NULL)
        FROM o JOIN payment p ON p.order_id = o.id
    UNION ALL SELECT concat_ws(' ', 'history', n, h.status, h.amount_captured, h.amount_refunded, h.note)
        FROM o JOIN payment p ON p.order_id = o.id JOIN payment_event h ON h.payment_id = p.id
    UNION ALL SELECT concat_ws(' ', 'shipment', n, s.location_id, s.status, s.shipped_at IS NULL, tracking_carrier)
        FROM o JOIN shipment s ON s.order_id = o.id
    UNION ALL SELECT concat_ws(' ', 'in shipment', n, s.location_id, r.sku, l.quantity, l.is_covering, r.status)
        FROM o JOIN shipment s ON s.order_id = o.id JOIN shipment_line l ON l.shipment_id = s.id
        JOIN reservation r ON r.order_id = o.id AND r.id = l.reservation_id
    UNION ALL SELECT concat_ws(' ', 'movement', n, m.sku, m.location_id, m.type, m.delta_on_hand,
                               CASE WHEN m.actor LIKE 'key\\_%' THEN 'a key' ELSE m.actor END, m.reason)
        FROM stock_movement m LEFT JOIN shipment s ON 'shp_' || replace(s.id::text, '-', '') = m.reference
        LEFT JOIN o ON o.id = s.order_id
    UNION ALL SELECT concat_ws(' ', 'event', n, e.type, e.correlation_id IS NULL,
                               CASE WHEN e.type <> 'shipment.created.v1' THEN c.type END)
        FROM o JOIN e ON e.aggregate_id = o.id LEFT JOIN e c ON c.event_id = e.causation_id
    UNION ALL SELECT concat_ws(' ', 'inbox', n, i.consumer, e.type)
        FROM o JOIN e ON e.aggregate_id = o.id JOIN inbox i ON i.event_id = e.event_id
    UNION ALL SELECT concat_ws(' ', 'level', sku, location_id, on_hand, reserved, committed) FROM inventory_level
    UNION ALL SELECT concat_ws(' ', 'open', kind, id, open) FROM open_order_count WHERE kind = 'customer'
    ORDER BY 1";

/// How many payments were authorized, and in how many transactions that was written.
const TRANSACTIONS: &str =
    "SELECT count(*), count(DISTINCT xmin::text) FROM payment_event WHERE status = 'authorized'";

/// A mix of orders with how each is paid: one or several lines at two locations, some of them on backorder, some captured by
/// hand, some refused, some with answers that do not come.
fn mix() -> Vec<(Value, &'static str)> {
    let mut rng = rand::rng();
    let mut order = |n: usize| {
        let lines: Vec<Value> = (0..rng.random_range(1..4))
            .map(|_| {
                let (sku, location) = match rng.random_range(0..12) {
                    0..6 => ("hot", "main"),
                    6..8 => ("hot", "east"),
                    8..11 => (["a", "b", "c"][rng.random_range(0..3)], "main"),
                    _ => ("backordered", "main"),
                };
                let quantity = rng.random_range(1..3);
                json!({ "sku": sku, "location_id": location, "quantity": quantity, "unit_amount": 700 })
            })
            .collect();
        let capture = if rng.random_range(0..8) == 0 { "manual" } else { "automatic" };
        let body = json!({ "currency": "USD", "client_reference": format!("{n:02}"), "lines": lines,
                           "capture_method": capture, "customer_id": format!("c{}", n % 7) });
        let token = match rng.random_range(0..20) {
            0 => "pm_card_chargeDeclined",
            1 => "pm_sandbox_error_after_authorize",
            2 => "pm_sandbox_error_after_capture",
            _ => "pm_card_visa",
        };
        (body, token)
    };
    (0..ORDERS).map(&mut order).collect()
}

/// Places and pays the orders, and only then lets the workers begin. Gives every row when all is done.
async fn rows(one_by_one: bool, orders: &[(Value, &str)]) -> (Vec<String>, (i64, i64)) {
    let mut test = TestApp::start_with(Setup { one_by_one, ..Setup::default() }).await;
    for (sku, location, on_hand, backorder) in [
        ("hot", "main", 500, 0),
        ("hot", "east", 500, 0),
        ("a", "main", 99, 0),
        ("b", "main", 99, 0),
        ("c", "main", 99, 0),
        ("backordered", "main", 0, 500),
    ] {
        let body = json!({ "on_hand": on_hand, "backorder_limit": backorder });
        test.api.put(&format!("/v1/inventory/{sku}/{location}"), &body).await.expect(200);
    }
    for (order, token) in orders {
        let order_id = id(&test.api.post("/v1/orders", order).await.expect(201));
        test.paying(&order_id, token).await;
    }
    test.start_workers(&WorkerKind::ALL);
    test.drain().await;
    let rows = sqlx::query_scalar(ROWS).fetch_all(&mut *test.conn().await).await.unwrap();
    let transactions = sqlx::query_as(TRANSACTIONS).fetch_one(&mut *test.conn().await).await.unwrap();
    test.finish().await;
    (rows, transactions)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_end_in_the_same_rows_in_batches_and_one_by_one() {
    let orders = mix();
    let (in_batches, (authorized, transactions)) = rows(false, &orders).await;
    let (one_by_one, singly) = rows(true, &orders).await;
    let differences: Vec<(usize, &String, &String)> = in_batches
        .iter()
        .zip(&one_by_one)
        .enumerate()
        .filter_map(|(n, (a, b))| (a != b).then_some((n, a, b)))
        .take(5)
        .collect();
    assert!(
        differences.is_empty() && in_batches.len() == one_by_one.len(),
        "{differences:#?} of {orders:#?}"
    );
    assert!(
        transactions < authorized / 2,
        "{authorized} payments were authorized in {transactions} transactions"
    );
    assert_eq!(singly, (authorized, authorized));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_somebody_keeps_locked_holds_nobody_else_up() {
    let mut test = TestApp::start().await;
    test.stock("a", 50).await;
    let mut orders = Vec::new();
    for _ in 0..12 {
        let order_id = test.placed(&[("a", 1)]).await;
        test.paying(&order_id, "pm_card_visa").await;
        orders.push(order_id);
    }
    let kept = orders[5].parse::<OrderId>().unwrap().uuid();
    let mut tx = test.app.store.begin("keep").await.unwrap();
    sqlx::query("SELECT 1 FROM orders WHERE id = $1 FOR UPDATE").bind(kept).execute(&mut *tx).await.unwrap();
    test.start_workers(&WorkerKind::ALL);
    for order_id in orders.iter().filter(|order_id| **order_id != orders[5]) {
        test.order_becomes(order_id, "fulfilled").await;
    }
    assert_eq!(test.api.order(&orders[5]).await["status"], "pending_payment");
    tx.rollback().await.unwrap();
    test.order_becomes(&orders[5], "fulfilled").await;
    test.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stock_that_is_not_in_the_building_ships_for_those_it_is_enough_for() {
    let mut test = TestApp::start().await;
    let body = json!({ "on_hand": 7, "backorder_limit": 100 });
    test.api.put("/v1/inventory/a/main", &body).await.expect(200);
    for _ in 0..20 {
        let order_id = test.placed(&[("a", 1)]).await;
        test.paying(&order_id, "pm_card_visa").await;
    }
    test.start_workers(&WorkerKind::ALL);
    eventually("what is there has shipped", PATIENCE, async || test.api.level("a").await.0 == 0).await;
    test.drain().await;
    assert_eq!(test.api.level("a").await, (0, 0, 13));
    assert_eq!(test.count("SELECT count(*) FROM shipment WHERE status = 'shipped'").await, 7);
    assert_eq!(test.count("SELECT count(*) FROM shipment WHERE status = 'pending'").await, 13);
    test.finish().await;
}
