//! Money for a dead order goes back by itself, with a record that can be seen, whenever it arrives.

use holdfast::app::Cause;
use reqwest::Method;
use serde_json::{Value, json};

use super::{fields, shop};
use crate::support::{
    api::id,
    app::TestApp,
    payments::new_event,
    sandbox::{SECRET_KEY, http_client},
};

/// An order whose payment took effect at the provider, who never said so.
async fn unheard(test: &TestApp) -> (Value, String) {
    let order = test.order_of(&[("a", 2)], "automatic").await;
    let payment_id = test.paying(&id(&order), "pm_sandbox_error_after_authorize").await;
    test.app.authorize_payment(&new_event(), payment_id.parse().unwrap()).await.unwrap_err();
    (order, payment_id)
}

/// Somebody captures what is authorized in the provider's dashboard.
async fn capture_there(test: &TestApp) {
    let intents = format!("{}/v1/payment_intents", test.sandbox.url);
    let send = async |method: Method, url: String| -> Value {
        let request = http_client().request(method, url).bearer_auth(SECRET_KEY);
        request.send().await.unwrap().json().await.unwrap()
    };
    let page = send(Method::GET, intents.clone()).await;
    let intent = page["data"][0]["id"].as_str().unwrap().to_owned();
    let captured = send(Method::POST, format!("{intents}/{intent}/capture")).await;
    assert_eq!(captured["status"], "succeeded");
}

async fn expire(test: &TestApp, order: &Value) {
    test.run_out(&id(order), 10_000.0).await;
    assert_eq!(test.app.expire_orders(None, 10, &Cause::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn money_that_is_authorized_after_the_order_expired_is_voided() {
    let test = shop().await;
    let (order, payment_id) = unheard(&test).await;
    expire(&test, &order).await;
    test.pump("payment").await;
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    assert_eq!(test.money(&payment_id).await, [0, 0, 0]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&now, ["status", "payment_status", "refunds", "amount_due"]),
        [json!("expired"), json!("voided"), json!([]), json!(0)]
    );
    assert_eq!(test.api.level("a").await, (10, 0, 0));
    test.settle_and_finish().await;
}

#[tokio::test]
async fn money_that_is_captured_after_the_order_expired_is_refunded() {
    let test = shop().await;
    let (order, payment_id) = unheard(&test).await;
    capture_there(&test).await;
    expire(&test, &order).await;
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [2000, 2000, 1]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(
        fields(&now["refunds"][0], ["status", "amount", "reason"]),
        [json!("succeeded"), json!(2000), json!("the order is expired")]
    );
    assert_eq!(fields(&now, ["status", "payment_status"]), [json!("expired"), json!("refunded")]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn money_that_is_captured_behind_a_canceled_order_is_refunded() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "manual").await;
    capture_there(&test).await;
    test.ask_order(&order, "cancel", json!({})).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [2000, 2000, 1]);
    let now = test.api.order(&id(&order)).await;
    assert_eq!(now["refunds"][0]["reason"], "the order is canceled");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_capture_without_an_answer_is_refunded_once_its_order_is_canceled() {
    let test = shop().await;
    let order = test.order_of(&[("a", 2)], "automatic").await;
    let payment_id = test.paying(&id(&order), "pm_sandbox_error_after_capture").await;
    let payment = payment_id.parse().unwrap();
    test.app.authorize_payment(&new_event(), payment).await.unwrap();
    test.app.capture_payment(&new_event(), payment).await.unwrap_err();
    test.ask_order(&order, "cancel", json!({})).await.expect(200);
    test.pump("payment").await;
    assert_eq!(test.money(&payment_id).await, [2000, 2000, 1]);
    assert_eq!(test.payment(&payment_id).await["status"], "refunded");
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_capture_that_was_asked_for_before_the_order_was_canceled_is_not_made() {
    let test = shop().await;
    let (order, payment_id) = test.paid(&[("a", 2)], "manual").await;
    test.ask_payment(&payment_id, "capture", json!({})).await.expect(202);
    test.ask_order(&order, "cancel", json!({})).await.expect(200);
    test.ask_payment(&payment_id, "capture", json!({})).await.problem(409, "invalid_state_transition");
    test.pump("payment").await;
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    assert_eq!(test.money(&payment_id).await, [0, 0, 0]);
    test.settle_and_finish().await;
}

#[tokio::test]
async fn a_customer_who_never_acts_gets_the_payment_voided_with_the_order() {
    let test = shop().await;
    let order = test.order_of(&[("a", 2)], "automatic").await;
    let payment_id = test.paying(&id(&order), "pm_sandbox_requires_action").await;
    test.pump("payment").await;
    expire(&test, &order).await;
    test.pump("payment").await;
    assert_eq!(test.payment(&payment_id).await["status"], "voided");
    test.settle_and_finish().await;
}
