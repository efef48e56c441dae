//! Webhooks of the merchant: endpoints, what is delivered to them, and what became of it.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, schema::Schema},
};

use super::{
    bounds::words,
    event::EventType,
    ids::{EventId, WebhookDeliveryId, WebhookEndpointId},
    status::status,
};

/// How many endpoints there may be: each event is compared with all of them.
pub const MAX_ENDPOINTS: i64 = 50;

/// How many secrets of an endpoint may live: the current one, and the one before.
pub const MAX_SECRETS: i64 = 2;

status! {
    /// Whether events are posted to an endpoint.
    EndpointStatus {
        /// They are.
        Enabled = "enabled" => [Disabled],
        /// They are not, and what happens meanwhile is not made up for.
        Disabled = "disabled" => [Enabled],
    }
}

status! {
    /// Why an endpoint is disabled.
    DisabledReason {
        /// By request.
        Requested = "requested" => [],
        /// It answered 410.
        Gone = "gone" => [],
        /// Nothing has succeeded for days.
        Failing = "failing" => [],
    }
}

status! {
    /// The life of a delivery. One that is over is pending again once it is to be delivered again.
    DeliveryStatus {
        /// Is tried, or waits for its time.
        Pending = "pending" => [Delivered, Failed, Canceled],
        /// The endpoint has answered with 2xx.
        Delivered = "delivered" => [Pending],
        /// Every attempt has failed.
        Failed = "failed" => [Pending],
        /// Its endpoint was disabled or deleted before.
        Canceled = "canceled" => [Pending],
    }
}

status! {
    /// Why an attempt has no answer.
    AttemptError {
        /// The host of the URL has no address.
        NameNotResolved = "name_not_resolved" => [],
        /// The host's addresses are none that anything is posted to.
        AddressRefused = "address_refused" => [],
        /// No connection, or it broke, or its certificate is not trusted.
        ConnectionFailed = "connection_failed" => [],
        /// The answer did not come in time.
        TimedOut = "timed_out" => [],
        /// The event is no longer kept.
        EventNotKept = "event_not_kept" => [],
        /// The process ended during the attempt: the endpoint may have got it.
        OutcomeUnknown = "outcome_unknown" => [],
    }
}

/// What is delivered: an event, or a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveredType {
    /// An event of this type.
    Event(EventType),
    /// What was asked for to try an endpoint.
    Test,
}

impl DeliveredType {
    /// The name of a test among the types of events.
    pub const TEST: &'static str = "webhook.test.v1";

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(event_type) => event_type.as_str(),
            Self::Test => Self::TEST,
        }
    }
}

impl fmt::Display for DeliveredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeliveredType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::TEST { Ok(Self::Test) } else { text.parse().map(Self::Event) }
    }
}

impl Serialize for DeliveredType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for DeliveredType {
    fn schema() -> RefOr<Schema> {
        words(EventType::ALL.iter().map(|event_type| event_type.as_str()).chain([Self::TEST]))
    }
}

impl ToSchema for DeliveredType {
    fn name() -> Cow<'static, str> {
        "DeliveredType".into()
    }
}

/// Where the merchant wants events posted to, without its secrets.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookEndpoint {
    /// Its id.
    pub id: WebhookEndpointId,
    /// Where events are posted to.
    pub url: String,
    /// What you call it.
    pub description: Option<String>,
    /// Which types of events; null is all of them.
    pub event_types: Option<Vec<EventType>>,
    /// Whether events are posted to it.
    pub status: EndpointStatus,
    /// Why they are not.
    pub disabled_reason: Option<DisabledReason>,
    /// When it was disabled last.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Since when no attempt has succeeded; null where the last one did.
    pub failing_since: Option<DateTime<Utc>>,
    /// Until when messages are also signed with the secret before the current one.
    pub old_secret_expires_at: Option<DateTime<Utc>>,
    /// Grows with each change, for `If-Match`.
    pub version: i64,
    /// When it was made: it gets what happens from then on.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// An event for an endpoint, and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// For which endpoint.
    pub endpoint_id: WebhookEndpointId,
    /// Which event: the header `webhook-id`, the same in each attempt.
    pub event_id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: DeliveredType,
    /// Whose history it belongs to.
    pub subject: String,
    /// Its place in that history.
    pub sequence: i64,
    /// What became of it.
    pub status: DeliveryStatus,
    /// How many attempts were begun.
    pub attempt_count: i32,
    /// When it is tried next, at the earliest; null once it is over.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the last attempt began of which the outcome is known.
    pub last_attempt_at: Option<DateTime<Utc>>,
    /// The status that it was answered with.
    pub last_status_code: Option<i32>,
    /// Why it was not answered.
    pub last_error_code: Option<AttemptError>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was delivered, given up or canceled.
    pub completed_at: Option<DateTime<Utc>>,
}

/// An attempt that has ended, or was lost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookAttempt {
    /// Which of the delivery's attempts, from 1.
    pub number: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took; null where that is not known.
    pub duration_ms: Option<i32>,
    /// The status that it was answered with.
    pub status_code: Option<i32>,
    /// Why it was not answered.
    pub error_code: Option<AttemptError>,
    /// The same in words.
    pub error_detail: Option<String>,
    /// The first 1024 bytes of the answer's body, as text.
    pub response: Option<String>,
}
