//! The payment consumer: authorize what was asked for, capture what was authorized, void and refund on request, release what a
//! dead order holds.

use async_trait::async_trait;
use serde::Deserialize;

use super::Consumer;
use crate::{
    app::{App, Error, Handling, Progress},
    bus::Subscription,
    domain::{
        event::{Envelope, EventType},
        ids::{OrderId, PaymentId, RefundId},
    },
    store,
};

/// See the module.
pub(super) struct PaymentConsumer;

#[derive(Deserialize)]
struct PaymentData {
    id: PaymentId,
}

#[derive(Deserialize)]
struct RefundData {
    id: RefundId,
}

#[derive(Deserialize)]
struct OrderData {
    order_id: OrderId,
}

#[async_trait]
impl Consumer for PaymentConsumer {
    fn subscription(&self) -> Subscription {
        Subscription {
            consumer: "payment",
            events: &[
                EventType::PaymentCreated,
                EventType::PaymentAuthorized,
                EventType::PaymentCaptureRequested,
                EventType::PaymentVoidRequested,
                EventType::RefundCreated,
                EventType::OrderCanceled,
                EventType::OrderExpired,
            ],
        }
    }

    async fn handle(&self, app: &App, handling: &Handling, envelope: &Envelope) -> Result<Progress, Error> {
        match envelope.event_type {
            EventType::PaymentCreated => {
                app.authorize_payment(handling, data::<PaymentData>(envelope)?.id).await
            }
            EventType::PaymentAuthorized | EventType::PaymentCaptureRequested => {
                app.capture_payment(handling, data::<PaymentData>(envelope)?.id).await
            }
            EventType::PaymentVoidRequested => {
                app.void_payment(handling, data::<PaymentData>(envelope)?.id).await
            }
            EventType::RefundCreated => {
                app.carry_out_refund(handling, data::<RefundData>(envelope)?.id).await
            }
            _ => app.release_payment(handling, data::<OrderData>(envelope)?.order_id).await,
        }
    }
}

/// An event's data, as this consumer needs it.
pub(super) fn data<'a, T: Deserialize<'a>>(envelope: &'a Envelope) -> Result<T, Error> {
    T::deserialize(&envelope.data).map_err(|error| {
        store::Error::Inconsistent(format!("{} holds other data: {error}", envelope.event_type)).into()
    })
}
