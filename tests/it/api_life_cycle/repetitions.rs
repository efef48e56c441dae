//! A refused request that is sent again under its key: refused again where no later status allows it, else tried anew.

use serde_json::{Value, json};

use super::shop;
use crate::support::{
    api::{Answer, id},
    app::TestApp,
};

/// Asks for an action under a key of its own.
async fn ask(test: &TestApp, path: &str, action: &str) -> Answer {
    test.api.post_as(action, &format!("{path}/{action}"), &json!({})).await
}

async fn refused(test: &TestApp, path: &str, action: &str, status: &str) {
    let problem = ask(test, path, action).await.problem(409, "invalid_state_transition");
    assert_eq!(problem["current_status"], status, "{action}");
}

async fn kept(test: &TestApp) -> i64 {
    test.count("SELECT count(*) FROM idempotency_key WHERE status_code = 409").await
}

#[tokio::test]
async fn what_a_later_status_allows_is_tried_anew() {
    let test = shop().await;
    let order = test.order_of(&[("a", 2)], "manual").await;
    let payment_id = test.paying(&id(&order), "pm_card_visa").await;
    let (order_path, payment) = (format!("/v1/orders/{}", id(&order)), format!("/v1/payments/{payment_id}"));
    refused(&test, &order_path, "shipments", "pending_payment").await;
    refused(&test, &payment, "refunds", "processing").await;
    refused(&test, &payment, "capture", "processing").await;
    test.pump("payment").await;
    let asked = ask(&test, &payment, "capture").await;
    assert_eq!((asked.status, asked.replayed()), (202, false), "{}", asked.text);
    test.pump("payment").await;
    assert_eq!(test.payment(&payment_id).await["status"], "captured");

    let made = ask(&test, &order_path, "shipments").await;
    assert_eq!((made.status, made.replayed()), (201, false), "{}", made.text);
    let shipment = format!("/v1/shipments/{}", id(&made.body));
    refused(&test, &shipment, "deliver", "pending").await;
    refused(&test, &shipment, "ship", "pending").await;
    for action in ["pack", "ship", "deliver"] {
        let done = ask(&test, &shipment, action).await;
        assert_eq!((done.status, done.replayed()), (200, false), "{action}: {}", done.text);
    }
    let refund = ask(&test, &payment, "refunds").await;
    assert_eq!((refund.status, refund.replayed()), (201, false), "{}", refund.text);
    assert_eq!(kept(&test).await, 0);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn what_no_later_status_allows_stays_refused() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "automatic").await;
    let shipment = test.shipping(&order, &[(0, 2)]).await;
    let (order, shipment) =
        (format!("/v1/orders/{}", id(&order)), format!("/v1/shipments/{}", id(&shipment)));
    let payment = format!("/v1/payments/{payment_id}");
    for action in ["pack", "ship"] {
        ask(&test, &shipment, action).await.expect(200);
    }
    let again = |path: &str, action: &'static str| (path.to_owned(), action);
    let actions = [
        again(&order, "cancel"),
        again(&payment, "capture"),
        again(&payment, "void"),
        again(&shipment, "cancel"),
    ];
    // `cancel` is one key for orders and another one for shipments: the route is a part of it.
    let mut first = Vec::<Value>::new();
    for (path, action) in &actions {
        first.push(ask(&test, path, action).await.problem(409, "invalid_state_transition"));
    }
    assert_eq!(kept(&test).await, 4);
    for ((path, action), first) in actions.iter().zip(first) {
        let repeated = ask(&test, path, action).await;
        assert!(repeated.replayed(), "{action}");
        assert_eq!(repeated.problem(409, "invalid_state_transition"), first);
    }
    test.settle_and_finish().await;
}
