//! The spans of events on their way to the broker.
//!
//! Only of events that belong to a trace: a window of others costs nothing.

use super::envelope::{self, Message};
use crate::{
    bus::{BusError, PublishOutcome},
    domain::event::Envelope,
    telemetry::spans::{self, Span},
};

/// The spans of the events of a window, by their places in it.
pub(super) type Spans = Vec<(usize, Span)>;

/// Begins a span for each event that belongs to a trace, and has its message say so. Where this process records nothing,
/// consumers go on from the span that wrote the event.
pub(super) fn begin(events: &[Envelope], messages: &mut [Message]) -> Spans {
    let mut begun = Vec::new();
    for (place, (event, message)) in events.iter().zip(messages).enumerate() {
        let Some(parent) = event.trace_parent else { continue };
        let id = event.id.to_string();
        let span = spans::publish(&message.exchange, event.event_type.as_str(), &id, Some(parent));
        envelope::put_trace(message, span.trace_parent().unwrap_or(parent));
        begun.push((place, span));
    }
    begun
}

/// Ends them with what became of their events.
pub(super) fn end(spans: Spans, outcomes: &Result<Vec<PublishOutcome>, BusError>) {
    for (place, span) in spans {
        let outcome = outcomes.as_ref().ok().and_then(|outcomes| outcomes.get(place));
        match outcome {
            Some(PublishOutcome::Confirmed) => {}
            Some(PublishOutcome::Returned(_)) => span.fail("returned"),
            Some(PublishOutcome::Nacked) => span.fail("nacked"),
            Some(PublishOutcome::Unknown(_)) | None => span.fail("unknown"),
        }
    }
}
