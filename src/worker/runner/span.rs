//! What is told of a delivery while it is handled: its ids on every log line, and its span where its event belongs to a trace.

use tracing::{Instrument as _, field::Empty};

use super::settling::Ended;
use crate::{
    domain::event::Envelope,
    telemetry::spans::{self, Handled},
};

/// Handles a delivery of this event.
pub(super) async fn within(
    consumer: &'static str,
    envelope: &Envelope,
    attempt: u32,
    handled: impl Future<Output = Ended>,
) -> Ended {
    let (id, event_type) = (envelope.id.to_string(), envelope.event_type.as_str());
    let (subject, parent) = (envelope.subject.as_str(), envelope.trace_parent);
    let log = tracing::info_span!(
        "delivery", consumer, event_id = %id, event_type, subject, trace_id = Empty, order_id = Empty
    );
    if let Some(parent) = parent {
        log.record("trace_id", tracing::field::display(parent.trace_id()));
    }
    if let Some(order_id) = subject.strip_prefix("order/") {
        log.record("order_id", order_id);
    }
    let span = spans::process(&Handled { consumer, event_type, id: &id, subject, attempt, parent });
    let ended = span.within(handled.instrument(log)).await;
    if !matches!(ended, Ended::Done | Ended::Duplicate) {
        span.fail(ended.as_str());
    }
    ended
}
