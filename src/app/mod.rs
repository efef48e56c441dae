//! The use cases: every change of state is one of these files, `verb_noun`, and is made in one transaction together with
//! its events and, where a client asked for it, the stored answer of its idempotency key.
//!
//! Rules. No network call inside a transaction: the lock is taken before, the provider is called between. A use case may
//! be run again at any time: a transition is guarded by the status it starts from, a request by its key, an event by
//! the inbox. A commit without an answer is unknown, and running the use case again finds out. What a `PUT` or a `DELETE`
//! sets has no such guard: it is not run again, and the client is told that the outcome is unknown.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        ids::{EventId, OrderId},
        new_order::OrderLimits,
        trace_parent::TraceParent,
    },
    lock::LockManager,
    provider::{PaymentProvider, ProviderError, StripeWebhooks},
    store::Store,
    webhook::WebhookSender,
};

mod adjust_inventory;
mod answer;
mod audit_events;
mod authorize_payment;
mod await_payment;
mod cancel_order;
mod cancel_shipment;
mod cancel_stock_import;
mod capture_payment;
mod carry_out_refund;
mod change_levels;
mod create_api_key;
mod create_shipment;
mod create_stock_import;
mod create_webhook_endpoint;
mod delete_old_rows;
mod deliver_shipment;
mod deliver_webhooks;
mod drop_dead_letters;
mod drop_old_events;
mod enable_webhook_endpoint;
mod error;
mod event_backlog;
mod expected_version;
mod expire_orders;
mod extend_reservation;
mod fan_out_webhooks;
mod follow_events;
mod fulfil_order;
mod order_change;
mod pack_shipment;
mod place_order;
mod present;
mod receive_provider_event;
mod reconcile_payments;
mod record_api_key_use;
mod record_payment;
mod record_refunds;
mod redeliver_webhook;
mod refund_payment;
mod release_payment;
mod replay_dead_letters;
mod request_capture;
mod request_void;
mod resend_events;
mod reservation_engine;
mod reserve_stock;
mod retry;
mod return_shipment;
mod revoke_api_key;
mod rotate_api_key;
mod rotate_webhook_secret;
mod run_stock_import;
mod set_inventory;
mod set_location;
mod set_purchase_limit;
mod set_webhook_endpoint;
mod settling_engine;
mod ship_shipment;
mod shipment_change;
mod start_payment;
mod stock_events;
mod test_webhook_endpoint;
mod transfer_inventory;
mod verify_invariants;
mod void_payment;
mod watched;

pub use adjust_inventory::{AdjustInventory, Adjustment};
pub use answer::{Answer, Once};
pub use audit_events::{Audit, AuditEvents, Checked, Moment};
pub use authorize_payment::Progress;
pub use cancel_order::{CancelOrder, RefundChoice};
pub use cancel_shipment::CancelShipment;
pub use cancel_stock_import::CancelStockImport;
pub use change_levels::ChangedInventory;
pub use create_api_key::{CreateApiKey, NewApiKey, hash_secret};
pub use create_shipment::CreateShipment;
pub use create_stock_import::CreateStockImport;
pub use create_webhook_endpoint::{CreateWebhookEndpoint, EndpointWithSecret};
pub use delete_old_rows::{DeletedRows, RowAges, RowWalks};
pub use deliver_shipment::DeliverShipment;
pub use deliver_webhooks::{DueWebhook, WebhookAttempted, WebhookSchedule};
pub use enable_webhook_endpoint::{DisableWebhookEndpoint, EnableWebhookEndpoint};
pub use error::{Conflict, Error};
pub use event_backlog::{BacklogLimits, EventBacklog};
pub use expected_version::ExpectedVersion;
pub use extend_reservation::ExtendReservation;
pub use follow_events::{EventPage, Followed, Follower, Step, Watches};
pub use pack_shipment::PackShipment;
pub use redeliver_webhook::RedeliverWebhook;
pub use replay_dead_letters::Replayed;
pub use request_capture::RequestCapture;
pub use request_void::RequestVoid;
pub use resend_events::Resent;
pub use reservation_engine::{ReservationEngine, ReservationOptions};
pub use return_shipment::ReturnShipment;
pub use revoke_api_key::RevokeApiKey;
pub use rotate_api_key::RotateApiKey;
pub use rotate_webhook_secret::RotateWebhookSecret;
pub use set_inventory::SetInventory;
pub use set_location::SetLocation;
pub use set_purchase_limit::SetPurchaseLimit;
pub use set_webhook_endpoint::SetWebhookEndpoint;
pub use settling_engine::SettlingEngine;
pub use ship_shipment::ShipShipment;
pub use test_webhook_endpoint::TestWebhookEndpoint;
pub use transfer_inventory::{Transfer, TransferInventory};
pub use verify_invariants::Verification;

pub use crate::provider::WebhookError;

/// What the use cases need.
#[derive(Debug, Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Who may work on a SKU.
    pub locks: Arc<dyn LockManager>,
    /// Who places orders.
    pub engine: ReservationEngine,
    /// Who does for many orders at once what events lead to.
    pub settling: SettlingEngine,
    /// Who moves the money. Only a process that runs the payment worker needs it, and holds its key.
    pub provider: Option<Arc<dyn PaymentProvider>>,
    /// Whose webhooks count.
    pub webhooks: StripeWebhooks,
    /// Who posts to the merchant's endpoints, and says which URLs may be one.
    pub webhook_sender: WebhookSender,
    /// What clients of this process wait for.
    pub watches: Watches,
    /// How much waits for the broker.
    pub backlog: EventBacklog,
    /// What a deployment decides.
    pub settings: Settings,
}

impl App {
    fn provider(&self) -> Result<&dyn PaymentProvider, Error> {
        let missing = || ProviderError::Unavailable("this process has no payment provider".into());
        Ok(self.provider.as_deref().ok_or_else(missing)?)
    }
}

/// What a deployment decides about orders.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What an order may ask for.
    pub limits: OrderLimits,
    /// How long an order waits for the locks of its SKUs.
    pub lock_timeout: Duration,
    /// How long a payment in flight keeps an order alive beyond its time.
    pub payment_pin: Duration,
    /// The provider's name in the `payment` table.
    pub provider_name: &'static str,
    /// Whether a captured order is packed and shipped at once.
    pub ship_at_once: bool,
    /// How often the time to pay an order may be extended.
    pub max_extensions: i16,
}

/// What a change follows from, for its events.
#[derive(Debug, Clone, Default)]
pub struct Cause {
    /// The request or event that began the chain.
    pub correlation_id: Option<String>,
    /// The event that the change follows from.
    pub causation_id: Option<EventId>,
    /// The span that makes the change, where that is recorded.
    pub trace_parent: Option<TraceParent>,
}

/// An event that a consumer handles: its effect is committed together with its mark in the inbox.
#[derive(Debug, Clone)]
pub struct Handling {
    /// The consumer.
    pub consumer: &'static str,
    /// The event.
    pub event_id: EventId,
    /// For the events that follow.
    pub cause: Cause,
}

impl Handling {
    /// What a change follows from: the event that led to it, if one did.
    fn cause_of(event: Option<&Self>) -> Cause {
        event.map(|event| event.cause.clone()).unwrap_or_default()
    }

    /// A job of a batch.
    fn of(event: Option<&Self>, order_id: OrderId) -> (Option<&Self>, OrderId, Cause) {
        (event, order_id, Self::cause_of(event))
    }
}
