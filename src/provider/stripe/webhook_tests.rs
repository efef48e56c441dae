//! Signatures made by hand, and bodies in the shape of Stripe's public reference.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;

const PAYMENT: &str = "pay_0193a1b2c3d47e5f8a9b0c1d2e3f4a5b";
const SECRETS: [&str; 2] = ["whsec_old", "whsec_new"];
const SIGNED_AT: u64 = 1_900_000_000;

fn endpoint() -> StripeWebhooks {
    StripeWebhooks::new(SECRETS.map(str::to_owned).into())
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn hex(secret: &str, time: &str, body: &[u8]) -> String {
    let bytes = mac(secret, time, body).unwrap().finalize().into_bytes();
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn signed(secret: &str, body: &[u8]) -> String {
    format!("t={SIGNED_AT},v1={}", hex(secret, &SIGNED_AT.to_string(), body))
}

fn event(object: &Value) -> Vec<u8> {
    let event = json!({
        "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "api_version": "2025-04-30.basil",
        "created": 1_686_089_970, "data": {"object": object}, "livemode": false, "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null}, "type": "payment_intent.succeeded"
    });
    event.to_string().into_bytes()
}

fn intent() -> Value {
    json!({"id": "pi_3Mtw", "object": "payment_intent", "status": "succeeded", "receipt_email": "jo@example.org",
        "metadata": {"holdfast_payment_id": PAYMENT}})
}

fn refusal(header: &str, body: &[u8], now: u64) -> &'static str {
    match endpoint().open(header, body, at(now)) {
        Err(WebhookError::Signature(reason)) => reason,
        other => panic!("{header}: {other:?}"),
    }
}

#[test]
fn what_is_signed_is_time_dot_body() {
    // printf '1900000000.{}' | openssl dgst -sha256 -hmac whsec_new
    let known = "f0baa8fea26cad08285ecc65e27a9d5c705ccbcbcb8cd90ead33e582ace8886b";
    assert_eq!(hex("whsec_new", "1900000000", b"{}"), known);
}

#[test]
fn a_body_signed_with_any_secret_of_the_endpoint_is_opened() {
    let body = event(&intent());
    for secret in SECRETS {
        let event = endpoint().open(&signed(secret, &body), &body, at(SIGNED_AT)).unwrap().unwrap();
        assert_eq!(event.id, "evt_1NG8Du2eZvKYlo2CUI79vXWy");
        assert_eq!(event.event_type, "payment_intent.succeeded");
        assert_eq!(event.payment_id, Some(PAYMENT.parse().unwrap()));
        assert_eq!(event.provider_reference, "pi_3Mtw");
        assert_eq!(event.created_at.timestamp(), 1_686_089_970);
    }
    // During a rotation Stripe signs with both: one that matches is enough, in any place.
    let good = hex(SECRETS[1], &SIGNED_AT.to_string(), &body);
    let header = format!("t={SIGNED_AT},v1={},v0={good}, v1={good}", "0".repeat(64));
    assert!(endpoint().open(&header, &body, at(SIGNED_AT)).is_ok());
}

#[test]
fn five_minutes_either_way_and_no_longer() {
    let body = event(&intent());
    let header = signed(SECRETS[0], &body);
    for now in [SIGNED_AT - 300, SIGNED_AT, SIGNED_AT + 300] {
        assert!(endpoint().open(&header, &body, at(now)).is_ok(), "{now}");
    }
    for now in [SIGNED_AT - 301, SIGNED_AT + 301, 0] {
        assert!(refusal(&header, &body, now).contains("five minutes"), "{now}");
    }
    let forever = format!("t={},v1={}", u64::MAX, hex(SECRETS[0], &u64::MAX.to_string(), &body));
    assert!(refusal(&forever, &body, SIGNED_AT).contains("five minutes"));
}

#[test]
fn anything_else_is_refused() {
    let body = event(&intent());
    let good = signed(SECRETS[0], &body);
    let hex = good.rsplit('=').next().unwrap();
    let wrong = [
        String::new(),
        hex.to_owned(),
        format!("t={SIGNED_AT}"),
        format!("v1={hex}"),
        format!("t={SIGNED_AT},v0={hex}"),
        format!("t={SIGNED_AT},v1={}", &hex[..62]),
        format!("t={SIGNED_AT},v1={hex}00"),
        format!("t={SIGNED_AT},v1={}", "g".repeat(64)),
        format!("t={},v1={hex}", SIGNED_AT + 1),
        format!("t={SIGNED_AT},t={SIGNED_AT},v1={hex}"),
        signed("whsec_other", &body),
        signed("", &body),
    ];
    for header in wrong {
        refusal(&header, &body, SIGNED_AT);
    }
    let mut changed = body.clone();
    changed[10] ^= 1;
    refusal(&good, &changed, SIGNED_AT);
    let closed = StripeWebhooks::new(Vec::new());
    assert!(matches!(closed.open(&good, &body, at(SIGNED_AT)), Err(WebhookError::Signature(_))));
}

#[test]
fn a_charge_and_a_refund_name_their_payment() {
    let open = |object: &Value| {
        let body = event(object);
        endpoint().open(&signed(SECRETS[0], &body), &body, at(SIGNED_AT))
    };
    for kind in ["charge", "refund"] {
        let object = json!({"id": "xx_1", "object": kind, "payment_intent": "pi_3Mtw", "metadata": {}});
        let event = open(&object).unwrap().unwrap();
        assert_eq!((event.provider_reference.as_str(), event.payment_id), ("pi_3Mtw", None));
    }
    for other in [
        json!({"id": "cus_1", "object": "customer", "email": "jo@example.org"}),
        json!({"id": "ch_1", "object": "charge", "payment_intent": null}),
        json!({"id": "dp_1", "object": "dispute", "payment_intent": "pi_3Mtw"}),
    ] {
        assert_eq!(open(&other).unwrap(), None);
    }
    assert!(matches!(open(&json!("pi_3Mtw")), Err(WebhookError::Unreadable(_))));
    let foreign =
        json!({"id": "pi_3Mtw", "object": "payment_intent", "metadata": {"holdfast_payment_id": "x"}});
    assert_eq!(open(&foreign).unwrap().unwrap().payment_id, None);
}

#[test]
fn what_no_database_can_hold_is_unreadable() {
    let good: Value = serde_json::from_slice(&event(&intent())).unwrap();
    let changes = [
        ("/id", json!("evt_\0")),
        ("/type", json!("payment_intent.\0")),
        ("/data/object/id", json!("pi_\0")),
        ("/created", json!(-1)),
        ("/created", json!(-300_000_000_000_i64)),
        ("/created", json!(i64::MAX)),
    ];
    for (pointer, value) in changes {
        let mut wrong = good.clone();
        *wrong.pointer_mut(pointer).unwrap() = value;
        let body = wrong.to_string().into_bytes();
        let opened = endpoint().open(&signed(SECRETS[0], &body), &body, at(SIGNED_AT));
        assert!(matches!(opened, Err(WebhookError::Unreadable(_))), "{pointer}: {opened:?}");
    }
}

#[test]
fn secrets_do_not_print() {
    assert!(!format!("{:?}", endpoint()).contains("whsec"));
}
