//! What a use case can answer instead of doing what it was asked. Knows no status codes.

use serde::Serialize;

use crate::{
    domain::{
        ids::{OrderId, PaymentId},
        inventory::LocationId,
        open_orders::OwnerKind,
        reservation::Shortage,
        status::Status,
        validation::{Invalid, Rule},
    },
    lock::LockError,
    provider::{ProviderError, WebhookError},
    store,
};

/// A use case that was not carried out. Except for [`Error::Unknown`], nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request asks for what cannot be.
    #[error("{}: {}", .0.rule.code(), first_errors(.0))]
    Invalid(Invalid),
    /// There is no such thing.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its id, as asked for.
        id: String,
    },
    /// The state of things does not allow it.
    #[error("{0}")]
    Conflict(Conflict),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// So many orders wait that one more would wait too long. Nothing happened; try again.
    #[error("{waiting} orders are waiting already")]
    Overloaded {
        /// How many.
        waiting: usize,
    },
    /// Events wait for the broker for so long, or so many do, that no new order is taken. Nothing happened; try again.
    #[error("{waiting} events wait for the broker, for {delay_seconds:.0} s")]
    EventsDelayed {
        /// How many, about.
        waiting: i64,
        /// For how long.
        delay_seconds: f64,
    },
    /// The locks were not to be had. Nothing happened; try again.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The provider gave no answer that could be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A webhook that is not taken.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The database did not carry it out.
    #[error(transparent)]
    Store(store::Error),
    /// It may have been carried out or not. Asking again under the same key finds out.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// A state of things that does not allow what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(untagged)]
pub enum Conflict {
    /// Too little stock; nothing was reserved.
    #[error("not enough stock for {} SKUs", items.len())]
    InsufficientStock {
        /// Which levels are short.
        items: Vec<Shortage>,
    },
    /// Another order has this client reference.
    #[error("order {order_id} has this client reference already")]
    DuplicateClientReference {
        /// That order.
        order_id: OrderId,
    },
    /// The status does not allow it.
    #[error("the {kind} is {current_status}")]
    InvalidStateTransition {
        /// What has the status.
        kind: &'static str,
        /// Its status.
        current_status: &'static str,
        /// The statuses that may follow it.
        allowed: Vec<&'static str>,
        /// Whether none of those that may ever follow allows it either.
        #[serde(skip)]
        is_final: bool,
    },
    /// A payment of the order is not decided yet.
    #[error("payment {payment_id} of the order is not decided yet")]
    PaymentInProgress {
        /// That payment.
        payment_id: PaymentId,
    },
    /// The order is paid.
    #[error("payment {payment_id} has paid the order")]
    PaymentAlreadySucceeded {
        /// That payment.
        payment_id: PaymentId,
    },
    /// The time to pay the order has run out.
    #[error("the time to pay the order has run out")]
    ReservationExpired {},
    /// Events after the place that was asked for were dropped, because they are old.
    #[error("events are kept from place {oldest_place} on")]
    EventsNoLongerKept {
        /// The first place that is kept: reading from it goes on after the one before.
        oldest_place: i64,
    },
    /// The provider refused the payment that the client waited for.
    #[error("the provider refused payment {payment_id}")]
    PaymentDeclined {
        /// That payment.
        payment_id: PaymentId,
        /// Why, in the provider's words.
        decline_code: Option<String>,
    },
    /// The time to pay the order was extended as often as it may be.
    #[error("the time to pay the order was extended {extensions} times, which is as often as it may be")]
    ExtensionLimitReached {
        /// How often it was.
        extensions: i64,
        /// How often it may be.
        max_extensions: i16,
    },
    /// Every unit of the order, or all that lies at the location, is in a shipment, canceled or shipped.
    #[error("nothing is left to ship{}", location_id.as_ref().map(|id| format!(" from {id}")).unwrap_or_default())]
    NothingToShip {
        /// The location that was asked for.
        location_id: Option<LocationId>,
    },
    /// The refund asks for more than is left of what was captured.
    #[error("{refundable} of payment {payment_id} may still be refunded")]
    RefundExceedsCaptured {
        /// The payment.
        payment_id: PaymentId,
        /// What no other refund has claimed.
        refundable: i64,
    },
    /// The payment is what a living order keeps its stock by.
    #[error(
        "order {order_id} is {current_status} and would be without its payment: cancel the order, which voids it"
    )]
    OrderNeedsPayment {
        /// The order.
        order_id: OrderId,
        /// Its status.
        current_status: &'static str,
    },
    /// The payment by which the order had its stock is gone: nothing more of it ships.
    #[error("order {order_id} is {current_status}, and the payment by which it had its stock is gone")]
    OrderNotPaid {
        /// The order.
        order_id: OrderId,
        /// Its status.
        current_status: &'static str,
    },
    /// The stock is not what the request expected.
    #[error("on_hand is {on_hand}")]
    StockConflict {
        /// What it is.
        on_hand: i64,
        /// The version of the level.
        version: i64,
    },
    /// The thing is not in the version that the request is meant for.
    #[error("{}", .current_version.map_or("there is none yet".to_owned(), |v| format!("the version is {v}")))]
    VersionConflict {
        /// The version that it is in; null if there is none yet.
        current_version: Option<i64>,
    },
    /// The stock would fall below what is promised to orders.
    #[error("on_hand must stay at or above {minimum}, which is promised to orders")]
    BelowCommitted {
        /// Which SKU.
        sku: String,
        /// At which location.
        location_id: String,
        /// The least that `on_hand` may be.
        minimum: i64,
        /// How many units may be taken away; below zero where more has to be added.
        free: i64,
    },
    /// The customer, or the client, has as many unpaid orders as it may have.
    #[error("the {} has {open} unpaid orders, and may have {limit}", whose.as_str())]
    OpenOrderLimitReached {
        /// Whose limit it is.
        whose: OwnerKind,
        /// How many it may have.
        limit: i64,
        /// How many it has.
        open: i64,
    },
    /// The customer would have more of a SKU than its purchase limit.
    #[error(
        "a customer may buy {limit} units of SKU {sku}; this one has {already_purchased} and wants {requested} more"
    )]
    PurchaseLimitExceeded {
        /// Which SKU.
        sku: String,
        /// How many units a customer may have.
        limit: i64,
        /// How many this one has, unpaid ones included.
        already_purchased: i64,
        /// How many the order wants, all its lines added up.
        requested: i64,
    },
    /// The client has as many live API keys as it may have.
    #[error("the client has {limit} live API keys: revoke one first")]
    ApiKeyLimitReached {
        /// How many it may have.
        limit: i64,
    },
    /// There are as many webhook endpoints as there may be.
    #[error("there are {limit} webhook endpoints: delete one first")]
    WebhookEndpointLimitReached {
        /// How many there may be.
        limit: i64,
    },
    /// The endpoint has as many live secrets as it may have.
    #[error("the endpoint has {limit} secrets that have not ended: wait, or let the old ones end at once")]
    WebhookSecretLimitReached {
        /// How many it may have.
        limit: i64,
    },
}

