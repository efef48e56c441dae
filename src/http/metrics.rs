//! What the API tells monitoring. Handles, so that counting costs no look-up by name.
//!
//! Labels come from closed sets: templates of the route table, known methods, statuses. A path or a method that a client
//! makes up is not among them. They belong to the recorder that is installed when the first request is counted.

use std::{
    collections::HashMap,
    sync::{LazyLock, PoisonError, RwLock},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
};
use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use super::problem_codes::CODES;

const REQUESTS: &str = "holdfast_http_requests_total";
const SECONDS: &str = "holdfast_http_request_seconds";
const CUT: &str = "holdfast_http_connections_cut_total";

const PROBLEMS: &str = "holdfast_http_problems_total";
const REPLAYS: &str = "holdfast_idempotency_replays_total";

/// The route of a request that matches none, or whose head was refused.
const NO_ROUTE: &str = "none";

/// See the descriptions.
pub(super) struct ConnectionMetrics {
    pub(super) open: Gauge,
    pub(super) refused: Counter,
}

/// The metrics of every server of the process.
pub(super) static CONNECTIONS: LazyLock<ConnectionMetrics> = LazyLock::new(|| {
    let count = Unit::Count;
    describe_gauge!(
        "holdfast_http_connections_open",
        count,
        "Connections of clients, those in use and those idle."
    );
    describe_counter!(
        "holdfast_http_connections_refused_total",
        count,
        "Connections for which there was no room; http.max_connections is the most."
    );
    describe_counter!(CUT, count, "Connections ended by the server because of time, by what was waited for.");
    ConnectionMetrics {
        open: gauge!("holdfast_http_connections_open"),
        refused: counter!("holdfast_http_connections_refused_total"),
    }
});

/// A connection is ended because of time.
pub(super) fn cut(why: &'static str) {
    counter!(CUT, "reason" => why).increment(1);
}

/// A request is answered with a problem.
pub(super) fn problem(code: &'static str) {
    counter!(PROBLEMS, "code" => code).increment(1);
}

/// A request is answered as it was before.
pub(super) fn replayed() {
    counter!(REPLAYS).increment(1);
}

struct Answered {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    seconds: Histogram,
}

/// What is counted of the requests of each route. Grows with the statuses that a route has answered with.
static ROUTES: LazyLock<RwLock<HashMap<String, Vec<Answered>>>> = LazyLock::new(|| {
    describe_counter!(REQUESTS, Unit::Count, "Requests by route, method and status.");
    describe_histogram!(SECONDS, Unit::Seconds, "From a request's head to the head of its answer.");
    describe_counter!(
        PROBLEMS,
        Unit::Count,
        "Requests that were refused or failed, by the code of the problem."
    );
    describe_counter!(
        REPLAYS,
        Unit::Count,
        "Requests that were answered as before, by their idempotency key."
    );
    // The first of a kind is a growth too.
    for known in CODES {
        counter!(PROBLEMS, "code" => known.code).increment(0);
    }
    RwLock::default()
});

/// A request that is being answered.
pub(super) struct Observed {
    route: Option<MatchedPath>,
    method: &'static str,
    since: Instant,
}

impl Observed {
    pub(super) fn begin(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>().cloned();
        Self { route, method: name(request.method()), since: Instant::now() }
    }

    /// One of the methods that are known.
    pub(super) const fn method(&self) -> &'static str {
        self.method
    }

    /// The route that it matched.
    pub(super) fn route(&self) -> Option<&str> {
        self.route.as_ref().map(MatchedPath::as_str)
    }

    pub(super) fn end(self, status: StatusCode) {
        let route = self.route().unwrap_or(NO_ROUTE);
        count(route, self.method, status, Some(self.since));
    }
}

/// A request whose head was refused.
pub(super) fn refused(status: StatusCode) {
    count(NO_ROUTE, "none", status, None);
}

fn count(route: &str, method: &'static str, status: StatusCode, since: Option<Instant>) {
    let record = |answered: &Answered| {
        answered.requests.increment(1);
        if let Some(since) = since {
            answered.seconds.record(since.elapsed());
        }
    };
    let find = |routes: &HashMap<String, Vec<Answered>>| {
        let known =
            routes.get(route)?.iter().find(|known| known.method == method && known.status == status)?;
        record(known);
        Some(())
    };
    if find(&ROUTES.read().unwrap_or_else(PoisonError::into_inner)).is_some() {
        return;
    }
    let mut routes = ROUTES.write().unwrap_or_else(PoisonError::into_inner);
    if find(&routes).is_none() {
        let (path, code) = (route.to_owned(), status.as_str().to_owned());
        let answered = Answered {
            method,
            status,
            requests: counter!(REQUESTS, "route" => path.clone(), "method" => method, "status" => code),
            seconds: histogram!(SECONDS, "route" => path.clone(), "method" => method),
        };
        record(&answered);
        routes.entry(path).or_default().push(answered);
    }
}

fn name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
