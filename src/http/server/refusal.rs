//! Why a request is answered before the router sees it. The answers stand in `http::problem`, like all others.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// The head is not HTTP, or another server might understand it differently. What is wrong with it.
    Malformed(&'static str),
    /// The head is longer than `http.max_header_bytes`.
    HeadTooLarge,
    /// More header lines than a request needs.
    TooManyHeaders,
    /// The request target is too long.
    TargetTooLong,
    /// The head did not come in time.
    HeadTooSlow,
    /// As many connections as `http.max_connections` are open.
    TooManyConnections,
}
