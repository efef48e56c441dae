//! `traceparent` (W3C Trace Context): a request belongs to the trace of its client, or begins one.
//!
//! The answer says so in `traceresponse`: the W3C's own header for that (Trace Context Level 2), with the id of the span that
//! answered; `traceparent` is a header of requests only. One that is not valid is ignored, as the standard asks for.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt as _;

const REQUEST_HEADER: &str = "traceparent";

pub(super) const RESPONSE_HEADER: HeaderName = HeaderName::from_static("traceresponse");

/// Where a request stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceContext {
    trace_id: u128,
    /// The span of this request.
    span_id: u64,
    /// Whether the client records the trace. Nothing else of the flags is known, so nothing else is passed on.
    is_sampled: bool,
}

impl TraceContext {
    /// The client's trace if it names one, or a new one; in either with a span of its own.
    pub(super) fn begin(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(REQUEST_HEADER).iter();
        let parent = match (given.next(), given.next()) {
            (Some(value), None) => value.to_str().ok().and_then(parse),
            _ => None,
        };
        let mut random = rand::rng();
        let (trace_id, is_sampled) = parent.unwrap_or_else(|| (random.random_range(1..=u128::MAX), false));
        Self { trace_id, span_id: random.random_range(1..=u64::MAX), is_sampled }
    }

    /// The trace, as logs name it.
    pub(super) fn trace_id(&self) -> impl fmt::Display {
        Hex(self.trace_id)
    }

    /// The value of the answer's header.
    pub(super) fn header_value(&self) -> Option<HeaderValue> {
        let Self { trace_id, span_id, is_sampled } = self;
        HeaderValue::from_str(&format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled)))
            .ok()
    }
}

/// 32 hexadecimal digits.
struct Hex(u128);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Trace id and sampled flag of `version-trace_id-parent_id-flags`.
fn parse(text: &str) -> Option<(u128, bool)> {
    let mut parts = text.split('-');
    let (version, trace_id, parent_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version = hex(version, 2)?;
    // A later version may say more behind another hyphen; `ff` is none.
    if version == 0xff || version == 0 && parts.next().is_some() {
        return None;
    }
    let (trace_id, parent_id, flags) = (hex(trace_id, 32)?, hex(parent_id, 16)?, hex(flags, 2)?);
    (trace_id != 0 && parent_id != 0).then_some((trace_id, flags & 1 == 1))
}

/// Exactly so many digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let valid = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    valid.then(|| u128::from_str_radix(text, 16).ok()).flatten()
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
        TraceContext::begin(&headers)
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
            assert!(!context.is_sampled);
        }
        assert_ne!(begin(&[&valid, &valid]).trace_id, begin(&[&valid]).trace_id);
        assert_ne!(begin(&[]).trace_id, begin(&[]).trace_id);
    }
}
