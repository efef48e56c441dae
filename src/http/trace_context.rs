//! `traceparent` (W3C Trace Context): a request belongs to the trace of its client, or begins one.
//!
//! The answer says so in `traceresponse`: the W3C's own header for that (Trace Context Level 2), with the id of the span that
//! answered; `traceparent` is a header of requests only. One that is not valid is ignored, as the standard asks for.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;

use crate::{
    domain::trace_parent::TraceParent,
    telemetry::spans::{self, Span},
};

const REQUEST_HEADER: &str = "traceparent";

/// Routes that monitoring asks, again and again.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/metrics"];

pub(super) const RESPONSE_HEADER: HeaderName = HeaderName::from_static("traceresponse");

/// Where a request stands in its trace.
#[derive(Debug)]
pub(super) struct TraceContext {
    /// The span of this request.
    own: TraceParent,
    /// What its client named.
    parent: Option<TraceParent>,
    /// The same span, if this process records it.
    pub(super) span: Span,
}

impl TraceContext {
    /// The client's trace if it names one, or a new one; in either with a span of its own.
    pub(super) fn begin(headers: &HeaderMap, request: &spans::Request<'_>) -> Self {
        let parent = given(headers);
        // Who looks every few seconds whether the process runs begins no trace.
        let is_probe = request.route.is_some_and(|route| PROBES.contains(&route));
        if (parent.is_some() || !is_probe)
            && let Some((own, span)) = spans::serve(request, parent)
        {
            return Self { own, parent, span };
        }
        let mut random = rand::rng();
        let (trace_id, is_sampled) = parent.map_or_else(
            || (random.random_range(1..=u128::MAX), false),
            |parent| (parent.trace_id, parent.is_sampled),
        );
        let own = TraceParent { trace_id, span_id: random.random_range(1..=u64::MAX), is_sampled };
        Self { own, parent, span: Span::default() }
    }

    /// The trace, as logs name it.
    pub(super) fn trace_id(&self) -> impl fmt::Display + use<> {
        self.own.trace_id()
    }

    /// What the changes of this request belong to: its own span, or where that is not recorded the client's, so that the
    /// client's trace goes on past a process that records nothing.
    pub(super) fn for_changes(&self) -> Option<TraceParent> {
        self.span.trace_parent().or(self.parent).filter(|parent| parent.is_sampled)
    }

    /// The value of the answer's header.
    pub(super) fn header_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.own.to_string()).ok()
    }
}

/// What the client named, if it did so once and validly.
fn given(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(REQUEST_HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn begin(values: &[&str]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_HEADER, HeaderValue::from_str(value).expect("a header"));
        }
        let request = spans::Request { method: "GET", route: None, path: "/", id: "req_1" };
        TraceContext::begin(&headers, &request)
    }

    #[test]
    fn a_valid_trace_goes_on_in_a_span_of_its_own() {
        for (given, flags) in [
            (format!("00-{TRACE}-{PARENT}-01"), "01"),
            (format!("00-{TRACE}-{PARENT}-00"), "00"),
            // Flags that nobody knows yet are not passed on.
            (format!("00-{TRACE}-{PARENT}-ff"), "01"),
            (format!("cc-{TRACE}-{PARENT}-01-what-comes-later"), "01"),
        ] {
            let context = begin(&[&given]);
            assert_eq!(context.trace_id().to_string(), TRACE, "{given}");
            let value = context.header_value().expect("a value");
            let parts: Vec<&str> = value.to_str().expect("ASCII").split('-').collect();
            assert_eq!((parts[0], parts[1], parts[2].len(), parts[3]), ("00", TRACE, 16, flags), "{given}");
            assert_ne!(parts[2], PARENT);
            let passed_on = context.for_changes().map(|parent| parent.to_string());
            assert_eq!(passed_on, (flags == "01").then(|| format!("00-{TRACE}-{PARENT}-01")));
        }
    }

    #[test]
    fn what_is_not_valid_begins_a_new_trace() {
        let valid = format!("00-{TRACE}-{PARENT}-01");
        for wrong in [
            "",
            "00",
            &valid.to_uppercase(),
            &format!("{valid}-more"),
            &format!("ff-{TRACE}-{PARENT}-01"),
            &format!("0-{TRACE}-{PARENT}-01"),
            &format!("00-{}-{PARENT}-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{TRACE}-{PARENT}-1"),
            &format!("00-{TRACE}-+0f067aa0ba902b7-01"),
            &format!("00-{}-{PARENT}-01", &TRACE[1..]),
        ] {
            let context = begin(&[wrong]);
            assert_ne!(context.trace_id().to_string(), TRACE, "{wrong}");
            assert!(!context.own.is_sampled && context.for_changes().is_none());
        }
        assert_ne!(begin(&[&valid, &valid]).own.trace_id, begin(&[&valid]).own.trace_id);
        assert_ne!(begin(&[]).own.trace_id, begin(&[]).own.trace_id);
    }
}
