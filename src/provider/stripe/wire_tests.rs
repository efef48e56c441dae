//! Bodies in the shape of Stripe's public reference, and what they mean.

use serde_json::{Value, json};

use super::*;

const PAYMENT: &str = "pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";

fn intent(status: &str) -> Value {
    json!({
        "id": "pi_3MtwBwLkdIwHu7ix28a3tqPa", "object": "payment_intent", "amount": 2000, "amount_capturable": 0,
        "amount_details": {"tip": {}}, "amount_received": 0, "application": null, "canceled_at": null,
        "capture_method": "manual", "client_secret": "pi_3Mt_secret_Yr", "confirmation_method": "automatic",
        "created": 1_680_800_504, "currency": "usd", "customer": null, "last_payment_error": null,
        "latest_charge": null, "livemode": false, "next_action": null, "payment_method": null, "status": status,
        "metadata": {"holdfast_payment_id": PAYMENT, "holdfast_order_id": "ord_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"},
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}}
    })
}

fn with_charge(status: &str, received: i64, amount_captured: i64, amount_refunded: i64) -> Value {
    let mut body = intent(status);
    body["amount_received"] = json!(received);
    body["latest_charge"] = json!({
        "id": "ch_3MtwBwLkdIwHu7ix28a3tqPa", "object": "charge", "amount": 2000, "amount_captured": amount_captured,
        "amount_refunded": amount_refunded, "captured": received > 0, "currency": "usd", "paid": true
    });
    body
}

fn payment(body: &Value) -> Result<ProviderPayment, ProviderError> {
    read::<PaymentIntent>(body.to_string().as_bytes())?.into_payment()
}

#[test]
fn every_status_has_its_meaning() {
    let mut refused = intent("requires_payment_method");
    refused["last_payment_error"] =
        json!({"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"});
    let expected = [
        (intent("requires_capture"), ProviderStatus::Authorized),
        (with_charge("succeeded", 2000, 2000, 0), ProviderStatus::Captured),
        (intent("canceled"), ProviderStatus::Voided),
        (intent("processing"), ProviderStatus::Processing),
        (intent("requires_confirmation"), ProviderStatus::Processing),
        (intent("requires_action"), ProviderStatus::RequiresAction),
        (refused, ProviderStatus::Declined),
    ];
    for (body, status) in expected {
        assert_eq!(payment(&body).map(|payment| payment.status).unwrap(), status, "{body}");
    }
}

#[test]
fn an_intent_that_was_never_confirmed_is_not_declined() {
    let payment = payment(&intent("requires_payment_method")).unwrap();
    assert_eq!((payment.status, payment.decline_code), (ProviderStatus::Processing, None));
}

#[test]
fn refunds_are_counted_from_the_captured_money_only() {
    let cases = [
        // amount_received, charge.amount_captured, charge.amount_refunded → refunded
        (with_charge("succeeded", 2000, 2000, 500), 500),
        (with_charge("succeeded", 1500, 1500, 500), 0),
        (with_charge("succeeded", 1500, 1500, 700), 200),
        (with_charge("succeeded", 1500, 1500, 2000), 1500),
        (with_charge("requires_capture", 0, 0, 0), 0),
        (with_charge("canceled", 0, 0, 2000), 0),
    ];
    for (body, refunded) in cases {
        let payment = payment(&body).unwrap();
        assert_eq!((payment.amount, payment.amount_refunded), (2000, refunded), "{body}");
    }
}

#[test]
fn what_is_on_its_way_or_came_back_is_not_refunded() {
    let refund = |status: &str, amount: i64| {
        json!({"id": "re_1", "object": "refund", "amount": amount, "status": status, "failure_reason": null,
            "metadata": {"holdfast_refund_id": "ref_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"}})
    };
    // What the charge counts, its refunds → refunded. Whether Stripe counts what failed, or is on its way, or not.
    let cases = [
        (500, json!([refund("succeeded", 500)]), 500),
        (500, json!([refund("pending", 500)]), 0),
        (0, json!([refund("pending", 500)]), 0),
        (500, json!([refund("requires_action", 200), refund("succeeded", 300)]), 300),
        (300, json!([refund("requires_action", 200), refund("succeeded", 300)]), 300),
        (500, json!([refund("failed", 500)]), 0),
        (0, json!([refund("failed", 500)]), 0),
        (700, json!([refund("canceled", 500), refund("succeeded", 700)]), 700),
    ];
    for (counted, refunds, refunded) in cases {
        let mut body = with_charge("succeeded", 2000, 2000, counted);
        body["latest_charge"]["refunds"] = json!({"object": "list", "data": refunds, "has_more": false});
        assert_eq!(payment(&body).unwrap().amount_refunded, refunded, "{body}");
    }
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let mut not_expanded = intent("succeeded");
    not_expanded["amount_received"] = json!(2000);
    not_expanded["latest_charge"] = json!("ch_3MtwBwLkdIwHu7ix28a3tqPa");
    let bodies = [
        intent("brand_new_status"),
        not_expanded,
        with_charge("succeeded", 2500, 2500, 0),
        with_charge("succeeded", 2000, 2000, 2500),
        json!({"object": "payment_intent"}),
        json!([]),
    ];
    for body in bodies {
        let error = payment(&body).unwrap_err();
        assert!(matches!(error, ProviderError::Unknown(_)), "{body}: {error}");
    }
}

#[test]
fn a_card_error_is_a_declined_payment() {
    let body = json!({"error": {
        "charge": "ch_3Mt", "code": "card_declined", "decline_code": "insufficient_funds",
        "doc_url": "https://stripe.com/docs/error-codes/card-declined",
        "message": "Your card has insufficient funds.", "type": "card_error",
        "payment_intent": intent("requires_payment_method")
    }});
    let mut error = read::<ErrorBody>(body.to_string().as_bytes()).unwrap().error;
    let payment = error.declined().unwrap();
    assert_eq!(payment.reference, "pi_3MtwBwLkdIwHu7ix28a3tqPa");
    assert_eq!(payment.status, ProviderStatus::Declined);
    assert_eq!(payment.decline_code.as_deref(), Some("insufficient_funds"));
    assert_eq!(error.declined(), None);
}

#[test]
fn a_message_never_shows_the_token() {
    let body = json!({"error": {"type": "invalid_request_error", "code": "resource_missing",
        "message": "No such PaymentMethod: 'pm_secret'; pm_secret was not found"}});
    let mut error = read::<ErrorBody>(body.to_string().as_bytes()).unwrap().error;
    error.hide("pm_secret");
    assert_eq!(error.message.as_deref(), Some("No such PaymentMethod: '<token>'; <token> was not found"));
}

#[test]
fn an_intent_of_another_payment_is_not_ours() {
    let intent = read::<PaymentIntent>(intent("requires_capture").to_string().as_bytes()).unwrap();
    assert!(intent.belongs_to(PAYMENT.parse().unwrap()));
    assert!(!intent.belongs_to(PaymentId::new()));
}

#[test]
fn a_currency_counted_in_another_unit_is_known() {
    assert!(same_minor_unit("USD".parse().unwrap()));
    assert!(same_minor_unit("JPY".parse().unwrap()));
    assert!(!same_minor_unit("ISK".parse().unwrap()));
}
