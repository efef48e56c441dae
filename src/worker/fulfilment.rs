//! The fulfilment consumer: a shipment for each confirmed order, shipped once the money is captured.

use async_trait::async_trait;
use serde::Deserialize;

use super::{Consumer, payment::data};
use crate::{
    app::{App, Error, Handling, Progress},
    bus::Subscription,
    domain::{
        event::{Envelope, EventType},
        ids::OrderId,
    },
};

/// See the module.
pub(super) struct FulfilmentConsumer;

#[derive(Deserialize)]
struct OrderData {
    order_id: OrderId,
}

#[async_trait]
impl Consumer for FulfilmentConsumer {
    fn subscription(&self) -> Subscription {
        Subscription {
            consumer: "fulfilment",
            events: &[EventType::OrderConfirmed, EventType::PaymentCaptured],
        }
    }

    async fn handle(&self, app: &App, handling: &Handling, envelope: &Envelope) -> Result<Progress, Error> {
        let order_id = data::<OrderData>(envelope)?.order_id;
        if envelope.event_type == EventType::PaymentCaptured {
            return app.ship_order(handling, order_id).await;
        }
        app.plan_shipments(handling, order_id).await
    }
}