impl Conflict {
    /// Fails unless the status is one that permits what was asked.
    pub(super) fn require_status<S: Status>(
        kind: &'static str,
        current: S,
        permits: impl Fn(S) -> bool,
    ) -> Result<(), Self> {
        if permits(current) {
            return Ok(());
        }
        Err(Self::InvalidStateTransition {
            kind,
            current_status: current.as_str(),
            allowed: current.allowed().iter().map(|status| status.as_str()).collect(),
            is_final: !current.may_reach(permits),
        })
    }

    /// Whether the request is answered for good: the answer is stored under its idempotency key. Of a conflict that may end,
    /// such as too little stock or a status that others follow, nothing is stored: nothing happened, and a repetition may win.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::InvalidStateTransition { is_final, .. } => *is_final,
            Self::DuplicateClientReference { .. }
            | Self::PaymentAlreadySucceeded { .. }
            | Self::ExtensionLimitReached { .. }
            | Self::ReservationExpired {} => true,
            Self::InsufficientStock { .. }
            | Self::PaymentDeclined { .. }
            | Self::EventsNoLongerKept { .. }
            | Self::NothingToShip { .. }
            | Self::RefundExceedsCaptured { .. }
            | Self::OrderNeedsPayment { .. }
            | Self::OrderNotPaid { .. }
            | Self::PaymentInProgress { .. }
            | Self::StockConflict { .. }
            | Self::VersionConflict { .. }
            | Self::BelowCommitted { .. }
            | Self::OpenOrderLimitReached { .. }
            | Self::PurchaseLimitExceeded { .. }
            | Self::ApiKeyLimitReached { .. }
            | Self::WebhookEndpointLimitReached { .. }
            | Self::WebhookSecretLimitReached { .. } => false,
        }
    }

    /// A stable name of the conflict, by which programs tell them apart.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InsufficientStock { .. } => "insufficient_stock",
            Self::DuplicateClientReference { .. } => "duplicate_client_reference",
            Self::InvalidStateTransition { .. } => "invalid_state_transition",
            Self::PaymentInProgress { .. } => "payment_in_progress",
            Self::PaymentAlreadySucceeded { .. } => "payment_already_succeeded",
            Self::ReservationExpired {} => "reservation_expired",
            Self::PaymentDeclined { .. } => "payment_declined",
            Self::ExtensionLimitReached { .. } => "extension_limit_reached",
            Self::NothingToShip { .. } => "nothing_to_ship",
            Self::RefundExceedsCaptured { .. } => "refund_exceeds_captured",
            Self::OrderNeedsPayment { .. } => "order_needs_payment",
            Self::OrderNotPaid { .. } => "order_not_paid",
            Self::EventsNoLongerKept { .. } => "events_no_longer_kept",
            Self::StockConflict { .. } => "stock_conflict",
            Self::VersionConflict { .. } => "version_conflict",
            Self::BelowCommitted { .. } => "below_committed",
            Self::OpenOrderLimitReached { .. } => "open_order_limit_reached",
            Self::PurchaseLimitExceeded { .. } => "purchase_limit_exceeded",
            Self::ApiKeyLimitReached { .. } => "api_key_limit_reached",
            Self::WebhookEndpointLimitReached { .. } => "webhook_endpoint_limit_reached",
            Self::WebhookSecretLimitReached { .. } => "webhook_secret_limit_reached",
        }
    }
}

impl Error {
    /// Whether the same request may succeed later without anybody changing it.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Overloaded { .. } | Self::EventsDelayed { .. } | Self::Lock(_) | Self::Unknown(_) => true,
            Self::Provider(error) => !matches!(error, ProviderError::Rejected { .. }),
            Self::Store(error) => error.is_transient(),
            Self::Invalid(_)
            | Self::NotFound { .. }
            | Self::Conflict(_)
            | Self::Webhook(_)
            | Self::IdempotencyKeyReused => false,
        }
    }

    pub(super) fn invalid(rule: Rule, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(Invalid::new(rule, pointer, detail))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::CommitUnknown { .. } => Self::Unknown(error.to_string()),
            other => Self::Store(other),
        }
    }
}

impl From<Conflict> for Error {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

/// What is wrong, for whoever sees no problem document: a command, a log.
fn first_errors(invalid: &Invalid) -> String {
    let told: Vec<String> = invalid.errors.iter().take(3).map(ToString::to_string).collect();
    let more = invalid.errors.len() - told.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{}{more}", told.join("; "))
}
