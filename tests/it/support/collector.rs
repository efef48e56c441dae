//! An OpenTelemetry collector: takes OTLP over HTTP as protobuf, and keeps the spans for a test to look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::AbortHandle};

/// A span as the collector got it.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Which process, by its name.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// In hexadecimal digits.
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty where it is the first.
    pub(crate) parent: String,
    pub(crate) began_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) is_error: bool,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A collector of the test's own, until it is dropped.
pub(crate) struct Collector {
    /// Where it listens, without a path.
    pub(crate) url: String,
    spans: Spans,
    serving: AbortHandle,
}

type Spans = Arc<Mutex<Vec<Recorded>>>;

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Spans::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { url, spans, serving }
    }

    /// What has come so far.
    pub(crate) fn spans(&self) -> Vec<Recorded> {
        self.spans.lock().unwrap().clone()
    }

    /// The spans of a trace so far, and the ids of parents that have not come, but the one that the client named.
    pub(crate) fn trace(&self, trace: &str, client: &str) -> (Vec<Recorded>, BTreeSet<String>) {
        let spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
        let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).chain([client]).collect();
        let parents = spans.iter().map(|span| span.parent.clone());
        let orphaned = parents.filter(|parent| !known.contains(parent.as_str())).collect();
        (spans, orphaned)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(spans): State<Spans>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_process in request.resource_spans {
        let resource = attributes(&of_process.resource.unwrap().attributes);
        let service = &resource["service.name"];
        for attribute in ["service.namespace", "service.version", "service.instance.id"] {
            assert!(resource.contains_key(attribute), "{attribute}: {resource:?}");
        }
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.lock().unwrap().push(recorded(service, span));
        }
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

fn recorded(service: &str, span: Span) -> Recorded {
    Recorded {
        service: service.to_owned(),
        kind: span.kind(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        began_ns: span.start_time_unix_nano,
        ended_ns: span.end_time_unix_nano,
        is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        attributes: attributes(&span.attributes),
        name: span.name,
    }
}

fn hex(id: &[u8]) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|one| (one.key.clone(), text(&one.value))).collect()
}
