//! The fulfilment consumer: a shipment for each confirmed order, shipped once the money is captured.

use async_trait::async_trait;

use super::Consumer;
use crate::{
    app::{App, Error, Handling, Progress},
    bus::Subscription,
    domain::event::{Event, EventType, OrderConfirmed},
};

/// See the module.
pub(super) struct FulfilmentConsumer;

#[async_trait]
impl Consumer for FulfilmentConsumer {
    fn subscription(&self) -> Subscription {
        Subscription {
            consumer: "fulfilment",
            events: &[EventType::OrderConfirmed, EventType::PaymentCaptured],
        }
    }

    /// An order is shipped as it was planned: what could not be planned is looked at by a person first.
    fn builds_on_earlier_events(&self) -> bool {
        true
    }

    async fn handle(&self, app: &App, handling: &Handling, event: &Event) -> Result<Progress, Error> {
        match event {
            Event::OrderConfirmed(OrderConfirmed { order_id }) => {
                app.plan_shipments(handling, *order_id).await
            }
            Event::PaymentCaptured(payment) => app.ship_order(handling, payment.order_id).await,
            // The queue is bound to it still, by another version of this program.
            _ => Ok(Progress::Done),
        }
    }
}
