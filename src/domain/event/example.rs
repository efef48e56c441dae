//! An event of each type as it may look: for documents, and for the tests of those who consume.

use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Aggregate, Envelope, EventType,
    EventType::{
        InventoryAdjusted, InventoryBackInStock, InventoryLowStock, InventoryOutOfStock, OrderCanceled,
        OrderConfirmed, OrderCreated, OrderExpired, OrderExtended, OrderFulfilled, OrderLinesCanceled,
        PaymentAuthorized, PaymentCaptureRequested, PaymentCaptured, PaymentCreated, PaymentFailed,
        PaymentRefunded, PaymentRequiresAction, PaymentVoidRequested, PaymentVoided, RefundCreated,
        RefundFailed, ShipmentCanceled, ShipmentCreated, ShipmentDelivered, ShipmentPacked, ShipmentReturned,
        ShipmentShipped,
    },
};
use crate::domain::{
    ids::{OrderId, OrderLineId, PaymentId, RefundId, ShipmentId},
    trace_parent::TraceParent,
};

const EVENT: Uuid = Uuid::from_u128(0x019c_ae10_4ac3_7f5a_8b6c_7d8e_9f0a_1b2c);
const CAUSE: Uuid = Uuid::from_u128(0x019c_ae10_4a9b_7f5a_8b6c_7d8e_9f0a_1b2b);
const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;
const THING: Uuid = Uuid::from_u128(0x019c_ae10_3f11_7f5a_8b6c_7d8e_9f0a_0001);
/// When it happened, in microseconds.
const TIME: i64 = 1_772_446_530_123_456;
const AT: &str = "2026-03-02T10:15:30.123456Z";
const BEFORE: &str = "2026-03-02T10:15:27.441902Z";
const UNTIL: &str = "2026-03-02T10:30:27.441902Z";

/// An event of this type.
pub fn example(event_type: EventType) -> Envelope {
    let subject = match event_type {
        InventoryAdjusted | InventoryLowStock | InventoryOutOfStock | InventoryBackInStock => {
            "inventory/TEE-BLACK-M/main".to_owned()
        }
        _ => Aggregate::Order(THING.into()).subject(),
    };
    let is_first = event_type == OrderCreated;
    Envelope {
        id: EVENT.into(),
        event_type,
        subject,
        sequence: if is_first { 1 } else { 4 },
        time: DateTime::from_timestamp_micros(TIME).unwrap_or_default(),
        correlation_id: Some("req_4711".into()),
        causation_id: (!is_first).then(|| CAUSE.into()),
        trace_parent: Some(TraceParent { trace_id: TRACE, span_id: SPAN, is_sampled: true }),
        data: data_example(event_type),
    }
}

/// The data of such an event.
pub(super) fn data_example(event_type: EventType) -> Value {
    let order_id = OrderId::from(THING);
    let shipment_id = ShipmentId::from(THING);
    let line = json!({ "line_id": OrderLineId::from(THING), "quantity": 1 });
    match event_type {
        OrderCreated => order_created(),
        OrderConfirmed | OrderFulfilled | OrderExpired => json!({ "order_id": order_id }),
        OrderCanceled => json!({ "order_id": order_id, "reason": "The customer changed their mind" }),
        OrderLinesCanceled => json!({
            "order_id": order_id, "reason": null, "lines": [line], "amount_canceled": 1999, "amount_due": 1999,
        }),
        OrderExtended => json!({ "order_id": order_id, "expires_at": UNTIL }),
        ShipmentCreated | ShipmentPacked | ShipmentShipped | ShipmentDelivered | ShipmentCanceled => {
            json!({ "order_id": order_id, "shipment_id": shipment_id })
        }
        ShipmentReturned => json!({
            "order_id": order_id, "shipment_id": shipment_id, "status": "delivered", "lines": [line],
            "restock": true, "reason": "Did not fit",
        }),
        PaymentCreated => payment(&json!({ "status": "processing", "provider_reference": null })),
        PaymentRequiresAction => payment(&json!({ "status": "requires_action" })),
        PaymentAuthorized => payment(&json!({ "status": "authorized" })),
        PaymentCaptured => payment(&json!({ "status": "captured", "amount_captured": 3998 })),
        PaymentFailed => payment(&json!({ "status": "failed", "decline_code": "insufficient_funds" })),
        PaymentVoided => payment(&json!({ "status": "voided" })),
        PaymentRefunded => payment(&json!({
            "status": "partially_refunded", "amount_captured": 3998, "amount_refunded": 1999,
            "amount_refund_claimed": 1999,
        })),
        PaymentCaptureRequested => payment(
            &json!({ "status": "authorized", "capture_method": "manual", "capture_requested_amount": 3998 }),
        ),
        PaymentVoidRequested => payment(&json!({
            "status": "authorized", "void_requested_at": AT, "void_reason": "Will pay in another way",
        })),
        RefundCreated => refund("pending", None),
        RefundFailed => refund("failed", Some("expired_or_canceled_card")),
        InventoryAdjusted => json!({
            "sku": "TEE-BLACK-M", "location_id": "main", "delta": 48, "on_hand": 60, "available": 55,
            "type": "receive", "reason": "Delivery", "reference": "PO-311",
        }),
        InventoryLowStock => level(4),
        InventoryOutOfStock => level(0),
        InventoryBackInStock => level(48),
    }
}

fn order_created() -> Value {
    json!({
        "id": OrderId::from(THING), "client_reference": "4711", "customer_id": "c-42", "status": "pending_payment",
        "version": 1, "currency": "EUR", "total_amount": 3998, "capture_method": "automatic",
        "metadata": { "channel": "web" }, "expires_at": UNTIL, "canceled_at": null, "cancel_reason": null,
        "created_at": AT, "updated_at": AT,
        "lines": [{
            "id": OrderLineId::from(THING), "sku": "TEE-BLACK-M", "location_id": "main", "quantity": 2,
            "unit_amount": 1999, "quantity_canceled": 0, "quantity_fulfilled": 0,
            "allocations": [
                { "location_id": "main", "quantity": 1 }, { "location_id": "north", "quantity": 1 },
            ],
        }],
    })
}

/// A payment that differs by these fields from one that was just sent to the provider.
fn payment(different: &Value) -> Value {
    let mut payment = json!({
        "id": PaymentId::from(THING), "order_id": OrderId::from(THING), "method": "card", "provider": "stripe",
        "provider_reference": "pi_3Mtw", "status": "processing", "currency": "EUR", "amount": 3998,
        "amount_captured": 0, "amount_refunded": 0, "amount_refund_claimed": 0, "capture_requested_amount": null,
        "amount_capturing": null, "void_requested_at": null, "void_reason": null, "capture_method": "automatic",
        "decline_code": null, "outcome_unknown_since": null, "created_at": BEFORE, "updated_at": AT,
    });
    for (name, value) in different.as_object().into_iter().flatten() {
        payment[name] = value.clone();
    }
    payment
}

fn refund(status: &str, failure_code: Option<&str>) -> Value {
    json!({
        "id": RefundId::from(THING), "payment_id": PaymentId::from(THING), "order_id": OrderId::from(THING),
        "amount": 1999, "status": status, "reason": "Came damaged", "failure_code": failure_code,
        "outcome_unknown_since": null, "created_at": BEFORE, "updated_at": AT,
        "lines": [{ "line_id": OrderLineId::from(THING), "quantity": 1 }],
    })
}

fn level(available: i64) -> Value {
    json!({
        "sku": "TEE-BLACK-M", "location_id": "main", "on_hand": available, "available": available,
        "low_stock_threshold": 5, "low_stock": available <= 5,
    })
}
