//! The payment consumer: authorize what was asked for, capture what was authorized, release what a dead order holds.

use async_trait::async_trait;
use serde::Deserialize;

use super::Consumer;
use crate::{
    app::{App, Error, Handling, Progress},
    bus::Subscription,
    domain::{
        event::{Envelope, EventType},
        ids::{OrderId, PaymentId},
    },
    store,
};

/// See the module.
pub(super) struct PaymentConsumer;

#[derive(Deserialize)]
struct PaymentData {
    id: PaymentId,
    order_id: OrderId,
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
                EventType::PaymentCaptured,
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
            EventType::PaymentAuthorized => {
                app.capture_payment(handling, data::<PaymentData>(envelope)?.id).await
            }
            // Captured for an order that died meanwhile: the money goes back.
            EventType::PaymentCaptured => {
                app.release_payment(handling, data::<PaymentData>(envelope)?.order_id).await
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
