//! The payment consumer: authorize what was asked for, capture what was authorized, void and refund on request, release what a
//! dead order holds.

use async_trait::async_trait;

use super::Consumer;
use crate::{
    app::{App, Error, Handling, Progress},
    bus::Subscription,
    domain::event::{Event, EventType, OrderCanceled, OrderExpired},
};

/// See the module.
pub(super) struct PaymentConsumer;

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

    /// Each event is a wish of its own, and what is asked of the provider is decided by how the order and the payment stand by
    /// then. A dead order must give its money free whatever became of an event before.
    fn builds_on_earlier_events(&self) -> bool {
        false
    }

    async fn handle(&self, app: &App, handling: &Handling, event: &Event) -> Result<Progress, Error> {
        match event {
            Event::PaymentCreated(payment) => app.authorize_payment(handling, payment.id).await,
            Event::PaymentAuthorized(payment) | Event::PaymentCaptureRequested(payment) => {
                app.capture_payment(handling, payment.id).await
            }
            Event::PaymentVoidRequested(payment) => app.void_payment(handling, payment.id).await,
            Event::RefundCreated(refund) => app.carry_out_refund(handling, refund.id).await,
            Event::OrderCanceled(OrderCanceled { order_id, .. })
            | Event::OrderExpired(OrderExpired { order_id }) => {
                app.release_payment(handling, *order_id).await
            }
            // The queue is bound to it still, by another version of this program.
            _ => Ok(Progress::Done),
        }
    }
}
